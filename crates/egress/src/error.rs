//! Errors of opening a gate or a network.

use std::io;

/// Error of opening a gate or a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// A bound of [`Limits`](crate::Limits) has an impossible value.
    #[error("the limit {name} has an impossible value")]
    #[non_exhaustive]
    Limit {
        /// The field.
        name: &'static str,
    },
    /// The call was made outside a tokio runtime with network and time.
    #[error("there is no tokio runtime")]
    NoRuntime,
    /// A descriptor is not a listener of its kind.
    #[error("the {name} listener cannot be used")]
    #[non_exhaustive]
    Listener {
        /// The kind: `proxy`, `transparent` or `dns`.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Kind of a [`GateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value of the caller is invalid.
    InvalidValue,
    /// The call needs a tokio runtime.
    NoRuntime,
    /// The kernel reported an error.
    Io,
}

impl GateError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit { .. } => ErrorKind::InvalidValue,
            Self::NoRuntime => ErrorKind::NoRuntime,
            Self::Listener { source, .. } => match source.kind() {
                io::ErrorKind::InvalidInput => ErrorKind::InvalidValue,
                _ => ErrorKind::Io,
            },
        }
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
