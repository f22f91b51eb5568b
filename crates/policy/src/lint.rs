//! What settings say and nobody enforces: srt on Linux, or the native engine.

use std::fmt;

use crate::domain;
use crate::policy::Policy;
use crate::rules::is_glob;

/// A setting that does not do what it seems to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// The setting's place, such as `filesystem.denyWrite[0]`.
    pub path: String,
    /// What it does not do.
    pub problem: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl Policy {
    /// What srt would take and then not enforce on Linux, and what the native engine cannot
    /// express.
    pub fn lint(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let mut say = |path: String, problem: &str| {
            lints.push(Lint { path, problem: problem.to_owned() });
        };
        let filesystem = &self.config().filesystem;
        for (name, list) in
            [("allowWrite", &filesystem.allow_write), ("denyWrite", &filesystem.deny_write)]
        {
            for (at, rule) in
                list.iter().enumerate().filter(|(_, rule)| is_glob(rule.trim_end_matches("/**")))
            {
                say(
                    format!("filesystem.{name}[{at}]"),
                    &format!(
                        "srt drops the pattern {rule:?} on Linux; here it covers the files that exist when a session opens"
                    ),
                );
            }
        }
        for (at, rule) in filesystem.deny_read.iter().enumerate() {
            if is_glob(rule) && rule.starts_with('/') && rule.split('/').nth(1).is_some_and(is_glob)
            {
                say(
                    format!("filesystem.denyRead[{at}]"),
                    "srt skips a pattern that begins with a wildcard; here it is refused",
                );
            }
            if rule == "/" {
                say(
                    format!("filesystem.denyRead[{at}]"),
                    "srt hides its own helper too, and then starts nothing",
                );
            }
        }
        let network = &self.config().network;
        if !network.allowed_domains.is_empty() {
            say(
                "network.allowedDomains".to_owned(),
                "the native engine has no network proxy, and refuses to open with this",
            );
        }
        for (name, list) in [
            ("allowedDomains", &network.allowed_domains),
            ("deniedDomains", &network.denied_domains),
        ] {
            for (at, entry) in list.iter().enumerate().filter(|(_, entry)| !domain::is_tidy(entry))
            {
                say(
                    format!("network.{name}[{at}]"),
                    &format!("{entry:?} is no host name or address, and matches nothing"),
                );
            }
        }
        if network.allow_unix_sockets.is_some() {
            say("network.allowUnixSockets".to_owned(), "has no effect on Linux");
        }
        if network.allow_all_unix_sockets == Some(true) {
            say(
                "network.allowAllUnixSockets".to_owned(),
                "turns srt's whole system call filter off; the native engine allows Unix sockets and nothing else, and with \
                 them every socket that the session can see",
            );
        }
        if self.config().credentials.is_some() {
            say(
                "credentials".to_owned(),
                "the native engine replaces no credentials, and refuses to open with this",
            );
        }
        lints
    }

    /// Settings that the native engine cannot carry out; it refuses to open with any of them.
    pub fn beyond_native(&self) -> Option<&'static str> {
        let config = self.config();
        if !config.network.allowed_domains.is_empty() {
            Some("network.allowedDomains names domains")
        } else if config.credentials.is_some() {
            Some("credentials is set")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::SandboxRuntimeConfig;

    #[test]
    fn what_is_not_enforced_is_said_with_its_place() {
        let config = SandboxRuntimeConfig::from_json(
            r#"{"network":{"allowedDomains":["a_b.com"],"deniedDomains":[],"allowUnixSockets":["/x"]},
                "filesystem":{"denyRead":["/**/*.pem"],"allowWrite":["/w/*.log","/w/**"],"denyWrite":[]}}"#,
        )
        .unwrap();
        let lints = Policy::from_config(config, Path::new("/root")).unwrap().lint();
        let places: Vec<&str> = lints.iter().map(|lint| lint.path.as_str()).collect();
        assert_eq!(
            places,
            [
                "filesystem.allowWrite[0]",
                "filesystem.denyRead[0]",
                "network.allowedDomains",
                "network.allowedDomains[0]",
                "network.allowUnixSockets"
            ]
        );
    }

    #[test]
    fn the_default_policy_is_clean() {
        let policy = Policy::session(Path::new("/s")).build().unwrap();
        assert_eq!((policy.lint(), policy.beyond_native()), (vec![], None));
    }
}
