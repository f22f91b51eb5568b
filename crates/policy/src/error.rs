//! Kinds of errors, for callers that decide without reading texts.

use std::io;

/// Kind of an error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not JSON.
    Syntax,
    /// A key is unknown.
    UnknownKey,
    /// A value is missing, has the wrong type, or is invalid.
    InvalidValue,
    /// A path rule cannot be applied.
    InvalidRule,
    /// A limit of the compiler is exceeded.
    LimitExceeded,
    /// The file system reported an error, which a later attempt repeats.
    Io,
    /// The file system changed during compilation, or was busy.
    TransientIo,
}

impl ErrorKind {
    /// Classifies an error that a [`Tree`](crate::Tree) returned.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock => Self::TransientIo,
            _ => Self::Io,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(self) -> bool {
        self == Self::TransientIo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_changed_or_busy_file_system_is_worth_another_attempt() {
        let kind = |kind: io::ErrorKind| ErrorKind::of_io(&kind.into());
        assert!(kind(io::ErrorKind::NotFound).is_retryable());
        assert!(kind(io::ErrorKind::ResourceBusy).is_retryable());
        assert!(!kind(io::ErrorKind::PermissionDenied).is_retryable());
        assert!(!ErrorKind::InvalidValue.is_retryable());
    }
}
