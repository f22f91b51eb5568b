//! Validation of values like in srt's own schema: patterns, ranges and combinations.

mod credentials;

use std::fmt;

use crate::config::{PathEntry, SandboxRuntimeConfig, TlsTerminateConfig};
use crate::domain::{self, List};
use crate::error::ErrorKind;
use crate::parse::MAX_ERRORS;
use crate::setting_path::{SettingPath, shortened};
use crate::web_host;

/// Error for settings that srt would reject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidationError {
    /// Path of the value, such as `network.allowedDomains[2]`.
    pub path: SettingPath,
    /// Description of the problem.
    pub problem: String,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ValidationError {}

impl ValidationError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidValue
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl SandboxRuntimeConfig {
    /// Checks the values like srt 0.0.83 does when it loads the settings.
    ///
    /// # Errors
    /// Returns the first [`ValidationError`], in the order of the sections.
    pub fn validate(&self) -> Result<(), ValidationError> {
        self.find_invalid().into_iter().next().map_or(Ok(()), Err)
    }

    /// Returns the errors of [`SandboxRuntimeConfig::validate`] in all values, at most 100. Of
    /// several about one value, the first is returned.
    pub fn find_invalid(&self) -> Vec<ValidationError> {
        let mut found = Invalid::default();
        self.check_network(&mut found);
        self.check_filesystem(&mut found);
        self.check_programs(&mut found);
        if let Some(credentials) = &self.credentials {
            credentials::check(self, credentials, &mut found);
        }
        found.errors
    }

    fn check_network(&self, found: &mut Invalid) {
        let network = &self.network;
        check_each(found, "network.allowedDomains", &network.allowed_domains, |entry| {
            domain::is_accepted(entry, List::Allowed).then_some(()).ok_or(
                "is not a domain pattern; write host[:port], *.domain[:port] or [ipv6][:port]",
            )
        });
        check_each(found, "network.deniedDomains", &network.denied_domains, |entry| {
            domain::is_accepted(entry, List::Denied).then_some(()).ok_or(
                "is not a domain pattern; write host[:port], *.domain[:port], * or [ipv6][:port]",
            )
        });
        for (entry, reason) in network.denied_domain_reasons.iter().flatten() {
            if reason.is_empty() {
                let path = SettingPath::from("network.deniedDomainReasons").key(entry);
                found.add(path, "is empty");
            }
        }
        check_each(
            found,
            "network.deniedResolvedAddresses",
            network.denied_resolved_addresses.as_deref().unwrap_or_default(),
            |entry| {
                domain::is_accepted_address(entry)
                    .then_some(())
                    .ok_or("is not an address or a CIDR block")
            },
        );
        self.check_proxies(found);
    }

    fn check_proxies(&self, found: &mut Invalid) {
        let network = &self.network;
        for (name, port) in [
            ("httpProxyPort", network.http_proxy_port),
            ("socksProxyPort", network.socks_proxy_port),
        ] {
            if port == Some(0) {
                found.add(format!("network.{name}").as_str(), "is not a port from 1 to 65535");
            }
        }
        if let Some(mitm) = &network.mitm_proxy {
            if mitm.socket_path.is_empty() {
                found.add("network.mitmProxy.socketPath", "is empty");
            }
            if mitm.domains.is_empty() {
                found.add("network.mitmProxy.domains", "is empty");
            }
            check_hosts(found, "network.mitmProxy.domains", &mitm.domains);
        }
        if let Some(tls) = &network.tls_terminate {
            check_tls(found, tls);
        }
        for (name, url) in network
            .parent_proxy
            .iter()
            .flat_map(|proxy| [("http", &proxy.http), ("https", &proxy.https)])
        {
            if url.as_ref().is_some_and(|url| !web_host::is_url(url)) {
                found.add(format!("network.parentProxy.{name}").as_str(), "is not a URL");
            }
        }
        check_each(
            found,
            "network.allowMachLookup",
            network.allow_mach_lookup.as_deref().unwrap_or_default(),
            |name| {
                let prefix = name.strip_suffix('*').unwrap_or(name);
                if prefix.contains('*') { Err("has a `*` before its end") } else { Ok(()) }
            },
        );
        check_each(
            found,
            "network.stripResponseHeaders",
            network.strip_response_headers.as_deref().unwrap_or_default(),
            check_not_empty,
        );
    }

    fn check_filesystem(&self, found: &mut Invalid) {
        let filesystem = &self.filesystem;
        let enabled = filesystem.disabled != Some(true);
        for (name, list, denies) in [
            ("denyRead", filesystem.deny_read.as_slice(), true),
            ("allowRead", filesystem.allow_read.as_deref().unwrap_or_default(), false),
            ("allowWrite", filesystem.allow_write.as_slice(), false),
            ("denyWrite", filesystem.deny_write.as_slice(), true),
        ] {
            let path = SettingPath::from("filesystem").key(name);
            for (at, entry) in list.iter().enumerate() {
                if let Err(problem) = check_not_empty(&entry.to_string()) {
                    found.add(path.index(at), problem);
                }
                if let PathEntry::Pattern(entry) = entry
                    && denies
                    && enabled
                    && is_inert_denial(entry)
                {
                    found.add(path.index(at), INERT_DENIAL);
                }
            }
        }
    }

    fn check_programs(&self, found: &mut Invalid) {
        for (name, path) in [
            ("bwrapPath", &self.bwrap_path),
            ("socatPath", &self.socat_path),
            ("javaAgentJarPath", &self.java_agent_jar_path),
        ] {
            if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
                found.add(name, "is not an absolute path");
            }
        }
        if self.mandatory_deny_search_depth.is_some_and(|depth| !(1..=10).contains(&depth)) {
            found.add("mandatoryDenySearchDepth", "is not a number from 1 to 10");
        }
        if let Some(windows) = &self.windows {
            if windows
                .sandbox_user
                .as_ref()
                .is_some_and(|user| user.is_empty() || user.encode_utf16().count() > 20)
            {
                found.add("windows.sandboxUser", "does not have 1 to 20 characters");
            }
            if windows.srt_win.as_ref().is_some_and(|helper| helper.path.is_empty()) {
                found.add("windows.srtWin.path", "is empty");
            }
            for (name, guid) in [
                ("sublayerGuid", &windows.sublayer_guid),
                ("wfpSublayerGuid", &windows.wfp_sublayer_guid),
            ] {
                if guid.as_ref().is_some_and(|guid| !is_uuid(guid)) {
                    found.add(format!("windows.{name}").as_str(), "is not a UUID");
                }
            }
            if windows
                .proxy_port_range
                .is_some_and(|(first, last)| first == 0 || last < first || last - first > 64)
            {
                found.add(
                    "windows.proxyPortRange",
                    "is not a first and a last port, at most 64 apart",
                );
            }
        }
    }
}

