//! Policies: valid settings with absolute path rules.

use std::path::{Path, PathBuf};

use crate::config::{FilesystemConfig, SandboxRuntimeConfig};
use crate::error::ErrorKind;
use crate::rules::{PathRule, RuleError};
use crate::validate::ValidationError;

/// Files and hosts that the commands of one session may access.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    config: SandboxRuntimeConfig,
    pub(crate) deny_read: Vec<PathRule>,
    pub(crate) allow_read: Vec<PathRule>,
    pub(crate) allow_write: Vec<PathRule>,
    pub(crate) deny_write: Vec<PathRule>,
    /// Paths that stay hidden whatever the rules say.
    pub(crate) sealed: Vec<PathBuf>,
}

/// Builder of a [`Policy`] that starts with a preset.
#[derive(Clone, Debug)]
pub struct PolicyBuilder {
    session_dir: PathBuf,
    home: PathBuf,
    config: SandboxRuntimeConfig,
    sealed: Vec<PathBuf>,
}

/// Directories with data of the host and of other users; the preset `session` hides them.
const HOST_DATA: [&str; 19] = [
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

/// Paths below `/var` that common programs read.
const VAR_OF_PROGRAMS: [&str; 6] = [
    "/var/cache/fontconfig",
    "/var/cache/ldconfig",
    "/var/lib/dpkg",
    "/var/lib/ghostscript",
    "/var/lib/locales",
    "/var/lib/texmf",
];

/// Paths that programs need in order to run; the preset `closed` shows no others.
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
    /// Starts with the policy of the reference system. Everything except the home directory is
    /// readable, the session directory is writable, and there is no network.
    pub fn reference(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        builder.config.filesystem.deny_read.push("~".to_owned());
        builder
    }

    /// Starts with the default policy: like [`Policy::reference`], but directories with data of
    /// other users are hidden, and so are all other sessions.
    pub fn session(session_dir: &Path) -> PolicyBuilder {
        let mut builder = Self::reference(session_dir);
        builder.config.filesystem.deny_read.extend(HOST_DATA.map(str::to_owned));
        builder.readable_paths().extend(VAR_OF_PROGRAMS.map(str::to_owned));
        builder
    }

    /// Starts with the closed policy. Only the system's programs and the session directory are
    /// readable.
    pub fn closed(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        builder.config.filesystem.deny_read.push("/".to_owned());
        builder.readable_paths().extend(SYSTEM.map(str::to_owned));
        builder
    }

    /// Starts with settings of the caller. The builder adds the session directory to the readable
    /// and the writable paths.
    pub fn custom(session_dir: &Path, config: SandboxRuntimeConfig) -> PolicyBuilder {
        PolicyBuilder { config, ..PolicyBuilder::new(session_dir) }
    }

    /// Creates a policy from settings. `~` is expanded to `home`.
    ///
    /// # Errors
    /// Returns [`PolicyError`] if srt would reject the settings or a path rule is relative. srt
    /// itself resolves a relative path against the working directory of its own process.
    pub fn from_config(config: SandboxRuntimeConfig, home: &Path) -> Result<Self, PolicyError> {
        config.validate().map_err(|source| PolicyError::Invalid { source })?;
        let parse = |list: &[String]| -> Result<Vec<PathRule>, PolicyError> {
            list.iter()
                .map(|rule| {
                    PathRule::parse(rule, home).map_err(|source| PolicyError::Rule { source })
                })
                .collect()
        };
        let filesystem = &config.filesystem;
        Ok(Self {
            deny_read: parse(&filesystem.deny_read)?,
            allow_read: parse(filesystem.allow_read.as_deref().unwrap_or_default())?,
            allow_write: parse(&filesystem.allow_write)?,
            deny_write: parse(&filesystem.deny_write)?,
            sealed: Vec::new(),
            config,
        })
    }

    /// Hides a path and everything below it whatever the rules say; see [`PolicyBuilder::seal`].
    #[must_use]
    pub fn seal(mut self, path: &Path) -> Self {
        self.sealed.push(path.to_owned());
        self
    }

    /// Returns the settings.
    pub fn config(&self) -> &SandboxRuntimeConfig {
        &self.config
    }

    /// Returns the settings for srt, with an absolute path in every rule. srt would expand `~` to
    /// the home directory of its own process.
    ///
    /// Sealed paths are in `denyRead`, and rules that open a path inside them are dropped. With
    /// `filesystem.disabled`, srt shows them all the same.
    pub fn absolute_config(&self) -> SandboxRuntimeConfig {
        let text = |rules: &[PathRule]| {
            rules.iter().map(ToString::to_string).filter(|rule| !self.is_sealed(rule)).collect()
        };
        let mut config = self.config.clone();
        config.filesystem.deny_read = text(&self.deny_read);
        let sealed = self.sealed.iter().map(|path| self::text(path));
        config.filesystem.deny_read.extend(sealed);
        config.filesystem.allow_read = config.filesystem.allow_read.map(|_| text(&self.allow_read));
        config.filesystem.allow_write = text(&self.allow_write);
        config.filesystem.deny_write = text(&self.deny_write);
        config
    }

    /// Returns whether a path lies in a sealed one.
    pub(crate) fn is_sealed(&self, path: impl AsRef<Path>) -> bool {
        self.sealed.iter().any(|sealed| path.as_ref().starts_with(sealed))
    }

    /// Returns whether `filesystem.disabled` lifts every rule for files.
    pub(crate) fn has_no_file_rules(&self) -> bool {
        self.config.filesystem.disabled == Some(true)
    }

    /// Returns whether commands may use Unix sockets (`network.allowAllUnixSockets`).
    pub fn allows_unix_sockets(&self) -> bool {
        self.config.network.allow_all_unix_sockets == Some(true)
    }

    /// Returns whether `.git/config` is writable.
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
            sealed: Vec::new(),
        }
    }

    fn readable_paths(&mut self) -> &mut Vec<String> {
        self.config.filesystem.allow_read.get_or_insert_default()
    }

    /// Sets the home directory that `~` is expanded to; the default is `/root`.
    #[must_use]
    pub fn home(mut self, home: &Path) -> Self {
        self.home = home.to_owned();
        self
    }

    /// Hides the directory of all sessions. The session's own directory stays visible.
    #[must_use]
    pub fn sessions_root(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a directory of the host application.
    #[must_use]
    pub fn application_dir(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a path and everything below it whatever the rules say, also from a policy that opens a
    /// path inside it or sets `filesystem.disabled`.
    #[must_use]
    pub fn seal(mut self, path: &Path) -> Self {
        self.sealed.push(path.to_owned());
        self
    }

    /// Hides a path and everything below it.
    #[must_use]
    pub fn deny_read(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_read.push(text(path));
        self
    }

    /// Makes a path inside a hidden one readable.
    #[must_use]
    pub fn allow_read(mut self, path: &Path) -> Self {
        self.readable_paths().push(text(path));
        self
    }

    /// Makes a path readable and writable.
    #[must_use]
    pub fn allow_write(mut self, path: &Path) -> Self {
        self.config.filesystem.allow_write.push(text(path));
        self
    }

    /// Makes a path read-only; this takes precedence over every other rule.
    #[must_use]
    pub fn deny_write(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_write.push(text(path));
        self
    }

    /// Makes `.git/config` writable, which is read-only by default.
    #[must_use]
    pub fn allow_git_config(mut self) -> Self {
        self.config.filesystem.allow_git_config = Some(true);
        self
    }

    /// Builds the policy. The session directory becomes readable and writable, and repeated paths
    /// are dropped.
    ///
    /// # Errors
    /// Returns [`PolicyError`] if a path is relative or not UTF-8.
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        let session_dir = text(&self.session_dir);
        self.readable_paths().push(session_dir.clone());
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
        let FilesystemConfig { deny_read, allow_read, allow_write, deny_write, .. } = filesystem;
        let paths = [deny_read, allow_read.get_or_insert_default(), allow_write, deny_write];
        let is_utf8 = |path: &String| !path.contains(char::REPLACEMENT_CHARACTER);
        if !paths.iter().all(|list| list.iter().all(is_utf8)) {
            return Err(PolicyError::NotUtf8);
        }
        let policy = Policy::from_config(self.config, &self.home)?;
        Ok(Policy { sealed: self.sealed, ..policy })
    }
}

