//! Errors of a session's files: opening, and exchange with the store.

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
    /// The directory that an earlier close has renamed cannot be removed.
    #[error(transparent)]
    Leftover {
        /// The cause.
        source: SyncError,
    },
    /// The store is a directory in which the home keeps sessions or their state.
    #[error(
        "a store cannot be at {}: {} belongs to the sessions, and what they delete there would be \
         deleted from the store; name another directory",
        store.display(),
        root.display()
    )]
    StoreAmongSessions {
        /// The directory of the store.
        store: PathBuf,
        /// The directory of the home that contains it, or is it.
        root: PathBuf,
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
            Self::Restore { source, .. } | Self::Mirror { source } | Self::Leftover { source } => {
                source.into()
            }
            Self::StoreAmongSessions { .. } => ErrorKind::InvalidInput,
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
            Self::Restore { source, .. } | Self::Mirror { source } | Self::Leftover { source } => {
                source.is_retryable()
            }
            Self::OwnedElsewhere { .. } => true,
            Self::Sharing { source } => source.is_retryable(),
            Self::StoreAmongSessions { .. }
            | Self::StoreLost { .. }
            | Self::Deleted { .. }
            | Self::NoSession { .. } => false,
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
            OpeningError::Mirror(source @ SyncError::Leftover { .. }) => Self::Leftover { source },
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
    /// The session has no state on this machine, so its user and its store are unknown.
    #[error(
        "the state of session {id} is lost, so its user is unknown, and what the store has of it; \
         `agent-tools bash --session {id} --user USER true` opens it as its user again"
    )]
    Unclaimed {
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
            Self::Unclaimed { .. } => ErrorKind::Pending,
            Self::Sharing { source } => source.kind(),
            Self::StoreLost { .. } => ErrorKind::Store,
            Self::Mirror { source } => source.into(),
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoStore { .. } | Self::Unclaimed { .. } | Self::StoreLost { .. } => false,
            Self::Sharing { source } => source.is_retryable(),
            Self::Mirror { source } => source.is_retryable(),
        }
    }
}
