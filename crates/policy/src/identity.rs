//! Identity of a policy's rules for files, by which two processes compare policies.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::{FilesystemConfig, NetworkConfig};
use crate::policy::Policy;
use crate::rules::PathRule;

impl Policy {
    /// Returns bytes that two policies share only if all their settings agree except those of the
    /// network. Settings as JSON do not suffice, because they cannot hold every path.
    pub fn identity_without_network(&self) -> Vec<u8> {
        let mut config = self.config().clone();
        config.network = NetworkConfig::default();
        // The lists follow as rules.
        config.filesystem = FilesystemConfig {
            disabled: config.filesystem.disabled,
            allow_git_config: config.filesystem.allow_git_config,
            ..FilesystemConfig::default()
        };
        let mut identity = Identity::default();
        identity.text(config.to_json().as_bytes());
        for rules in [&self.deny_read, &self.allow_read, &self.allow_write, &self.deny_write] {
            identity.count(rules.len());
            rules.iter().for_each(|rule| identity.rule(rule));
        }
        identity.count(self.sealed.len());
        for sealed in &self.sealed {
            identity.path(&sealed.path);
            identity.count(usize::from(sealed.open.is_some()));
            sealed.open.iter().for_each(|open| identity.path(open));
        }
        identity.count(self.frozen.len());
        self.frozen.iter().for_each(|path| identity.path(path));
        identity.count(usize::from(self.own_directory().is_some()));
        self.own_directory().into_iter().for_each(|dir| identity.path(dir));
        identity.path(self.home());
        identity.0
    }
}

/// Texts and lists, each behind its length.
#[derive(Default)]
struct Identity(Vec<u8>);

impl Identity {
    fn count(&mut self, count: usize) {
        self.0.extend((count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.0.extend(text);
    }

    fn path(&mut self, path: &Path) {
        self.text(path.as_os_str().as_bytes());
    }

    fn rule(&mut self, rule: &PathRule) {
        match rule {
            PathRule::Path(path) => {
                self.count(0);
                self.path(path);
            }
            PathRule::Glob(pattern) => {
                let readings: Vec<&[u8]> = pattern.readings().collect();
                self.count(readings.len());
                readings.into_iter().for_each(|reading| self.text(reading));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::presets::PolicyBuilder;

    fn identity(change: impl Fn(PolicyBuilder) -> PolicyBuilder) -> Vec<u8> {
        let builder = Policy::session(Path::new("/s/1")).home(Path::new("/home/ann"));
        change(builder).build().unwrap().identity_without_network()
    }

    #[test]
    fn each_setting_for_files_changes_the_identity() {
        let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        let all = [
            identity(|builder| builder),
            identity(PolicyBuilder::protect_names),
            identity(PolicyBuilder::allow_git_config),
            identity(|builder| builder.home(Path::new("/home/bob"))),
            identity(|builder| builder.seal(Path::new("/x"))),
            identity(|builder| builder.deny_read(Path::new("/x"))),
            identity(|builder| builder.allow_read(Path::new("/x"))),
            identity(|builder| builder.allow_write(Path::new("/x"))),
            identity(|builder| builder.deny_write(Path::new("/x"))),
            // Texts would show both bytes as the same character.
            identity(|builder| builder.deny_write(path(b"/\xfe"))),
            identity(|builder| builder.deny_write(path(b"/\xff"))),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        assert_eq!(identity(|builder| builder), all[0]);
    }

    #[test]
    fn the_network_is_left_out() {
        let mut config = crate::SandboxRuntimeConfig::default();
        let build = |config: &crate::SandboxRuntimeConfig| {
            let policy = Policy::from_config(config.clone(), Path::new("/h")).unwrap();
            policy.identity_without_network()
        };
        let before = build(&config);
        config.network.allowed_domains.push("example.com".to_owned());
        assert_eq!(build(&config), before);
        config.filesystem.deny_read.push("/a*".into());
        assert_ne!(build(&config), before);
    }
}