/// The invalid values that were found.
#[derive(Default)]
struct Invalid {
    errors: Vec<ValidationError>,
}

impl Invalid {
    /// Adds an error, unless there is one about the same value, or there are many.
    fn add(&mut self, path: impl Into<SettingPath>, problem: impl Into<String>) {
        let path = path.into();
        let is_known = || self.errors.iter().any(|error| error.path == path);
        if self.errors.len() < MAX_ERRORS && !is_known() {
            self.errors.push(ValidationError { path, problem: problem.into() });
        }
    }
}

fn check_each(
    found: &mut Invalid,
    path: impl Into<SettingPath>,
    list: &[String],
    check: impl Fn(&str) -> Result<(), &'static str>,
) {
    let path = path.into();
    for (at, entry) in list.iter().enumerate() {
        if let Err(problem) = check(entry) {
            found.add(path.index(at), format!("{:?} {problem}", shortened(entry)));
        }
    }
}

fn check_hosts(found: &mut Invalid, path: impl Into<SettingPath>, list: &[String]) {
    check_each(found, path, list, |entry| {
        domain::is_accepted(entry, List::Hosts)
            .then_some(())
            .ok_or("is not a host or *.DOMAIN without a port, such as example.com")
    });
}

fn check_tls(found: &mut Invalid, tls: &TlsTerminateConfig) {
    for (name, path) in [("caCertPath", &tls.ca_cert_path), ("caKeyPath", &tls.ca_key_path)] {
        if path.as_ref().is_some_and(String::is_empty) {
            found.add(format!("network.tlsTerminate.{name}").as_str(), "is empty");
        }
    }
    if tls.ca_cert_path.is_some() != tls.ca_key_path.is_some() {
        found.add("network.tlsTerminate", "needs both caCertPath and caKeyPath, or neither");
    }
    check_hosts(
        found,
        "network.tlsTerminate.excludeDomains",
        tls.exclude_domains.as_deref().unwrap_or_default(),
    );
    check_each(
        found,
        "network.tlsTerminate.extraCaCertPaths",
        tls.extra_ca_cert_paths.as_deref().unwrap_or_default(),
        check_not_empty,
    );
    for (name, value, range) in [
        ("maxTunnels", tls.max_tunnels, 1..=65_536),
        ("handshakeTimeoutMs", tls.handshake_timeout_ms, 100..=600_000),
    ] {
        if value.is_some_and(|value| !range.contains(&value)) {
            let (first, last) = range.into_inner();
            found.add(
                format!("network.tlsTerminate.{name}").as_str(),
                format!("is not a number from {first} to {last}"),
            );
        }
    }
}

