//! Errors of closing and deleting a session.

use artifact_sync::{SyncError, SyncErrorKind};
use sandbox_core::{FileError, SessionId};

use crate::error_kind::ErrorKind;
use crate::home::StateError;
use crate::sharing::SharingError;
use crate::workspace::WorkspaceError;

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
         machine; the first is {path}: {reason}; to lose them, close with --discard"
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
    /// The store lost the session log, so the directory may be the only copy of its files.
    #[error(
        "session {id} stays on this machine: {count} files here have no copy in the store; the \
         first is {path}"
    )]
    NoCopy {
        /// The session.
        id: SessionId,
        /// The number of files.
        count: usize,
        /// The first of them.
        path: String,
        /// The cause, with the ways out.
        source: Box<WorkspaceError>,
    },
    /// Files cannot be stored at all, such as files over 5 GiB.
    #[error(
        "session {id} has files with content that cannot be stored ({count}), so it stays on this \
         machine; the first is {path}: {reason}; `agent-tools session sync {id}` lists all that \
         are skipped; to delete them without a copy, close with --discard"
    )]
    Unstorable {
        /// The session.
        id: SessionId,
        /// The number of these files.
        count: usize,
        /// The first of them.
        path: String,
        /// The reason why it cannot be stored.
        reason: String,
    },
    /// The session has no store or no user, so its directory is the only copy of its files.
    #[error(
        "session {id} has no store, and this machine has the only copy of its files; \
         to delete them, close with --discard"
    )]
    OnlyCopy {
        /// The session.
        id: SessionId,
    },
    /// The session has no state on this machine, so its user and its store are unknown.
    #[error(
        "the state of session {id} is lost, so its user is unknown, and what the store has of it; \
         `agent-tools bash --session {id} --user USER true` opens it as its user again, and then \
         this works; `agent-tools session close {id} --discard` only deletes the files here"
    )]
    Unclaimed {
        /// The session.
        id: SessionId,
    },
    /// The session was deleted before, and another machine has begun it anew.
    #[error(
        "the files of session {id} on this machine were those of a deleted session, and are \
         removed; another machine has begun {id} anew since, and that session stays; to delete \
         it too, open it with `agent-tools bash --session {id} --user USER true`, then repeat"
    )]
    BegunAnew {
        /// The session.
        id: SessionId,
    },
    /// Another file system is mounted below the session directory.
    #[error("another file system is mounted on {path} in session {id}; unmount it first")]
    MountPoint {
        /// The session.
        id: SessionId,
        /// The mount point, below the session directory.
        path: String,
    },
    /// The store failed, or does not hold what the session log refers to.
    #[error("session {id} stays on this machine{}", remedy(source))]
    Store {
        /// The session.
        id: SessionId,
        /// The cause.
        source: SyncError,
    },
    /// The store failed while the session was being deleted.
    #[error("session {id} is not deleted, or not completely; delete it again when the store works")]
    NotDeleted {
        /// The session.
        id: SessionId,
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
            Self::NoCopy { source, .. } => source.kind(),
            Self::Pending { .. }
            | Self::Unstorable { .. }
            | Self::OnlyCopy { .. }
            | Self::Unclaimed { .. } => ErrorKind::Pending,
            Self::BegunAnew { .. } => ErrorKind::Closed,
            Self::MountPoint { .. } => ErrorKind::Io,
            Self::Store { source, .. } | Self::NotDeleted { source, .. } => source.into(),
            Self::Sharing { source } => source.kind(),
            Self::Directory { source } => source.into(),
            Self::State { source } => source.kind(),
        }
    }

    /// Returns whether closing may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Workspace { source } => source.is_retryable(),
            Self::NoCopy { source, .. } => source.is_retryable(),
            Self::Pending { .. } => true,
            Self::Unstorable { .. }
            | Self::OnlyCopy { .. }
            | Self::Unclaimed { .. }
            | Self::BegunAnew { .. }
            | Self::MountPoint { .. } => false,
            Self::Store { source, .. } | Self::NotDeleted { source, .. } => source.is_retryable(),
            Self::Sharing { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::State { source } => source.is_retryable(),
        }
    }
}

/// Renders the next step after a failure of the store.
fn remedy(error: &SyncError) -> &'static str {
    match error.kind() {
        SyncErrorKind::Store => {
            "; close it again when the store works, or with --discard, which deletes what the \
             store lacks"
        }
        _ => "",
    }
}
