//! Errors of the state of sessions.

use std::io;
use std::path::{Path, PathBuf};

use sandbox_core::SessionId;

use crate::error_kind::ErrorKind;

/// Errors returned when the state of sessions is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process holds the session and does not serve it.
    #[error(
        "session {session} is in use by {}, which does not answer; \
         wait until that process ends, or use another session",
        match pid {
            Some(pid) => format!("process {pid}"),
            None => "another process".to_owned(),
        }
    )]
    InUse {
        /// The session.
        session: SessionId,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// The session on this machine belongs to another user.
    #[error("session {session} belongs to another user; close it first, or use another session")]
    WrongUser {
        /// The session.
        session: SessionId,
    },
    /// A file of the state has invalid content.
    #[error("{} is damaged; remove it to let any user open the session", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation, such as `read`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl StateError {
    pub(crate) fn in_use(session: &SessionId, pid: Option<u32>) -> Self {
        Self::InUse { session: session.clone(), pid }
    }

    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::InUse,
            Self::WrongUser { .. } => ErrorKind::Denied,
            Self::Damaged { .. } | Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}
