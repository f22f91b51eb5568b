//! Errors returned when a session is opened.

use std::path::PathBuf;

use policy::PolicyError;
use sandbox_core::OpenError;
use secrets::SourceError;
use skill_store::SkillError;

use crate::error_kind::{self, ErrorKind};
use crate::network::NetworkError;
use crate::sharing::SharingError;
use crate::workspace::{WorkspaceError, at_url};

/// Errors returned when a session is opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session's files or its state cannot be used.
    #[error(transparent)]
    Workspace {
        /// The cause.
        source: WorkspaceError,
    },
    /// Another home owns the session, and its sessions are not taken over.
    #[error(
        "the session is open on another machine{}; --takeover wait waits for its release, \
         --takeover steal takes it over",
        at_url(url.as_deref())
    )]
    OwnedElsewhere {
        /// The address of the owner, if it has one.
        url: Option<String>,
    },
    /// A skill could not be installed.
    #[error("skill {skill} could not be installed")]
    Skill {
        /// The requested skill.
        skill: String,
        /// The cause.
        source: SkillError,
    },
    /// A skill was requested, and no store is configured.
    #[error("skill {skill} cannot be installed: no store is configured")]
    NoSkillStore {
        /// The requested skill.
        skill: String,
    },
    /// Two skills of one request have the same directory.
    #[error(
        "the skills {first} and {second} have the same directory skills/{name}; give one of them \
         another name, as in {second}=NAME"
    )]
    SameSkillName {
        /// The directory below `skills/`.
        name: String,
        /// The first skill.
        first: String,
        /// The second skill, without its name.
        second: String,
    },
    /// The policy is invalid.
    #[error("the session's policy is invalid")]
    Policy {
        /// The cause.
        source: PolicyError,
    },
    /// The database of variables has no table of them, so it is hardly the one that was meant.
    #[error("the session's variables cannot be used")]
    Variables {
        /// The cause.
        source: SourceError,
    },
    /// A path that commands should access does not exist or cannot be reached.
    #[error("cannot allow access to {}", path.display())]
    MissingPath {
        /// The path.
        path: PathBuf,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The session's network cannot be opened.
    #[error("the session's network cannot be opened")]
    Network {
        /// The reason and the remedy.
        source: NetworkError,
    },
    /// The machine cannot provide the sandbox.
    #[error("the sandbox cannot be opened")]
    Sandbox {
        /// The missing layer, the reason and the remedy.
        source: OpenError,
    },
}

impl SessionError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Workspace { source } => source.kind(),
            Self::OwnedElsewhere { .. } => ErrorKind::OwnedElsewhere,
            Self::Skill { source, .. } => source.into(),
            Self::NoSkillStore { .. } => ErrorKind::NoStore,
            Self::Policy { .. } | Self::SameSkillName { .. } | Self::Variables { .. } => {
                ErrorKind::InvalidInput
            }
            Self::MissingPath { source, .. } => error_kind::of_io(source),
            Self::Network { source } => source.kind(),
            Self::Sandbox { source } => source.into(),
        }
    }

    /// Returns whether opening the session may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Workspace { source } => source.is_retryable(),
            Self::OwnedElsewhere { .. } => true,
            Self::Skill { source, .. } => source.is_retryable(),
            Self::Network { source } => source.is_retryable(),
            Self::Sandbox { source } => source.is_retryable(),
            Self::NoSkillStore { .. }
            | Self::SameSkillName { .. }
            | Self::Variables { .. }
            | Self::Policy { .. }
            | Self::MissingPath { .. } => false,
        }
    }
}

impl From<SharingError> for SessionError {
    fn from(error: SharingError) -> Self {
        WorkspaceError::from(error).into()
    }
}

impl From<WorkspaceError> for SessionError {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::OwnedElsewhere { url, .. } => Self::OwnedElsewhere { url },
            source => Self::Workspace { source },
        }
    }
}
