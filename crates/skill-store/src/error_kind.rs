//! Kinds of errors, for callers that decide without reading texts.

/// Kind of an error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A reference, an id, a directory to publish, or a SKILL.md is invalid.
    InvalidInput,
    /// The store does not have the version, tag or file.
    NotFound,
    /// The version in the store is incomplete or exceeds a limit.
    Unusable,
    /// The version differs from its manifest, a lockfile or a signature.
    Unverified,
    /// Other publishers took every version number that was tried.
    Contended,
    /// The store denies access.
    Denied,
    /// The store does not respond, or responds with an unspecific error.
    StoreUnavailable,
    /// The store rejects the request for another reason.
    Store,
    /// A local file or directory cannot be read or written.
    Io,
}

impl ErrorKind {
    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Contended | Self::StoreUnavailable)
    }

    /// Classifies an error of an object store.
    pub(crate) fn of_store(error: &object_store::Error) -> Self {
        use object_store::Error;
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Self::Denied,
            Error::Generic { .. } | Error::JoinError { .. } => Self::StoreUnavailable,
            _ => Self::Store,
        }
    }
}
