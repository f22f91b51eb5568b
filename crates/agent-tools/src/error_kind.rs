//! Kinds of errors, for callers that decide without reading texts.

use std::io;

use artifact_sync::{SyncError, SyncErrorKind};
use sandbox_core::{ExecError, ExecErrorKind, FileError, FileErrorKind, OpenError, OpenErrorKind};
use serde::{Deserialize, Serialize};
use skill_store::SkillError;

/// Kind of an error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A path, key, policy, skill or tool input is invalid.
    InvalidInput,
    /// A session, file, skill or tool does not exist.
    NotFound,
    /// The policy or the store denies the access, or the session belongs to another user.
    Denied,
    /// Another process holds the session and does not serve it.
    InUse,
    /// Another machine has the session open.
    OwnedElsewhere,
    /// Another machine took the session over while it was open here.
    LeaseLost,
    /// The session is open with other settings.
    Differs,
    /// The process that served the session ended during the call.
    ServerLost,
    /// The session was closed or deleted.
    Closed,
    /// Files are not in the store: not yet, or because they cannot be stored.
    Pending,
    /// The session has no store.
    NoStore,
    /// The store failed.
    Store,
    /// The sandbox cannot be opened, or cannot run the command.
    Sandbox,
    /// A local file or directory cannot be read or written.
    Io,
    /// The client broke the protocol or the connection.
    Client,
    /// The async runtime shut down, a task panicked, or a result cannot be expressed as JSON.
    #[serde(other)]
    Internal,
}

impl From<&FileError> for ErrorKind {
    fn from(error: &FileError) -> Self {
        match error.kind() {
            FileErrorKind::NotFound => Self::NotFound,
            FileErrorKind::Escapes
            | FileErrorKind::SymlinkLoop
            | FileErrorKind::NotAFile
            | FileErrorKind::TooLarge => Self::InvalidInput,
            _ => Self::Io,
        }
    }
}

impl From<&SyncError> for ErrorKind {
    fn from(error: &SyncError) -> Self {
        match error.kind() {
            SyncErrorKind::InvalidKey | SyncErrorKind::NotMirrored => Self::InvalidInput,
            SyncErrorKind::LocalChange => Self::Pending,
            SyncErrorKind::Store | SyncErrorKind::StoreDamaged => Self::Store,
            SyncErrorKind::Owned => match error {
                SyncError::LeaseLost => Self::LeaseLost,
                _ => Self::OwnedElsewhere,
            },
            SyncErrorKind::Closed => Self::Closed,
            _ => Self::Io,
        }
    }
}

impl From<&SkillError> for ErrorKind {
    fn from(error: &SkillError) -> Self {
        match error.kind() {
            skill_store::ErrorKind::InvalidInput => Self::InvalidInput,
            skill_store::ErrorKind::NotFound => Self::NotFound,
            skill_store::ErrorKind::Denied => Self::Denied,
            skill_store::ErrorKind::Io => Self::Io,
            _ => Self::Store,
        }
    }
}

impl From<&OpenError> for ErrorKind {
    fn from(error: &OpenError) -> Self {
        match error.kind() {
            OpenErrorKind::Policy => Self::InvalidInput,
            _ => Self::Sandbox,
        }
    }
}

impl From<&ExecError> for ErrorKind {
    fn from(error: &ExecError) -> Self {
        match error.kind() {
            ExecErrorKind::BadRequest => Self::InvalidInput,
            _ => Self::Sandbox,
        }
    }
}

/// Returns the kind of an error of a system call on a path that the caller named.
pub(crate) fn of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    }
}