fn check_not_empty(entry: &str) -> Result<(), &'static str> {
    if entry.is_empty() { Err("is empty") } else { Ok(()) }
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns whether srt rejects a denied pattern, because its slash keeps it from matching.
fn is_inert_denial(entry: &str) -> bool {
    crate::rules::is_glob(entry) && entry.ends_with('/') && entry.starts_with(['/', '~'])
}

const INERT_DENIAL: &str = "is a pattern that ends in `/` and matches nothing; leave the slash out";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    pub(super) fn check(patch: &str, expected: Result<(), &str>) {
        let mut value: serde_json::Value = serde_json::from_str(
            r#"{"network":{"allowedDomains":["api.example.com"],"deniedDomains":[]},
                "filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#,
        )
        .unwrap();
        let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
        for (part, settings) in patch.as_object().unwrap() {
            match settings {
                serde_json::Value::Object(settings) => {
                    let part = &mut value[part];
                    for (key, setting) in settings {
                        part[key] = setting.clone();
                    }
                }
                other => value[part] = other.clone(),
            }
        }
        let config = SandboxRuntimeConfig::from_json(&value.to_string()).unwrap();
        assert_eq!(
            config.validate().map_err(|error| error.path.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn single_values_are_checked() {
        check("{}", Ok(()));
        check(
            r#"{"network":{"allowedDomains":["a.com","*.com"]}}"#,
            Err("network.allowedDomains[1]"),
        );
        check(r#"{"filesystem":{"denyRead":[""]}}"#, Err("filesystem.denyRead[0]"));
        let literal = |path: &str| {
            format!(r#"{{"filesystem":{{"denyRead":[{{"path":"{path}","literal":true}}]}}}}"#)
        };
        check(&literal(""), Err("filesystem.denyRead[0]"));
        check(&literal("/a/*/"), Ok(()));
        check(
            r#"{"network":{"stripResponseHeaders":["a",""]}}"#,
            Err("network.stripResponseHeaders[1]"),
        );
        for (key, value, valid) in [
            ("maxTunnels", 0, false),
            ("maxTunnels", 65_536, true),
            ("maxTunnels", 65_537, false),
            ("handshakeTimeoutMs", 99, false),
            ("handshakeTimeoutMs", 100, true),
            ("handshakeTimeoutMs", 600_001, false),
        ] {
            let path = format!("network.tlsTerminate.{key}");
            let patch = format!(r#"{{"network":{{"tlsTerminate":{{"{key}":{value}}}}}}}"#);
            check(&patch, if valid { Ok(()) } else { Err(&path) });
        }
        check(r#"{"mandatoryDenySearchDepth":11}"#, Err("mandatoryDenySearchDepth"));
        check(r#"{"bwrapPath":"bwrap"}"#, Err("bwrapPath"));
        check(r#"{"windows":{"proxyPortRange":[100,200]}}"#, Err("windows.proxyPortRange"));
    }

    #[test]
    fn all_invalid_values_are_found_in_the_order_of_the_sections() {
        let text = r#"{"network":{"allowedDomains":["*.com","a.com","x y"],"deniedDomains":["a/b"]},
            "filesystem":{"denyRead":["","/a/*/"],"allowWrite":[],"denyWrite":[]},
            "bwrapPath":"b","socatPath":"s",
            "credentials":{"envVars":[{"name":"1","mode":"deny"},{"name":"2","mode":"deny"}]}}"#;
        let mut config = SandboxRuntimeConfig::from_json(text).unwrap();
        let found = config.find_invalid();
        let paths: Vec<String> = found.iter().map(|error| error.path.to_string()).collect();
        let expected = [
            "network.allowedDomains[0]",
            "network.allowedDomains[2]",
            "network.deniedDomains[0]",
            "filesystem.denyRead[0]",
            "filesystem.denyRead[1]",
            "bwrapPath",
            "socatPath",
            "credentials.envVars[0].name",
            "credentials.envVars[1].name",
        ];
        assert_eq!(paths, expected);
        assert_eq!(config.validate().unwrap_err(), found[0]);
        config.network.denied_domains = vec!["a/b".to_owned(); 1000];
        assert_eq!(config.find_invalid().len(), 100);
    }

    #[test]
    fn a_denied_pattern_must_not_end_in_a_slash() {
        check(r#"{"filesystem":{"denyRead":["/a/*/"]}}"#, Err("filesystem.denyRead[0]"));
        check(r#"{"filesystem":{"denyWrite":["~/*/"]}}"#, Err("filesystem.denyWrite[0]"));
        check(r#"{"filesystem":{"denyRead":["a/*/"]}}"#, Ok(()));
        check(r#"{"filesystem":{"allowWrite":["/a/*/"]}}"#, Ok(()));
        check(r#"{"filesystem":{"disabled":true,"denyRead":["/a/*/"]}}"#, Ok(()));
    }
}
