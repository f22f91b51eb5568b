//! Failures of the store, and its errors.

use object_store::{Error, MultipartId};

/// The effect of a failing call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// The store does nothing.
    #[default]
    Rejected,
    /// The store does the work, but its response is lost.
    ResponseLost,
    /// A download ends early, without an error. Other calls are rejected.
    Truncated,
    /// The store does nothing and denies access.
    Denied,
    /// Three of ten calls are rejected or lose their response, always the same ones.
    Random,
}

/// The store's answer to a request about an upload that it no longer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostUploads {
    /// The upload does not exist.
    #[default]
    NotFound,
    /// Access is denied, as if the upload belonged to another account.
    Denied,
}

impl Failure {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Denied => Error::PermissionDenied {
                path: String::new(),
                source: "the credentials have expired".into(),
            },
            _ => connection_lost(),
        }
    }
}

impl LostUploads {
    pub(super) fn error(self, id: &MultipartId) -> Error {
        let (path, source) = (id.clone(), "the upload does not exist".into());
        match self {
            Self::NotFound => Error::NotFound { path, source },
            Self::Denied => Error::PermissionDenied { path, source },
        }
    }
}

pub(super) fn connection_lost() -> Error {
    Error::Generic { store: "FailingStore", source: "the connection was lost".into() }
}
