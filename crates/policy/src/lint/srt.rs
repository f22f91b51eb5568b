//! Settings that srt accepts and does not enforce on Linux.

use std::path::Path;

use super::{Lint, LintCode};
use crate::config::{NetworkConfig, PathEntry, SandboxRuntimeConfig};
use crate::host_list::HostPattern;
use crate::policy::Policy;
use crate::rules::{PathRule, is_glob};
use crate::setting_path::{SettingPath, shortened};

pub(super) fn network(network: &NetworkConfig) -> Vec<Lint> {
    let root = SettingPath::from("network");
    let mut lints = Vec::new();
    for (name, list) in
        [("allowedDomains", &network.allowed_domains), ("deniedDomains", &network.denied_domains)]
    {
        let entries = list.iter().enumerate();
        lints.extend(entries.filter_map(|(at, entry)| domain(root.key(name).index(at), entry)));
    }
    for key in network.denied_domain_reasons.iter().flat_map(|reasons| reasons.keys()) {
        if !network.denied_domains.contains(key) {
            lints.push(Lint::new(
                LintCode::Inert,
                root.key("deniedDomainReasons").key(key),
                "is for no entry of deniedDomains",
                "write the key exactly like the entry",
            ));
        }
    }
    for (name, is_set) in [
        ("allowUnixSockets", network.allow_unix_sockets.is_some()),
        ("allowMachLookup", network.allow_mach_lookup.is_some()),
    ] {
        if is_set {
            let problem = "has an effect on macOS only";
            lints.push(Lint::unset(LintCode::OtherSystem, root.key(name), problem));
        }
    }
    if network.allow_local_binding.is_some() {
        lints.push(Lint::unset(
            LintCode::OtherSystem,
            root.key("allowLocalBinding"),
            "has no effect on Linux: commands always bind ports of their own loopback interface",
        ));
    }
    if network.allow_all_unix_sockets == Some(true) {
        lints.push(Lint::unset(
            LintCode::Weakens,
            root.key("allowAllUnixSockets"),
            "turns srt's whole system call filter off",
        ));
    }
    for (name, port) in
        [("httpProxyPort", network.http_proxy_port), ("socksProxyPort", network.socks_proxy_port)]
    {
        if port.is_some() {
            let problem = "in srt, the proxy at this port decides instead of the lists of domains";
            lints.push(Lint::unset(LintCode::Delegated, root.key(name), problem));
        }
    }
    lints.extend(proxies(network, &root));
    lints
}

fn proxies(network: &NetworkConfig, root: &SettingPath) -> Vec<Lint> {
    let mut lints = Vec::new();
    if network.mitm_proxy.is_some() && network.tls_terminate.is_some() {
        lints.push(Lint::unset(
            LintCode::Conflict,
            root.key("mitmProxy"),
            "srt does not start with mitmProxy and tlsTerminate",
        ));
    }
    let addresses = network.denied_resolved_addresses.as_ref();
    if addresses.is_some() && network.parent_proxy.is_some() {
        lints.push(Lint::new(
            LintCode::Inert,
            root.key("deniedResolvedAddresses"),
            "is not checked for connections through parentProxy, which resolves the names",
            "deny the addresses in that proxy",
        ));
    }
    if network.parent_proxy.is_some() {
        lints.push(Lint::new(
            LintCode::Delegated,
            root.key("parentProxy"),
            "resolves names itself, so the addresses of names are not judged here",
            "let that proxy refuse addresses",
        ));
    }
    for (name, is_set) in [
        ("allowPlaintextHeaderSet", network.allow_plaintext_header_set.is_some()),
        ("ambiguousRequestTarget", network.ambiguous_request_target.is_some()),
    ] {
        if is_set {
            let problem = "has an effect with filterRequest only, which no file can hold";
            lints.push(Lint::unset(LintCode::Inert, root.key(name), problem));
        }
    }
    lints
}

