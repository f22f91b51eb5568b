//! Errors of a session's files: opening, exchange with the store, and closing.

use std::path::PathBuf;

use artifact_sync::SyncError;
use sandbox_core::{FileError, SessionId};

use crate::error_kind::ErrorKind;
use crate::home::StateError;
use crate::sharing::SharingError;
use crate::storage::Storage;

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
    #[error("the session could not be restored from the store {store}")]
    Restore {
        /// The store, without credentials.
        store: Box<str>,
        /// The cause.
        source: SyncError,
    },
    /// The mirror of the session cannot be opened.
    #[error("the session's mirror cannot be opened")]
    Mirror {
        /// The cause.
        source: SyncError,
    },
    /// The store does not hold the log of the session: it was replaced or rolled back.
    #[error("{}", store_lost(id, *number))]
    StoreLost {
        /// The session.
        id: SessionId,
        /// The number of the entry that the files here follow.
        number: u64,
    },
    /// Another home owns the session, and its sessions are not taken over.
    #[error(
        "session {id} is open on another machine{}; --takeover wait waits for its release, \
         --takeover steal takes it over",
        at_url(url.as_deref())
    )]
    OwnedElsewhere {
        /// The session.
        id: SessionId,
        /// The address of the owner, if it has one.
        url: Option<String>,
    },
    /// The session was deleted everywhere, perhaps by another machine.
    #[error(
        "session {id} was deleted everywhere; `agent-tools session close {id} --discard` deletes \
         its files here, and then the id begins anew"
    )]
    Deleted {
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
    /// The session is not on this machine.
    #[error(
        "there is no session {id} on this machine (no {}); `agent-tools session list` shows the \
         existing ones, and opening it as its user fetches it from the store: \
         `agent-tools bash --session {id} --user USER true`",
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
            Self::Restore { source, .. } | Self::Mirror { source } => source.into(),
            Self::StoreLost { .. } => ErrorKind::Store,
            Self::OwnedElsewhere { .. } => ErrorKind::OwnedElsewhere,
            Self::Deleted { .. } => ErrorKind::Closed,
            Self::Sharing { source } => source.kind(),
            Self::NoSession { .. } => ErrorKind::NotFound,
        }
    }

    /// Returns whether opening the session may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::State { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::Restore { source, .. } | Self::Mirror { source } => source.is_retryable(),
            Self::OwnedElsewhere { .. } => true,
            Self::Sharing { source } => source.is_retryable(),
            Self::StoreLost { .. } | Self::Deleted { .. } | Self::NoSession { .. } => false,
        }
    }

    /// Returns the error for a mirror that could not be opened.
    /// `missing_from` is the store of a session that is not on this machine.
    pub(super) fn from_opening(
        id: &SessionId,
        error: OpeningError,
        missing_from: Option<&Storage>,
    ) -> Self {
        let id = id.clone();
        match error {
            OpeningError::State(source) => Self::State { source },
            OpeningError::Mirror(SyncError::OwnedElsewhere { url }) => {
                Self::OwnedElsewhere { id, url }
            }
            OpeningError::Mirror(SyncError::Erased) => Self::Deleted { id },
            OpeningError::Mirror(SyncError::StoreReplaced { number }) => {
                Self::StoreLost { id, number }
            }
            OpeningError::Mirror(source) => match missing_from {
                Some(storage) => Self::Restore { store: storage.place().into(), source },
                None => Self::Mirror { source },
            },
        }
    }
}

/// Error of opening a mirror.
#[derive(Debug)]
pub(super) enum OpeningError {
    State(StateError),
    Mirror(SyncError),
}

impl From<StateError> for OpeningError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<SyncError> for OpeningError {
    fn from(error: SyncError) -> Self {
        Self::Mirror(error)
    }
}

/// Renders the loss of a session by its store, with the ways out.
fn store_lost(id: &SessionId, number: u64) -> String {
    format!(
        "the store does not hold the log of session {id} up to entry {number}: it is another \
         store, or it was emptied or set back; if it is the right one, `agent-tools session sync \
         {id} --refill` stores the files of this machine again; `agent-tools session close {id} \
         --discard` deletes them here"
    )
}

/// Renders the address of an owner as the end of a message.
pub(crate) fn at_url(url: Option<&str>) -> String {
    url.map(|url| format!(", at {url}")).unwrap_or_default()
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
    /// The store does not hold the log of the session: it was replaced or rolled back.
    #[error("{}", store_lost(id, *number))]
    StoreLost {
        /// The session.
        id: SessionId,
        /// The number of the entry that the files here follow.
        number: u64,
    },
    /// The mirror rejected the key, or the store failed.
    #[error(transparent)]
    Mirror {
        /// The cause.
        source: SyncError,
    },
}

impl TransferError {
    /// Returns the error of a mirror for a session.
    pub(super) fn from_mirror(id: &SessionId, source: SyncError) -> Self {
        match source {
            SyncError::StoreReplaced { number } => Self::StoreLost { id: id.clone(), number },
            source => Self::Mirror { source },
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoStore { .. } => ErrorKind::NoStore,
            Self::Sharing { source } => source.kind(),
            Self::StoreLost { .. } => ErrorKind::Store,
            Self::Mirror { source } => source.into(),
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoStore { .. } | Self::StoreLost { .. } => false,
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
    /// Files cannot be stored at all, such as files over 5 GiB.
    #[error(
        "session {id} has files that cannot be stored ({count}), so it stays on this machine; \
         the first is {path}: {reason}; to delete them without a copy, close with --discard"
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
    /// Another file system is mounted below the session directory.
    #[error("another file system is mounted on {path} in session {id}; unmount it first")]
    MountPoint {
        /// The session.
        id: SessionId,
        /// The mount point, below the session directory.
        path: String,
    },
    /// The store failed, or does not hold what the session log refers to.
    #[error("session {id} stays on this machine")]
    Store {
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
            Self::Pending { .. } | Self::Unstorable { .. } | Self::OnlyCopy { .. } => {
                ErrorKind::Pending
            }
            Self::MountPoint { .. } => ErrorKind::Io,
            Self::Store { source, .. } => source.into(),
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
            Self::Unstorable { .. } | Self::OnlyCopy { .. } | Self::MountPoint { .. } => false,
            Self::Store { source, .. } => source.is_retryable(),
            Self::Sharing { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::State { source } => source.is_retryable(),
        }
    }
}
