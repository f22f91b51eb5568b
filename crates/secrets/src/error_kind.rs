//! Kinds of errors, for callers that decide without reading texts.

/// Kind of an error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a value, a URL, a passphrase, or a dotenv file is invalid or missing.
    InvalidInput,
    /// The source does not respond.
    Unreachable,
    /// The source denies access.
    Denied,
    /// The data is damaged or has an unknown form.
    Damaged,
    /// The source or the operating system failed in another way.
    Failed,
}

impl ErrorKind {
    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self == Self::Unreachable
    }
}
