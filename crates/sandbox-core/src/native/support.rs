//! Policy settings that the native engine does not support.

use policy::{Lint, Policy};

use super::engine::NativeSandbox;

/// Returns the first setting that the engine cannot enforce on the namespaces tier. Opening fails
/// with it.
pub(super) fn unsupported_by_native(policy: &Policy) -> Option<&'static str> {
    let config = policy.config();
    if !config.network.allowed_domains.is_empty() {
        Some("network.allowedDomains names domains; leave it empty, as sessions have no network")
    } else if config.credentials.is_some() {
        Some("credentials is set")
    } else {
        None
    }
}

/// Returns the first setting that the engine cannot enforce on the Landlock tier. Opening fails
/// with it.
pub(super) fn unsupported_by_landlock(policy: &Policy) -> Option<&'static str> {
    let sockets = policy.allows_unix_sockets().then_some("network.allowAllUnixSockets is set");
    unsupported_by_native(policy).or(sockets)
}

impl NativeSandbox {
    /// Returns the settings that this engine rejects, or enforces differently from srt.
    ///
    /// [`Policy::lint`] returns those that srt accepts and does not enforce; [`Lint::combine`]
    /// unites the two lists.
    pub fn lint(policy: &Policy) -> Vec<Lint> {
        let config = policy.config();
        let mut lints = Vec::new();
        if !config.network.allowed_domains.is_empty() {
            lints.push(Lint::new(
                "network.allowedDomains",
                "no engine has a network proxy; a session with this setting cannot be opened",
            ));
        }
        if policy.allows_unix_sockets() {
            lints.push(Lint::new(
                "network.allowAllUnixSockets",
                "allows Unix sockets and nothing else, and with them every socket of the host that \
                 the session can see; sockets of its own need no setting",
            ));
        }
        if config.allow_nested_user_namespaces == Some(true) {
            lints.push(Lint::new(
                "allowNestedUserNamespaces",
                "has no effect: no command can create a user namespace",
            ));
        }
        if config.credentials.is_some() {
            lints.push(Lint::new(
                "credentials",
                "no engine replaces credentials; a session with this setting cannot be opened",
            ));
        }
        lints
    }
}

#[cfg(test)]
mod tests {
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
        let paths: Vec<&str> = lints.iter().map(|lint| lint.path.as_str()).collect();
        assert_eq!(paths, expected);
        assert_eq!(unsupported_by_native(&policy), unsupported);
    }

    #[test]
    fn unsupported_settings_are_named() {
        let closed = r#""allowedDomains":[]"#;
        check(closed, "", &[], None);
        check(
            r#""allowedDomains":["a.com"]"#,
            "",
            &["network.allowedDomains"],
            Some(
                "network.allowedDomains names domains; leave it empty, as sessions have no network",
            ),
        );
        check(closed, r#","credentials":{}"#, &["credentials"], Some("credentials is set"));
        let sockets = r#""allowedDomains":[],"allowAllUnixSockets":true"#;
        check(sockets, "", &["network.allowAllUnixSockets"], None);
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
