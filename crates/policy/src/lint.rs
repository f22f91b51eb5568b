//! Lints: settings that srt accepts and does not enforce on Linux.

use std::fmt;

use crate::config::PathEntry;
use crate::network::HostPattern;
use crate::policy::Policy;
use crate::rules::is_glob;

/// Order of the settings in a combined list of lints.
const ORDER: [&str; 9] = [
    "filesystem.allowWrite",
    "filesystem.denyWrite",
    "filesystem.denyRead",
    "network.allowedDomains",
    "network.deniedDomains",
    "network.allowUnixSockets",
    "network.allowAllUnixSockets",
    "allowNestedUserNamespaces",
    "credentials",
];

/// A setting whose effect differs from what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// Path of the setting, such as `filesystem.denyWrite[0]`.
    pub path: String,
    /// Description of the difference.
    pub problem: String,
}

impl Lint {
    /// Creates a lint, for example one of an engine.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// Combines the lints of srt with those of an engine, in the order of the settings. A setting
    /// precedes its entries, and two lints about one setting become one.
    pub fn combine(srt: Vec<Self>, engine: Vec<Self>) -> Vec<Self> {
        let mut lints: Vec<Self> = srt.into_iter().chain(engine).collect();
        lints.sort_by_key(Self::position);
        let mut combined: Vec<Self> = Vec::new();
        for lint in lints {
            match combined.last_mut() {
                Some(last) if last.path == lint.path && !lint.is_about_entry() => {
                    last.problem += &format!("; {}", lint.problem);
                }
                _ => combined.push(lint),
            }
        }
        combined
    }

    fn is_about_entry(&self) -> bool {
        self.path.contains('[')
    }

    fn position(&self) -> (usize, bool) {
        let setting = self.path.split('[').next().unwrap_or_default();
        let position = ORDER.iter().position(|known| *known == setting);
        (position.unwrap_or(ORDER.len()), self.is_about_entry())
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
        let mut lints = self.lint_filesystem();
        lints.extend(self.lint_network());
        lints
    }

    fn lint_filesystem(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let filesystem = &self.config().filesystem;
        for (name, list) in
            [("allowWrite", &filesystem.allow_write), ("denyWrite", &filesystem.deny_write)]
        {
            for (at, rule) in list.iter().enumerate() {
                let PathEntry::Pattern(rule) = rule else { continue };
                if is_glob(rule.trim_end_matches("/**")) {
                    let covers = match name {
                        "allowWrite" => "here it covers the files that exist when a session opens",
                        _ => "here no matching file can be changed or created",
                    };
                    lints.push(Lint::new(
                        format!("filesystem.{name}[{at}]"),
                        format!("srt drops the pattern {rule:?} on Linux; {covers}"),
                    ));
                }
            }
        }
        for (at, rule) in filesystem.deny_read.iter().enumerate() {
            let PathEntry::Pattern(rule) = rule else { continue };
            let first_name = rule.strip_prefix('/').and_then(|rest| rest.split('/').next());
            if first_name.is_some_and(is_glob) {
                lints.push(Lint::new(
                    format!("filesystem.denyRead[{at}]"),
                    "srt skips a pattern that begins with a wildcard; here it is an error",
                ));
            }
            if rule == "/" {
                lints.push(Lint::new(
                    format!("filesystem.denyRead[{at}]"),
                    "srt hides its own helper too, and then starts nothing",
                ));
            }
        }
        lints
    }

    fn lint_network(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let network = &self.config().network;
        for (name, list) in [
            ("allowedDomains", &network.allowed_domains),
            ("deniedDomains", &network.denied_domains),
        ] {
            for (at, entry) in list.iter().enumerate() {
                if HostPattern::parse(entry).is_none() {
                    lints.push(Lint::new(
                        format!("network.{name}[{at}]"),
                        format!("{entry:?} is no host name or address, and matches nothing"),
                    ));
                }
            }
        }
        if network.allow_unix_sockets.is_some() {
            lints.push(Lint::new("network.allowUnixSockets", "has no effect on Linux"));
        }
        if network.allow_all_unix_sockets == Some(true) {
            lints.push(Lint::new(
                "network.allowAllUnixSockets",
                "turns srt's whole system call filter off",
            ));
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
    fn each_unenforced_setting_is_reported_with_its_path() {
        let config = SandboxRuntimeConfig::from_json(
            r#"{"network":{"allowedDomains":["a b.com"],"deniedDomains":[],
                           "allowUnixSockets":["/x"]},
                "filesystem":{"denyRead":["/**/*.pem"],"allowWrite":["/w/*.log","/w/**"],
                              "denyWrite":[]}}"#,
        )
        .unwrap();
        let lints = Policy::from_config(config, Path::new("/root")).unwrap().lint();
        let paths: Vec<&str> = lints.iter().map(|lint| lint.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "filesystem.allowWrite[0]",
                "filesystem.denyRead[0]",
                "network.allowedDomains[0]",
                "network.allowUnixSockets"
            ]
        );
    }

    #[test]
    fn the_default_policy_has_no_lints() {
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