/// Converts a path for the settings, which are JSON. [`PolicyBuilder::build`] rejects the
/// replacement characters of a path that is not UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Errors of [`Policy::from_config`] and [`PolicyBuilder::build`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// srt would reject the settings.
    #[error(transparent)]
    Invalid {
        /// The invalid value.
        source: ValidationError,
    },
    /// A path rule cannot be applied.
    #[error(transparent)]
    Rule {
        /// The path rule.
        source: RuleError,
    },
    /// A path is not UTF-8.
    #[error("a path of the policy is not UTF-8")]
    NotUtf8,
}

impl PolicyError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { source } => source.kind(),
            Self::Rule { source } => source.kind(),
            Self::NotUtf8 => ErrorKind::InvalidRule,
        }
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Access;

    #[test]
    fn presets_make_only_the_session_directory_writable() {
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
    fn custom_settings_get_the_session_directory_and_hidden_paths() {
        let mut config = SandboxRuntimeConfig::default();
        config.filesystem.allow_write.push("/data".to_owned());
        let builder = Policy::custom(Path::new("/h/s/1"), config);
        let policy = builder.application_dir(Path::new("/h")).build().unwrap();
        let readable = |path: &str| policy.explain(Path::new(path), Access::Read).allowed;
        let writable = |path: &str| policy.explain(Path::new(path), Access::Write).allowed;
        assert!(writable("/h/s/1/f") && writable("/data/f"));
        assert!(readable("/h/s/1/f") && !readable("/h/s/2/f"));
    }

    #[cfg(unix)]
    #[test]
    fn a_hidden_path_that_is_not_utf8_is_rejected() {
        use std::os::unix::ffi::OsStrExt;
        let dir = Path::new(std::ffi::OsStr::from_bytes(b"/a\xff"));
        let error = Policy::session(Path::new("/s")).application_dir(dir).build().unwrap_err();
        assert_eq!(error, PolicyError::NotUtf8);
    }

    #[test]
    fn a_sealed_path_stays_hidden_under_every_rule() {
        let mut disabled = SandboxRuntimeConfig::default();
        disabled.filesystem.disabled = Some(true);
        let session = Path::new("/h/s/1");
        for builder in [
            Policy::session(session).allow_read(Path::new("/h")),
            Policy::session(session).allow_write(Path::new("/h")).deny_read(Path::new("/h")),
            Policy::closed(session).allow_read(Path::new("/h/state/1")),
            Policy::custom(session, disabled),
        ] {
            let policy = builder.seal(Path::new("/h/state")).build().unwrap();
            for access in [Access::Read, Access::Write] {
                let verdict = policy.explain(Path::new("/h/state/1/token"), access);
                assert!(!verdict.allowed && verdict.remedy.is_none(), "{verdict:?}");
                assert!(policy.explain(Path::new("/h/s/1/f"), access).allowed);
            }
            let config = policy.absolute_config().filesystem;
            assert!(config.deny_read.contains(&"/h/state".to_owned()));
            assert!(!config.allow_read.unwrap_or_default().contains(&"/h/state/1".to_owned()));
        }
    }

    #[test]
    fn a_relative_path_is_rejected_by_name() {
        let error = Policy::session(Path::new("s/1")).build().unwrap_err();
        assert!(error.to_string().contains("\"s/1\" is relative"), "{error}");
    }

    #[test]
    fn a_tilde_is_expanded_to_the_home_directory() {
        let policy =
            Policy::reference(Path::new("/s")).home(Path::new("/home/ann")).build().unwrap();
        assert_eq!(policy.deny_read, [PathRule::Path("/home/ann".into())]);
        assert_eq!(policy.config().filesystem.deny_read, ["~"]);
        assert_eq!(policy.absolute_config().filesystem.deny_read, ["/home/ann"]);
    }
}
