//! Errors of sessions that several processes share.

use std::fmt;
use std::io;
use std::path::PathBuf;

use sandbox_core::SessionId;
use serde::{Deserialize, Serialize};

use super::gate::Departure;
use crate::error_kind::ErrorKind;
use crate::sessions::SessionError;

/// Errors of a session that another process, or another `Sessions` of this one, serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharingError {
    /// The call failed in the process that serves the session.
    #[error("{message}")]
    Served {
        /// The kind of the original error.
        kind: ErrorKind,
        /// The original error's `is_retryable()`.
        is_retryable: bool,
        /// The original error and its causes.
        message: String,
    },
    /// The process that served the session ended during the call.
    #[error(
        "process {pid}, which served session {session}, ended during the call; \
         the call may have had effects, so it is not repeated"
    )]
    ServerLost {
        /// The session.
        session: SessionId,
        /// The process.
        pid: u32,
    },
    /// The session was closed after this handle had been opened.
    #[error("session {session} was closed; to use it, open it again")]
    Closed {
        /// The session.
        session: SessionId,
    },
    /// The session was deleted everywhere after this handle had been opened.
    #[error("session {session} was deleted everywhere; opened again, it is empty")]
    Deleted {
        /// The session.
        session: SessionId,
    },
    /// The session was closed or deleted during the call.
    #[error(
        "the command was killed before its end, because {} {departure} session {session}; it \
         may have had effects",
        match by {
            Some(pid) => format!("process {pid}"),
            None => "another call".to_owned(),
        }
    )]
    ClosedDuringCall {
        /// The session.
        session: SessionId,
        /// The process that closed or deleted the session, if it was another one.
        by: Option<u32>,
        /// The way in which the session left.
        departure: Departure,
    },
    /// This process is about to exit, and begins no calls.
    #[error("session {session} accepts no calls, because this process is about to exit")]
    Draining {
        /// The session.
        session: SessionId,
    },
    /// The session is open with other settings.
    #[error(
        "session {session} is open in process {pid} with other settings: {}; \
         use the same settings, or end that process",
        texts(what)
    )]
    Differs {
        /// The session.
        session: SessionId,
        /// The process that serves the session.
        pid: u32,
        /// The settings that differ.
        what: Vec<Difference>,
    },
    /// This process and the one that serves the session do not accept each other.
    #[error("session {session} is served by process {pid}, which cannot be used: {reason}")]
    Rejected {
        /// The session.
        session: SessionId,
        /// The process that serves the session.
        pid: u32,
        /// The reason.
        reason: String,
    },
    /// The session could not be opened again after the process that served it had ended.
    #[error("session {session} could not be opened again")]
    Reopen {
        /// The session.
        session: SessionId,
        /// The cause.
        source: Box<SessionError>,
    },
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation, such as `listen on`.
        operation: &'static str,
        /// The file or socket.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl SharingError {
    /// Returns the error of a call in a session that has left this machine.
    pub(crate) fn left(session: &SessionId, departure: Departure) -> Self {
        let session = session.clone();
        match departure {
            Departure::Closed => Self::Closed { session },
            Departure::Deleted => Self::Deleted { session },
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Served { kind, .. } => *kind,
            Self::ServerLost { .. } => ErrorKind::ServerLost,
            Self::Closed { .. }
            | Self::Deleted { .. }
            | Self::ClosedDuringCall { .. }
            | Self::Draining { .. } => ErrorKind::Closed,
            Self::Differs { .. } => ErrorKind::Differs,
            Self::Rejected { .. } => ErrorKind::Denied,
            Self::Reopen { source, .. } => source.kind(),
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns whether the same call may succeed later without any change. A call whose server was
    /// lost is not retryable, because it may have had effects.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Served { is_retryable, .. } => *is_retryable,
            Self::Reopen { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

/// A setting of a session that differs between two processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Difference {
    /// The rules for files.
    Policy,
    /// The rules for the network.
    Network,
    /// The source of the session's variables, or their names or values if it has no name.
    Variables,
    /// The engine, or its limits.
    Engine,
    /// The store of the artifacts.
    Store,
    /// Only this process asked that stored changes survive a loss of power.
    Durability,
    /// The server installs skills that none of this process's keys has signed.
    SkillKeys,
    /// A directory or file that only this process asked to hide.
    VisibleDirectory {
        /// The directory or file.
        path: PathBuf,
    },
    /// A file of settings that only this process asked to protect.
    WritableFile {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("policy (files, or skills that are read-only)"),
            Self::Network => f.write_str("network"),
            Self::Variables => f.write_str("variables (their source, or their selection)"),
            Self::Engine => f.write_str("engine"),
            Self::Store => f.write_str("store"),
            Self::Durability => f.write_str("durability"),
            Self::SkillKeys => f.write_str("keys of skills"),
            Self::VisibleDirectory { path } => {
                write!(f, "policy ({} is visible)", path.display())
            }
            Self::WritableFile { path } => {
                write!(f, "policy ({} is writable)", path.display())
            }
        }
    }
}

fn texts(what: &[Difference]) -> String {
    what.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
