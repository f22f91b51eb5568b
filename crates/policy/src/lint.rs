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

impl Lint {
    /// Creates a lint, such as one of an engine.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// Combines the lints of srt with those of an engine, in the order of the lists. A setting
    /// comes before its entries. Two lints about one setting become one.
    pub fn combine(srt: Vec<Self>, engine: Vec<Self>) -> Vec<Self> {
        const ORDER: [&str; 8] = [
            "filesystem.allowWrite",
            "filesystem.denyWrite",
            "filesystem.denyRead",
            "network.allowedDomains",
            "network.deniedDomains",
            "network.allowUnixSockets",
            "network.allowAllUnixSockets",
            "credentials",
        ];
        let mut all: Vec<Self> = srt.into_iter().chain(engine).collect();
        all.sort_by_key(|lint| {
            let (list, is_entry) =
                lint.path.split_once('[').map_or((&*lint.path, false), |(list, _)| (list, true));
            (ORDER.iter().position(|known| *known == list).unwrap_or(ORDER.len()), is_entry)
        });
        let mut combined: Vec<Self> = Vec::new();
        for lint in all {
            match combined.last_mut() {
                Some(last) if last.path == lint.path && !lint.path.contains('[') => {
                    last.problem += &format!("; {}", lint.problem);
                }
                _ => combined.push(lint),
            }
        }
        combined
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl Policy {
    /// Returns the settings that srt accepts and does not enforce on Linux.
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
                "turns srt's whole system call filter off",
            );
        }
        lints
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
                "network.allowedDomains[0]",
                "network.allowUnixSockets"
            ]
        );
    }

    #[test]
    fn the_default_policy_is_clean() {
        let policy = Policy::session(Path::new("/s")).build().unwrap();
        assert_eq!(policy.lint(), []);
    }

    #[test]
    fn lints_of_two_engines_are_combined_in_the_order_of_the_settings() {
        let combined = Lint::combine(
            vec![
                Lint::new("filesystem.denyRead[0]", "a"),
                Lint::new("network.allowedDomains[0]", "b"),
                Lint::new("network.allowAllUnixSockets", "c"),
            ],
            vec![
                Lint::new("network.allowedDomains", "d"),
                Lint::new("network.allowAllUnixSockets", "e"),
                Lint::new("credentials", "f"),
            ],
        );
        let lines: Vec<String> = combined.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "filesystem.denyRead[0]: a",
                "network.allowedDomains: d",
                "network.allowedDomains[0]: b",
                "network.allowAllUnixSockets: c; e",
                "credentials: f",
            ]
        );
    }
}
