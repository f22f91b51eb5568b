//! A policy: valid settings with their path rules made absolute.

use std::path::{Path, PathBuf};

use crate::config::SandboxRuntimeConfig;
use crate::rules::{PathRule, RuleError};
use crate::validate::ValidationError;

/// What one session may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    config: SandboxRuntimeConfig,
    pub(crate) deny_read: Vec<PathRule>,
    pub(crate) allow_read: Vec<PathRule>,
    pub(crate) allow_write: Vec<PathRule>,
    pub(crate) deny_write: Vec<PathRule>,
}

/// Settings for a [`Policy`], from a preset on.
#[derive(Clone, Debug)]
pub struct PolicyBuilder {
    session_dir: PathBuf,
    home: PathBuf,
    config: SandboxRuntimeConfig,
}

/// Where other people's and the host's own data live; the preset `session` hides them.
const OTHERS: [&str; 19] = [
    "/home",
    "/root",
    "/srv",
    "/mnt",
    "/media",
    "/var",
    "/opt",
    "/tmp",
    "/run",
    "/boot",
    "/lost+found",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
];

/// What programs need of `/var`.
const NEEDED_OF_VAR: [&str; 6] = [
    "/var/cache/fontconfig",
    "/var/cache/ldconfig",
    "/var/lib/dpkg",
    "/var/lib/ghostscript",
    "/var/lib/locales",
    "/var/lib/texmf",
];

/// What programs need at all; the preset `closed` shows nothing else.
const SYSTEM: [&str; 34] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/sbin",
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/java-17-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/perl",
    "/etc/pki",
    "/etc/protocols",
    "/etc/python3.11",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/timezone",
];

impl Policy {
    /// The policy of the system that this one follows: everything but the home directory may be
    /// read, the session directory written, nobody talked to.
    pub fn reference(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        builder.config.filesystem.deny_read.push("~".to_owned());
        builder
    }

    /// The default: as [`Policy::reference`], and no place is shown where other people's data
    /// lives, among them all other sessions.
    pub fn session(session_dir: &Path) -> PolicyBuilder {
        let mut builder = Self::reference(session_dir);
        builder.config.filesystem.deny_read.extend(OTHERS.map(str::to_owned));
        builder.reads().extend(NEEDED_OF_VAR.map(str::to_owned));
        builder
    }

    /// Nothing may be read but the system's programs and the session directory.
    pub fn closed(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        builder.config.filesystem.deny_read.push("/".to_owned());
        builder.reads().extend(SYSTEM.map(str::to_owned));
        builder
    }