/// Judges an entry of `allowedDomains` or `deniedDomains`.
fn domain(path: SettingPath, entry: &str) -> Option<Lint> {
    let shown = shortened(entry);
    let Some((pattern, port)) = HostPattern::parse(entry) else {
        return Some(Lint::new(
            LintCode::MatchesNothing,
            path,
            format!("{shown:?} is no host name or address, and matches nothing"),
            "correct or remove the entry",
        ));
    };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let canonical = match &pattern {
        HostPattern::Any => return None,
        HostPattern::Below(name) => format!("*.{name}{port}"),
        // srt makes a host in brackets canonical itself.
        HostPattern::Host(_) if entry.starts_with('[') => return None,
        HostPattern::Host(host) => format!("{host}{port}"),
    };
    (canonical != entry.to_lowercase()).then(|| {
        Lint::new(
            LintCode::NotCanonical,
            path,
            format!("srt compares {shown:?} as it is spelled, and no request is spelled so"),
            format!("write {:?}", shortened(&canonical)),
        )
    })
}

pub(super) fn filesystem(policy: &Policy) -> Vec<Lint> {
    let filesystem = &policy.config().filesystem;
    let root = SettingPath::from("filesystem");
    let mut lints = Vec::new();
    for (name, list, effect, remedy) in [
        (
            "allowWrite",
            &filesystem.allow_write,
            "here it covers the files that exist when a session opens",
            "name the directory",
        ),
        (
            "denyWrite",
            &filesystem.deny_write,
            "here no matching file can be changed or created",
            "name the paths if srt has to deny them too",
        ),
    ] {
        for (at, rule) in list.iter().enumerate() {
            let PathEntry::Pattern(rule) = rule else { continue };
            if is_glob(rule.trim_end_matches("/**")) {
                let shown = shortened(rule);
                lints.push(Lint::new(
                    LintCode::DroppedPattern,
                    root.key(name).index(at),
                    format!("srt drops the pattern {shown:?} on Linux; {effect}"),
                    remedy,
                ));
            }
        }
    }
    for (at, (entry, rule)) in filesystem.deny_read.iter().zip(&policy.deny_read).enumerate() {
        let PathEntry::Pattern(entry) = entry else { continue };
        let path = root.key("denyRead").index(at);
        let first_name = entry.strip_prefix('/').and_then(|rest| rest.split('/').next());
        let is_root = matches!(rule, PathRule::Path(path) if path == Path::new("/"));
        if first_name.is_some_and(is_glob) {
            // `/**` is the root itself here.
            let here = match rule {
                PathRule::Path(path) => format!("here it is {}", path.display()),
                PathRule::Glob(pattern) if pattern.base() == Path::new("/") => {
                    "here no sandbox opens with it".to_owned()
                }
                PathRule::Glob(_) => "here it is enforced".to_owned(),
            };
            lints.push(Lint::new(
                LintCode::UnrootedPattern,
                path,
                format!("srt skips a pattern that begins with a wildcard; {here}"),
                match is_root {
                    true => "name the directories to hide",
                    false => "begin the pattern with a directory",
                },
            ));
        } else if is_root {
            lints.push(Lint::new(
                LintCode::HidesHelper,
                path,
                "srt hides its own helper too, and then starts nothing",
                "name the directories to hide",
            ));
        }
    }
    lints
}

