//! Policy settings that the native engine does not support.

use policy::{Host, Lint, LintCode, NetworkConfig, NetworkPolicy, Policy, SettingPath};

use super::engine::NativeSandbox;

/// Returns the first setting that the engine cannot enforce on the namespaces tier. Opening fails
/// with it.
pub(super) fn unsupported_by_native(policy: &Policy) -> Option<&'static str> {
    let config = policy.config();
    match beyond(&config.network).next() {
        Some(key) if allows_hosts(&config.network) => Some(unsupported_network_key(key)),
        _ => config.credentials.is_some().then_some("credentials is set"),
    }
}

/// Returns the reason why no session with a network opens with a key of
/// [`NetworkPolicy::beyond`], and the remedy.
pub fn unsupported_network_key(key: &str) -> &'static str {
    match key {
        "httpProxyPort" => {
            "network.httpProxyPort is set; use network.parentProxy with the URL \
             http://127.0.0.1:PORT, which sees what the lists allow"
        }
        "socksProxyPort" => {
            "network.socksProxyPort is set; use network.parentProxy with an HTTP proxy"
        }
        "mitmProxy" => "network.mitmProxy is set; use network.parentProxy for all hosts",
        "tlsTerminate.caCertPath" => {
            "network.tlsTerminate.caCertPath is set; leave it and caKeyPath out, because each \
             process creates an authority that its sessions trust"
        }
        _ => {
            "network.tlsTerminate.extraCaCertPaths is set; leave it out, and set SSL_CERT_FILE of \
             the host process to a file with these certificates and those of the system"
        }
    }
}

/// Returns the first setting that the engine cannot enforce on the Landlock tier. Opening fails
/// with it.
pub(super) fn unsupported_by_landlock(policy: &Policy) -> Option<&'static str> {
    let hosts = allows_hosts(&policy.config().network).then_some(
        "network.allowedDomains names domains, and sessions without namespaces have no network; \
         leave it empty, or use the engine `native`",
    );
    let sockets = policy.allows_unix_sockets().then_some("network.allowAllUnixSockets is set");
    unsupported_by_native(policy).or(hosts).or(sockets)
}

/// Returns the set keys that no gate enforces. The one that gets the listeners of a session
/// connects through its parent proxy.
fn beyond(network: &NetworkConfig) -> impl Iterator<Item = &'static str> {
    NetworkPolicy::beyond(network).into_iter().filter(|key| *key != "parentProxy")
}

fn allows_hosts(network: &NetworkConfig) -> bool {
    !network.allowed_domains.is_empty()
}

impl NativeSandbox {
    /// Returns the settings that this engine rejects, ignores, or enforces differently from srt.
    ///
    /// [`Policy::lint`] returns those that srt accepts and does not enforce.
    pub fn lint(policy: &Policy) -> Vec<Lint> {
        let config = policy.config();
        let mut lints = network(&config.network);
        if config.credentials.is_some() {
            lints.push(Lint::unset(
                LintCode::Unsupported,
                "credentials",
                "no engine replaces credentials; a session with this setting cannot be opened",
            ));
        }
        if config.allow_nested_user_namespaces == Some(true) {
            lints.push(Lint::unset(
                LintCode::NoEffect,
                "allowNestedUserNamespaces",
                "has no effect: no command can create a user namespace",
            ));
        }
        if config.enable_weaker_nested_sandbox.is_some() {
            lints.push(Lint::unset(
                LintCode::NoEffect,
                "enableWeakerNestedSandbox",
                "has no effect in a session, which has its own /proc",
            ));
        }
        if config.ignore_violations.is_some() {
            lints.push(Lint::unset(
                LintCode::NoEffect,
                "ignoreViolations",
                "has no effect: the results of commands name denials, whatever their paths",
            ));
        }
        if config.git.as_ref().is_some_and(|git| !git.safe_directories.is_empty()) {
            lints.push(Lint::new(
                LintCode::NoEffect,
                "git.safeDirectories",
                "has no effect: the engine does not configure git",
                "set safe.directory in the configuration of git",
            ));
        }
        for (key, is_set) in [
            ("ripgrep", config.ripgrep.is_some()),
            ("seccomp", config.seccomp.is_some()),
            ("bwrapPath", config.bwrap_path.is_some()),
            ("socatPath", config.socat_path.is_some()),
            ("javaAgentJarPath", config.java_agent_jar_path.is_some()),
        ] {
            if is_set {
                let problem = "has no effect: the engine runs no helper program";
                lints.push(Lint::unset(LintCode::UnusedProgram, key, problem));
            }
        }
        lints
    }
}