    /// Takes settings over. `~` stands for `home`. Relative paths are refused: srt would resolve
    /// them against the directory that its process happens to run in.
    ///
    /// # Errors
    /// [`PolicyError`] for what srt itself would refuse, and for path rules that cannot be used.
    pub fn from_config(config: SandboxRuntimeConfig, home: &Path) -> Result<Self, PolicyError> {
        config.validate().map_err(|source| PolicyError::Invalid { source })?;
        let read = |list: &[String]| -> Result<Vec<PathRule>, PolicyError> {
            list.iter()
                .map(|rule| {
                    PathRule::parse(rule, home).map_err(|source| PolicyError::Rule { source })
                })
                .collect()
        };
        let filesystem = &config.filesystem;
        Ok(Self {
            deny_read: read(&filesystem.deny_read)?,
            allow_read: read(filesystem.allow_read.as_deref().unwrap_or_default())?,
            allow_write: read(&filesystem.allow_write)?,
            deny_write: read(&filesystem.deny_write)?,
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &SandboxRuntimeConfig {
        &self.config
    }

    /// The settings as srt is to be given them, with every path of a rule absolute: srt would
    /// resolve `~` against the home directory of its own process.
    pub fn absolute_config(&self) -> SandboxRuntimeConfig {
        let text = |rules: &[PathRule]| rules.iter().map(ToString::to_string).collect();
        let mut config = self.config.clone();
        config.filesystem.deny_read = text(&self.deny_read);
        config.filesystem.allow_read = config.filesystem.allow_read.map(|_| text(&self.allow_read));
        config.filesystem.allow_write = text(&self.allow_write);
        config.filesystem.deny_write = text(&self.deny_write);
        config
    }

    /// Whether there are no rules for files at all.
    pub(crate) fn files_are_free(&self) -> bool {
        self.config.filesystem.disabled == Some(true)
    }

    /// Whether commands may use Unix sockets (`network.allowAllUnixSockets`).
    pub fn allows_unix_sockets(&self) -> bool {
        self.config.network.allow_all_unix_sockets == Some(true)
    }

    /// Whether `.git/config` may be written.
    pub(crate) fn allows_git_config(&self) -> bool {
        self.config.filesystem.allow_git_config == Some(true)
    }
}

impl PolicyBuilder {
    fn new(session_dir: &Path) -> Self {
        Self {
            session_dir: session_dir.to_owned(),
            home: PathBuf::from("/root"),
            config: SandboxRuntimeConfig::default(),
        }
    }

    fn reads(&mut self) -> &mut Vec<String> {
        self.config.filesystem.allow_read.get_or_insert_default()
    }

    /// The home directory that `~` stands for; `/root` unless given.
    #[must_use]
    pub fn home(mut self, home: &Path) -> Self {
        self.home = home.to_owned();
        self
    }

    /// Hides the directory that holds all sessions; this one's own stays in sight.
    #[must_use]
    pub fn sessions_root(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a directory of the host application.
    #[must_use]
    pub fn application_dir(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a path.
    #[must_use]
    pub fn deny_read(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_read.push(text(path));
        self
    }

    /// Shows a path inside a hidden one.
    #[must_use]
    pub fn allow_read(mut self, path: &Path) -> Self {
        self.reads().push(text(path));
        self
    }

    /// Lets a path be written to, and shows it.
    #[must_use]
    pub fn allow_write(mut self, path: &Path) -> Self {
        self.config.filesystem.allow_write.push(text(path));
        self
    }

    /// Keeps a path from being written to, whatever else says.
    #[must_use]
    pub fn deny_write(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_write.push(text(path));
        self
    }

    /// Lets `.git/config` be written to, which is protected otherwise.
    #[must_use]
    pub fn allow_git_config(mut self) -> Self {
        self.config.filesystem.allow_git_config = Some(true);
        self
    }

    /// The policy: the session directory is shown and may be written to; each path stands once in
    /// its list.
    ///
    /// # Errors
    /// [`PolicyError`] for relative paths, and paths that are not UTF-8.
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        let session_dir = text(&self.session_dir);
        self.reads().push(session_dir.clone());
        self.config.filesystem.allow_write.insert(0, session_dir);
        let filesystem = &mut self.config.filesystem;
        for list in [
            &mut filesystem.deny_read,
            filesystem.allow_read.get_or_insert_default(),
            &mut filesystem.allow_write,
        ] {
            let mut seen = std::collections::HashSet::new();
            list.retain(|entry| seen.insert(entry.clone()));
        }
        if self
            .config
            .filesystem
            .allow_read
            .iter()
            .flatten()
            .any(|path| path.contains(char::REPLACEMENT_CHARACTER))
        {
            return Err(PolicyError::NotText);
        }
        Policy::from_config(self.config, &self.home)
    }
}

/// Settings are JSON, so a path that is not UTF-8 cannot stand in them; [`PolicyBuilder::build`]
/// refuses it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Why settings are not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// srt itself would refuse them.
    #[error(transparent)]
    Invalid {
        /// What is wrong.
        source: ValidationError,
    },
    /// A path rule cannot be used.
    #[error(transparent)]
    Rule {
        /// What is wrong.
        source: RuleError,
    },
    /// A path is not UTF-8.
    #[error("a path of the policy is not UTF-8")]
    NotText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_open_the_session_directory_and_nothing_for_writing_else() {
        for builder in [Policy::reference, Policy::session, Policy::closed] {
            let policy = builder(Path::new("/s/1")).home(Path::new("/home/ann")).build().unwrap();
            assert_eq!(policy.config().filesystem.allow_write, ["/s/1"]);
            assert!(
                policy
                    .config()
                    .filesystem
                    .allow_read
                    .as_ref()
                    .unwrap()
                    .contains(&"/s/1".to_owned())
            );
            assert!(policy.config().network.allowed_domains.is_empty());
        }
    }

    #[test]
    fn relative_paths_are_refused_by_name() {
        let error = Policy::session(Path::new("s/1")).build().unwrap_err();
        assert!(error.to_string().contains("\"s/1\" is relative"), "{error}");
    }

    #[test]
    fn the_home_directory_stands_for_the_tilde() {
        let policy =
            Policy::reference(Path::new("/s")).home(Path::new("/home/ann")).build().unwrap();
        assert_eq!(policy.deny_read, [PathRule::Path("/home/ann".into())]);
        assert_eq!(policy.config().filesystem.deny_read, ["~"]);
        assert_eq!(policy.absolute_config().filesystem.deny_read, ["/home/ann"]);
    }
}
