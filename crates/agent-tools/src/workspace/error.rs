//! Errors of a session's files: opening, exchange with the store, and closing.

use std::path::PathBuf;

use artifact_sync::SyncError;
use sandbox_core::{FileError, SessionId};

use crate::error_kind::ErrorKind;
use crate::home::StateError;
use crate::sharing::SharingError;

/// Errors returned when the files of a session are opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkspaceError {
    /// The session's state cannot be used.
    #[error(transparent)]
    State {
        /// The cause.
        #[from]
        source: StateError,
    },
    /// The session directory cannot be used.
    #[error(transparent)]
    Directory {
        /// The cause.
        #[from]
        source: FileError,
    },
    /// A session that is not on this machine could not be fetched from the store.
    #[error("the session could not be restored from the store")]
    Restore {
        /// The cause.
        source: SyncError,
    },
    /// The mirror of the session cannot be opened.
    #[error("the session's mirror cannot be opened")]
    Mirror {
        /// The cause.
        source: SyncError,
    },
    /// The process that serves the session refused or was lost.
    #[error(transparent)]
    Sharing {
        /// The cause.
        #[from]
        source: SharingError,
    },
    /// The session is not on this machine.
    #[error(
        "there is no session {id} on this machine (no {}); \
         `agent-tools session list` shows the existing ones",
        path.display()
    )]
    NoSession {
        /// The session.
        id: SessionId,
        /// The path that its directory would have.
        path: PathBuf,
    },
}

impl WorkspaceError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::State { source } => source.kind(),
            Self::Directory { source } => source.into(),
            Self::Restore { source } | Self::Mirror { source } => source.into(),
            Self::Sharing { source } => source.kind(),
            Self::NoSession { .. } => ErrorKind::NotFound,
        }
    }

    /// Returns whether opening the session may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::State { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::Restore { source } | Self::Mirror { source } => source.is_retryable(),
            Self::Sharing { source } => source.is_retryable(),
            Self::NoSession { .. } => false,
        }
    }
}

/// Errors returned when a session exchanges files with its store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The session has no store, or no user.
    #[error("session {id} has no store: it was opened without one, or without a user")]
    NoStore {
        /// The session.
        id: SessionId,
    },
    /// The process that serves the session refused or was lost.
    #[error(transparent)]
    Sharing {
        /// The cause.
        #[from]
        source: SharingError,
    },
    /// The mirror rejected the key, or the store failed.
    #[error(transparent)]
    Mirror {
        /// The cause.
        source: SyncError,
    },
}

impl TransferError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoStore { .. } => ErrorKind::NoStore,
            Self::Sharing { source } => source.kind(),
            Self::Mirror { source } => source.into(),
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoStore { .. } => false,
            Self::Sharing { source } => source.is_retryable(),
            Self::Mirror { source } => source.is_retryable(),
        }
    }
}

/// Errors returned when a session is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The session's files cannot be opened.
    #[error(transparent)]
    Workspace {
        /// The cause.
        #[from]
        source: WorkspaceError,
    },
    /// Changes are not in the store. Removing the directory would lose them.
    #[error(
        "session {id} has changes that are not in the store ({count}), so it stays on this \
         machine; the first is {path}: {reason}"
    )]
    Pending {
        /// The session.
        id: SessionId,
        /// The number of pending changes.
        count: usize,
        /// The first of them.
        path: String,
        /// The reason why it is pending.
        reason: String,
    },
    /// The process that serves the session refused or was lost.
    #[error(transparent)]
    Sharing {
        /// The cause.
        #[from]
        source: SharingError,
    },
    /// The directory could not be removed completely.
    #[error(transparent)]
    Directory {
        /// The cause.
        #[from]
        source: FileError,
    },
    /// The state could not be updated.
    #[error(transparent)]
    State {
        /// The cause.
        #[from]
        source: StateError,
    },
}

impl CloseError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Workspace { source } => source.kind(),
            Self::Pending { .. } => ErrorKind::Pending,
            Self::Sharing { source } => source.kind(),
            Self::Directory { source } => source.into(),
            Self::State { source } => source.kind(),
        }
    }

    /// Returns whether closing may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Workspace { source } => source.is_retryable(),
            Self::Pending { .. } => true,
            Self::Sharing { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::State { source } => source.is_retryable(),
        }
    }
}
