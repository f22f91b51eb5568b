//! Policies: valid settings with absolute path rules.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::{PathEntry, SandboxRuntimeConfig};
use crate::error::ErrorKind;
use crate::network::NetworkPolicy;
use crate::rules::{PathRule, RuleError};
use crate::sealed::Sealed;
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
    pub(crate) sealed: Vec<Sealed>,
    /// Paths that stay read-only whatever the rules say.
    pub(crate) frozen: Vec<PathBuf>,
    /// The session's own directory, in which no name is protected.
    own: Option<PathBuf>,
    /// Home directory of the user, whose git reads its configuration there.
    home: PathBuf,
    /// Directories that a session sees empty instead of the host's.
    pub(crate) private: Vec<PathBuf>,
    pub(crate) network: NetworkPolicy,
}

impl Policy {
    /// Creates a policy from settings. `~` is expanded to `home`.
    ///
    /// # Errors
    /// Returns [`PolicyError`] if srt would reject the settings or a path rule is relative. srt
    /// itself resolves a relative path against the working directory of its own process.
    pub fn from_config(config: SandboxRuntimeConfig, home: &Path) -> Result<Self, PolicyError> {
        config.validate().map_err(|source| PolicyError::Invalid { source })?;
        let parse = |list: &[PathEntry]| -> Result<Vec<PathRule>, PolicyError> {
            let rules = list.iter().map(|entry| PathRule::parse(entry, home));
            rules.collect::<Result<_, _>>().map_err(|source| PolicyError::Rule { source })
        };
        let filesystem = &config.filesystem;
        let network = NetworkPolicy::compile_valid(&config.network)
            .map_err(|source| PolicyError::Invalid { source })?;
        Ok(Self {
            network,
            deny_read: parse(&filesystem.deny_read)?,
            allow_read: parse(filesystem.allow_read.as_deref().unwrap_or_default())?,
            allow_write: parse(&filesystem.allow_write)?,
            deny_write: parse(&filesystem.deny_write)?,
            sealed: Vec::new(),
            frozen: Vec::new(),
            own: None,
            home: home.to_owned(),
            private: Vec::new(),
            config,
        })
    }

    /// Sets the session's own directory, in which no name is protected.
    pub(crate) fn with_own_directory(self, own: Option<PathBuf>) -> Self {
        Self { own, ..self }
    }

    /// Sets the directories, such as `/tmp`, that a session sees empty and writable instead of the
    /// host's. [`Policy::explain`] then knows them; an engine passes them to [`Policy::mounts`].
    #[must_use]
    pub fn with_private(self, private: Vec<PathBuf>) -> Self {
        Self { private, ..self }
    }

    /// Returns the settings.
    pub fn config(&self) -> &SandboxRuntimeConfig {
        &self.config
    }

    /// Returns the settings for srt, with an absolute path in every rule. srt would expand `~` to
    /// the home directory of its own process.
    ///
    /// Sealed paths are in `denyRead`, and rules that open a path inside them are dropped. Frozen
    /// paths are in `denyWrite`. With `filesystem.disabled`, srt opens both all the same.
    pub fn absolute_config(&self) -> SandboxRuntimeConfig {
        let absolute = |rules: &[PathRule]| -> Vec<PathEntry> {
            let open = rules.iter().filter(|rule| match rule {
                PathRule::Path(path) => !self.is_sealed(path),
                PathRule::Glob(pattern) => !self.is_sealed(pattern.base()),
            });
            open.map(PathRule::to_entry).collect()
        };
        let mut config = self.config.clone();
        config.filesystem.deny_read = absolute(&self.deny_read);
        let sealed = self.sealed.iter().map(|sealed| sealed.path.as_path().into());
        config.filesystem.deny_read.extend(sealed);
        config.filesystem.allow_read =
            config.filesystem.allow_read.map(|_| absolute(&self.allow_read));
        config.filesystem.allow_write = absolute(&self.allow_write);
        config.filesystem.deny_write = absolute(&self.deny_write);
        let frozen = self.frozen.iter().map(|path| path.as_path().into());
        config.filesystem.deny_write.extend(frozen);
        config
    }

    /// Returns whether the settings as JSON have the same meaning. They have not if a path is not
    /// UTF-8.
    pub fn has_exact_json(&self) -> bool {
        let files = self.absolute_config().filesystem;
        let read = files.allow_read.unwrap_or_default();
        [files.deny_read, read, files.allow_write, files.deny_write]
            .iter()
            .flatten()
            .all(PathEntry::is_exact)
    }

    /// Returns whether a rule other than `except` can match `dir` or a path inside it.
    pub(crate) fn has_rule_inside(&self, dir: &Path, except: &PathRule) -> bool {
        let lists = [&self.deny_read, &self.allow_read, &self.allow_write, &self.deny_write];
        let can_match = |rule: &PathRule| match rule {
            PathRule::Path(path) => path.starts_with(dir),
            PathRule::Glob(pattern) => {
                let base = pattern.base();
                base.starts_with(dir) || dir.starts_with(base)
            }
        };
        lists.into_iter().flatten().any(|rule| rule != except && can_match(rule))
    }

    /// Returns whether `filesystem.disabled` lifts every rule for files.
    pub(crate) fn has_no_file_rules(&self) -> bool {
        self.config.filesystem.disabled == Some(true)
    }

    /// Returns whether commands may use Unix sockets (`network.allowAllUnixSockets`).
    pub fn allows_unix_sockets(&self) -> bool {
        self.config.network.allow_all_unix_sockets == Some(true)
    }

    /// Returns the session's own directory, unless its names are protected too.
    pub fn own_directory(&self) -> Option<&Path> {
        self.own.as_deref()
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns whether `.git/config` is writable.
    pub(crate) fn allows_git_config(&self) -> bool {
        self.config.filesystem.allow_git_config == Some(true)
    }
}

/// Errors of [`Policy::from_config`] and [`PolicyBuilder::build`](crate::PolicyBuilder::build).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// srt would reject the settings.
    Invalid {
        /// The invalid value.
        source: ValidationError,
    },
    /// A path rule cannot be applied.
    Rule {
        /// The path rule.
        source: RuleError,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { source } => source.fmt(f),
            Self::Rule { source } => source.fmt(f),
        }
    }
}

// The text is that of the source, so the source is no further cause.
impl std::error::Error for PolicyError {}

impl PolicyError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { source } => source.kind(),
            Self::Rule { source } => source.kind(),
        }
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}
