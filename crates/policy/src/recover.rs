//! Settings as far as they can be used, with everything that is wrong in them.

use crate::config::SandboxRuntimeConfig;
use crate::parse::{ParseError, node_of};
use crate::setting_path::SettingPath;
use crate::validate::ValidationError;

/// Maximum number of times that invalid settings are left out.
const MAX_ROUNDS: usize = 8;

/// Result of [`SandboxRuntimeConfig::recover`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The valid settings that remain. A setting with an error is missing or empty in them, and so
    /// is a list with an error in an entry. `None` if a required key is missing, or if the text is
    /// not JSON.
    pub config: Option<SandboxRuntimeConfig>,
    /// Errors of [`SandboxRuntimeConfig::from_json`], as `find_errors` returns them.
    pub errors: Vec<ParseError>,
    /// Errors of [`SandboxRuntimeConfig::validate`] in the settings that can be read.
    pub invalid: Vec<ValidationError>,
}

impl Recovered {
    /// Returns whether an error is about this setting, or about one in it or around it.
    pub fn is_affected(&self, path: &SettingPath) -> bool {
        let unreadable = self.errors.iter().filter_map(ParseError::path);
        let invalid = self.invalid.iter().map(|error| &error.path);
        unreadable.chain(invalid).any(|error| path.covers(error) || error.covers(path))
    }
}

impl SandboxRuntimeConfig {
    /// Parses settings and returns all their errors, with the settings that remain without those.
    ///
    /// It is for reports. A sandbox must not open with settings that have errors.
    pub fn recover(text: &str) -> Recovered {
        let mut recovered = Recovered { config: None, errors: Vec::new(), invalid: Vec::new() };
        let mut node = match node_of(text) {
            Ok(node) => node,
            Err(error) => {
                recovered.errors.push(error);
                return recovered;
            }
        };
        recovered.errors = Self::mend_all(&mut node, text);
        let Ok(config) = Self::from_node(&node, text) else { return recovered };
        // A value that stands for an unreadable one is no fault of the user.
        let invalid = config.find_invalid().into_iter();
        recovered.invalid = invalid.filter(|error| !recovered.is_affected(&error.path)).collect();
        // A setting can be invalid because another one was left out.
        for _ in 0..MAX_ROUNDS {
            let Ok(config) = Self::from_node(&node, text) else { break };
            let invalid = config.find_invalid();
            if invalid.is_empty() {
                recovered.config = Some(config);
                break;
            }
            invalid.iter().for_each(|error| Self::leave_out(&mut node, text, &error.path));
        }
        recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_hide_each_other_or_other_settings() {
        let text = r#"{"network": {"allowedDomains": ["*"], "deniedDomains": [], "bogus": 1,
            "tlsTerminate": {"caCertPath": "", "caKeyPath": "/k"}},
            "filesystem": {"denyRead": ["/a"], "allowWrite": [5], "denyWrite": []}}"#;
        let found = SandboxRuntimeConfig::recover(text);
        let mut paths: Vec<String> =
            found.errors.iter().filter_map(|error| Some(error.path()?.to_string())).collect();
        paths.sort();
        assert_eq!(paths, ["filesystem.allowWrite[0]", "network.bogus"]);
        let invalid: Vec<String> =
            found.invalid.iter().map(|error| error.path.to_string()).collect();
        assert_eq!(invalid, ["network.allowedDomains[0]", "network.tlsTerminate.caCertPath"]);
        let config = found.config.as_ref().unwrap();
        assert_eq!(config.filesystem.deny_read, [crate::PathEntry::Pattern("/a".to_owned())]);
        assert!(config.network.allowed_domains.is_empty());
        assert!(found.is_affected(&SettingPath::from("filesystem.allowWrite")));
        assert!(!found.is_affected(&SettingPath::from("filesystem.denyRead")));
    }

    #[test]
    fn settings_without_a_required_key_are_not_recovered() {
        let found = SandboxRuntimeConfig::recover(r#"{"filesystem": {}, "third": 3}"#);
        assert!(found.config.is_none());
        assert!(!found.errors.is_empty());
        assert!(SandboxRuntimeConfig::recover("{").config.is_none());
    }
}