/// Returns the lints about the network.
fn network(network: &NetworkConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    let path = |key: &str| SettingPath::from("network").key(key);
    if network.allow_all_unix_sockets == Some(true) {
        lints.push(Lint::unset(
            LintCode::Weakens,
            "network.allowAllUnixSockets",
            "allows Unix sockets and nothing else, and with them every socket of the host that the \
             session can see; sockets of its own need no setting",
        ));
    }
    for (at, entry) in network.allowed_domains.iter().enumerate() {
        let host = Host::parse_with_port(entry).map(|(host, _)| host);
        if host.or_else(|_| Host::parse(entry)).is_ok_and(|host| host.is_loopback()) {
            lints.push(Lint::new(
                LintCode::NoEffect,
                path("allowedDomains").index(at),
                "has no effect: each session has a loopback interface of its own",
                "remove it; `--expose NAME=HOST:PORT` gives a session a server of the host",
            ));
        }
    }
    if !allows_hosts(network) {
        for (key, is_set) in [
            ("deniedDomainReasons", network.denied_domain_reasons.is_some()),
            ("strictAllowlist", network.strict_allowlist.is_some()),
            ("deniedResolvedAddresses", network.denied_resolved_addresses.is_some()),
            ("tlsTerminate", network.tls_terminate.is_some()),
            ("requireHostMatch", network.require_host_match == Some(true)),
            ("refuseOpaqueTunnels", network.refuse_opaque_tunnels == Some(true)),
            ("stripResponseHeaders", network.strip_response_headers.is_some()),
            ("parentProxy", network.parent_proxy.is_some()),
        ] {
            if is_set {
                let problem = "has no effect: no host is allowed";
                lints.push(Lint::unset(LintCode::NoEffect, path(key), problem));
            }
        }
    }
    for key in beyond(network) {
        let path = key.split('.').fold(SettingPath::from("network"), |path, key| path.key(key));
        lints.push(if allows_hosts(network) {
            let problem = "no session opens with it";
            let remedy = unsupported_network_key(key).split_once("; ");
            let remedy = remedy.map_or("leave the key out", |(_, remedy)| remedy);
            Lint::new(LintCode::Unsupported, path, problem, remedy)
        } else {
            Lint::unset(LintCode::NoEffect, path, "has no effect: no host is allowed")
        });
    }
    for (key, is_set, problem) in [
        (
            "allowPlaintextHeaderSet",
            network.allow_plaintext_header_set.is_some(),
            "has no effect: it is about `filterRequest`, which has no JSON form",
        ),
        (
            "refuseOpaqueTunnels",
            network.refuse_opaque_tunnels == Some(false),
            "has no effect: tunnels pass in any case",
        ),
        (
            "requireHostMatch",
            network.require_host_match == Some(false),
            "has no effect: that is the default",
        ),
        (
            "ambiguousRequestTarget",
            network.ambiguous_request_target.is_some(),
            "has no effect: no rule is about the target of a request",
        ),
    ] {
        if is_set {
            lints.push(Lint::unset(LintCode::NoEffect, path(key), problem));
        }
    }
    lints
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use policy::SandboxRuntimeConfig;

    use super::*;

    #[track_caller]
    fn check(network: &str, more: &str, expected: &[&str], unsupported: Option<&str>) {
        let config = SandboxRuntimeConfig::from_json(&format!(
            r#"{{"network":{{"deniedDomains":[],{network}}},
                "filesystem":{{"denyRead":[],"allowWrite":[],"denyWrite":[]}}{more}}}"#
        ))
        .unwrap();
        let policy = Policy::from_config(config, Path::new("/root")).unwrap();
        let lints = NativeSandbox::lint(&policy);
        let paths: Vec<String> = lints.iter().map(|lint| lint.path.to_string()).collect();
        assert_eq!(paths, expected);
        assert_eq!(unsupported_by_native(&policy), unsupported);
    }

    #[test]
    fn unsupported_settings_are_named() {
        let closed = r#""allowedDomains":[]"#;
        check(closed, "", &[], None);
        check(r#""allowedDomains":["a.com"]"#, "", &[], None);
        check(
            r#""allowedDomains":["127.0.0.1:80","a.com"]"#,
            "",
            &["network.allowedDomains[0]"],
            None,
        );
        let parent = r#""parentProxy":{"http":"http://p.com"}"#;
        check(&format!(r#"{closed},{parent}"#), "", &["network.parentProxy"], None);
        check(&format!(r#""allowedDomains":["a.com"],{parent}"#), "", &[], None);
        check(
            r#""allowedDomains":["a.com"],"socksProxyPort":1080"#,
            "",
            &["network.socksProxyPort"],
            Some("network.socksProxyPort is set; use network.parentProxy with an HTTP proxy"),
        );
        let terminated = r#""allowedDomains":["a.com"],"tlsTerminate":"#;
        check(&format!("{terminated}{{}}"), "", &[], None);
        check(
            &format!(r#"{terminated}{{"maxTunnels":9,"extraCaCertPaths":["/ca.pem"]}}"#),
            "",
            &["network.tlsTerminate.extraCaCertPaths"],
            Some(unsupported_network_key("tlsTerminate.extraCaCertPaths")),
        );
        check(&format!(r#"{closed},"tlsTerminate":{{}}"#), "", &["network.tlsTerminate"], None);
        check(closed, r#","credentials":{}"#, &["credentials"], Some("credentials is set"));
        let sockets = r#""allowedDomains":[],"allowAllUnixSockets":true"#;
        check(sockets, "", &["network.allowAllUnixSockets"], None);
    }

    /// Keys that the engine enforces.
    const ENFORCED: [&str; 16] = [
        "network.requireHostMatch",
        "network.refuseOpaqueTunnels",
        "network.stripResponseHeaders",
        "network.deniedDomains",
        "network.deniedDomainReasons",
        "network.deniedResolvedAddresses",
        "network.strictAllowlist",
        "network.tlsTerminate",
        "filesystem.disabled",
        "filesystem.denyRead",
        "filesystem.allowRead",
        "filesystem.allowWrite",
        "filesystem.denyWrite",
        "filesystem.allowGitConfig",
        "mandatoryDenySearchDepth",
        "network.allowedDomains",
    ];

    #[test]
    fn each_key_is_enforced_or_has_a_lint() {
        let config = SandboxRuntimeConfig::from_json(include_str!("every_key.json")).unwrap();
        let policy = Policy::from_config(config, Path::new("/root")).unwrap();
        let lints = [policy.lint(), NativeSandbox::lint(&policy)].concat();
        let found: BTreeSet<String> = lints.iter().map(|lint| lint.path.to_string()).collect();
        let settings = serde_json::to_value(policy.config()).unwrap();
        let mut keys = 0;
        for (section, value) in settings.as_object().unwrap() {
            let inner =
                value.as_object().filter(|_| ["network", "filesystem"].contains(&&**section));
            let names: Vec<String> = match inner {
                Some(inner) => inner.keys().map(|key| format!("{section}.{key}")).collect(),
                None => vec![section.clone()],
            };
            for name in names {
                keys += 1;
                let is_found = found.iter().any(|path| path.starts_with(&name));
                assert!(is_found || ENFORCED.contains(&&*name), "{name}");
            }
        }
        // All keys of the settings: 19 of the network, 6 of files, and 15 others.
        assert_eq!(keys, 40);
    }

    #[test]
    fn the_default_policy_is_supported() {
        let policy = Policy::session(Path::new("/s")).build().unwrap();
        assert_eq!(
            (NativeSandbox::lint(&policy), unsupported_by_landlock(&policy)),
            (vec![], None)
        );
    }
}