pub(super) fn other(config: &SandboxRuntimeConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    if config.enable_weaker_nested_sandbox == Some(true) {
        lints.push(Lint::unset(
            LintCode::Weakens,
            "enableWeakerNestedSandbox",
            "in srt, shows commands the processes outside",
        ));
    }
    for (key, is_set, system) in [
        ("enableWeakerNetworkIsolation", config.enable_weaker_network_isolation.is_some(), "macOS"),
        ("allowAppleEvents", config.allow_apple_events.is_some(), "macOS"),
        ("allowPty", config.allow_pty.is_some(), "macOS"),
        ("windows", config.windows.is_some(), "Windows"),
    ] {
        if is_set {
            let problem = format!("has an effect on {system} only");
            lints.push(Lint::unset(LintCode::OtherSystem, key, problem));
        }
    }
    let seccomp = config.seccomp.as_ref();
    if seccomp.is_some_and(|seccomp| seccomp.argv0.is_some() && seccomp.apply_path.is_none()) {
        lints.push(Lint::new(
            LintCode::Conflict,
            "seccomp.argv0",
            "srt runs no command with argv0 and without applyPath",
            "add seccomp.applyPath",
        ));
    }
    lints
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Policy;

    #[track_caller]
    fn check(network: &str, filesystem: &str, top: &str, expected: &[&str]) {
        let text = format!(
            r#"{{"network":{{"deniedDomains":[]{network}}},
                "filesystem":{{"allowWrite":[],"denyWrite":[]{filesystem}}}{top}}}"#
        );
        let text = match text.contains("allowedDomains") {
            true => text,
            false => text.replace("\"deniedDomains\"", "\"allowedDomains\":[],\"deniedDomains\""),
        };
        let text = match text.contains("denyRead") {
            true => text,
            false => text.replace("\"allowWrite\"", "\"denyRead\":[],\"allowWrite\""),
        };
        let config = SandboxRuntimeConfig::from_json(&text).unwrap();
        let lints = Policy::from_config(config, Path::new("/root")).unwrap().lint();
        let found: Vec<String> =
            lints.iter().map(|lint| format!("{} {}", lint.code, lint.path)).collect();
        assert_eq!(found, expected, "{lints:?}");
        assert!(lints.iter().all(|lint| !lint.remedy.is_empty()));
    }

    #[test]
    fn entries_that_cover_no_request_are_reported() {
        check(
            concat!(
                r#","allowedDomains":["a b.com","127.1","*.0.1","#,
                r#""[127.1]","A.com","a_b.com"]"#
            ),
            "",
            "",
            &[
                "matches-nothing network.allowedDomains[0]",
                "not-canonical network.allowedDomains[1]",
                "matches-nothing network.allowedDomains[2]",
            ],
        );
        #[cfg(feature = "idna")]
        check(
            r#","allowedDomains":["bücher.example:1"]"#,
            "",
            "",
            &["not-canonical network.allowedDomains[0]"],
        );
        check(
            r#","deniedDomainReasons":{"a.com":"x"}"#,
            "",
            "",
            &[r#"inert network.deniedDomainReasons["a.com"]"#],
        );
    }

    #[test]
    fn patterns_that_srt_does_not_enforce_are_reported() {
        check(
            "",
            r#","denyRead":["/**/*.pem","/","/a/*"]"#,
            "",
            &["unrooted-pattern filesystem.denyRead[0]", "hides-helper filesystem.denyRead[1]"],
        );
    }

    #[test]
    fn a_pattern_that_is_the_root_here_is_no_error() {
        let mut config = SandboxRuntimeConfig::default();
        config.filesystem.deny_read = vec!["/**".into(), "/*/s".into()];
        let lints = Policy::from_config(config, Path::new("/root")).unwrap().lint();
        let problems: Vec<_> = lints.iter().map(|lint| lint.problem.as_str()).collect();
        let srt = "srt skips a pattern that begins with a wildcard;";
        assert_eq!(
            problems,
            [format!("{srt} here it is /"), format!("{srt} here no sandbox opens with it")]
        );
    }

    #[test]
    fn settings_of_other_systems_and_conflicts_are_reported() {
        check(
            r#","mitmProxy":{"socketPath":"/s","domains":["a.com"]},"tlsTerminate":{}"#,
            "",
            r#","allowPty":false,"windows":{},"seccomp":{"argv0":"x"}"#,
            &[
                "conflict network.mitmProxy",
                "other-system allowPty",
                "other-system windows",
                "conflict seccomp.argv0",
            ],
        );
    }

    #[test]
    fn the_default_policy_has_no_lints() {
        let policy = Policy::session(Path::new("/s")).build().unwrap();
        assert_eq!(policy.lint(), []);
    }
}
