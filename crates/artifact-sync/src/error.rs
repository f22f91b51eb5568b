//! Errors of a mirror.

use std::io;
use std::path::PathBuf;

use object_store::path::Path as Key;
use sandbox_core::{FileError, RelativePath};

use crate::log::{AppendError, ReadError};

/// Error returned by [`Mirror`](crate::Mirror).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The local state of the mirror cannot be used.
    #[error("cannot use {}", path.display())]
    Index {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The store cannot be listed.
    #[error("cannot list {prefix:?} in the store")]
    List {
        /// Prefix of the mirror.
        prefix: String,
        /// Error of the store.
        source: object_store::Error,
    },
    /// The session log cannot be read.
    #[error(transparent)]
    Log {
        /// Cause of the failure.
        source: ReadError,
    },
    /// The store does not hold the log that the working copy follows: it was replaced or rolled
    /// back.
    #[error(
        "the store does not hold the session log up to entry {number}: it is another store, or it \
         was emptied or set back; if it is the right one, `agent-tools session sync ID --refill` \
         stores the files of this machine again"
    )]
    StoreReplaced {
        /// Number of the entry that the working copy follows.
        number: u64,
    },
    /// Another home owns the session.
    #[error("another machine has the session open{}", at_url(url.as_deref()))]
    OwnedElsewhere {
        /// Address of the owner, if it has one.
        url: Option<String>,
    },
    /// Another process became the owner. This mirror stores nothing any more.
    #[error(
        "another home, on this machine or another one, took the session over; nothing more is \
         stored from here"
    )]
    LeaseLost,
    /// The mirror is being closed.
    #[error("the session is being closed")]
    Closing,
    /// The session was deleted.
    #[error("the session was deleted")]
    Erased,
    /// The store did not confirm a change.
    #[error("the session log cannot be written")]
    Append {
        /// Error of the store.
        source: object_store::Error,
    },
    /// The content of a file version is gone or damaged.
    #[error("{path} cannot be restored: {problem}")]
    Damaged {
        /// Path of the file.
        path: RelativePath,
        /// Explanation for a user.
        problem: String,
    },
    /// The session log no longer holds the state as of an entry.
    #[error(
        "the session log no longer retains entry {number}; it has the entries {oldest} to {last}"
    )]
    NotRetained {
        /// Number of the entry.
        number: u64,
        /// Number of the oldest entry that is retained.
        oldest: u64,
        /// Number of the last entry.
        last: u64,
    },
    /// The session log ends before an entry.
    #[error("the session log has no entry {number} yet; {}", entries(*.oldest, *.last))]
    NoEntry {
        /// Number of the entry.
        number: u64,
        /// Number of the oldest entry that is retained; zero if the log is empty.
        oldest: u64,
        /// Number of the last entry; zero if the log is empty.
        last: u64,
    },
    /// An entry removed nothing.
    #[error("entry {number} of the session log removed nothing")]
    NoRemoval {
        /// Number of the entry.
        number: u64,
    },
    /// The path had no version as of an entry.
    #[error("entry {number} has no file or symlink {path}")]
    NoVersion {
        /// Path of the file.
        path: RelativePath,
        /// Number of the entry.
        number: u64,
    },
    /// The path was a directory as of an entry, and only files and symlinks have versions.
    #[error(
        "{path} is a directory as of entry {number}; restore its files one by one; \
         `agent-tools session undelete ID {path}` brings back all files that were removed from it"
    )]
    DirectoryVersion {
        /// Path of the directory.
        path: RelativePath,
        /// Number of the entry.
        number: u64,
    },
    /// The store has no object with the key.
    #[error("the store has no object {key:?}")]
    NoObject {
        /// Key that the caller passed.
        key: String,
    },
    /// The path is a directory, or lies below a file or a symlink.
    #[error("the {kind} {by} is in the place of {path} now; move or remove it first")]
    Occupied {
        /// Path of the file.
        path: RelativePath,
        /// Path of the directory, or of the file or symlink above.
        by: String,
        /// `directory`, `file` or `symlink`.
        kind: &'static str,
    },
    /// The object cannot be fetched.
    #[error("cannot fetch {key:?}")]
    Fetch {
        /// Key of the object.
        key: String,
        /// Error of the store.
        source: object_store::Error,
    },
    /// The object's content does not have the size that the store announced.
    #[error("{key:?} has {expected} bytes, but {received} arrived")]
    SizeMismatch {
        /// Key of the object.
        key: String,
        /// Announced size in bytes.
        expected: u64,
        /// Number of received bytes.
        received: u64,
    },
    /// The key is not below the mirror's prefix.
    #[error("the key {key:?} is not below the prefix of this session, {:?}", format!("{prefix}/"))]
    ForeignKey {
        /// Key that the caller passed.
        key: String,
        /// Prefix of the mirror.
        prefix: Key,
    },
    /// The key does not represent a path in the directory.
    #[error("the key {key:?} does not represent a path in the session directory: {reason}")]
    UnsafeKey {
        /// Key that the caller passed.
        key: String,
        /// Explanation for a user.
        reason: String,
    },
    /// The path is not mirrored.
    #[error("{path} is not mirrored, so nothing is fetched to it")]
    NotMirrored {
        /// Path of the file.
        path: RelativePath,
    },
    /// A fetch would overwrite a change that is not in the store.
    #[error("{path} has a change that is not in the store yet; fetching would lose it")]
    LocalChange {
        /// Path of the file.
        path: RelativePath,
    },
    /// The directory that an earlier close has renamed cannot be removed.
    #[error("cannot remove what a close of the session has left in {}", path.display())]
    Leftover {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file operation.
        source: FileError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File {
        /// Error of the file operation.
        #[from]
        source: FileError,
    },
}

/// Classification of a [`SyncError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncErrorKind {
    /// The local state of the mirror cannot be used.
    State,
    /// The store failed.
    Store,
    /// The key cannot be fetched by this mirror.
    InvalidKey,
    /// The path is not mirrored.
    NotMirrored,
    /// A local change is in the way.
    LocalChange,
    /// Another home or process owns the session.
    Owned,
    /// The session is being closed or was deleted.
    Closed,
    /// The store lost the session log or a content.
    StoreDamaged,
    /// The session log has no such version.
    NoVersion,
    /// The file cannot be written.
    File,
}

impl SyncError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> SyncErrorKind {
        match self {
            Self::Index { .. } => SyncErrorKind::State,
            Self::List { .. }
            | Self::Fetch { .. }
            | Self::SizeMismatch { .. }
            | Self::Append { .. }
            | Self::Log { source: ReadError::Store { .. } } => SyncErrorKind::Store,
            Self::OwnedElsewhere { .. } | Self::LeaseLost => SyncErrorKind::Owned,
            Self::Closing | Self::Erased => SyncErrorKind::Closed,
            Self::Log { .. } | Self::StoreReplaced { .. } | Self::Damaged { .. } => {
                SyncErrorKind::StoreDamaged
            }
            Self::ForeignKey { .. } | Self::UnsafeKey { .. } | Self::NoObject { .. } => {
                SyncErrorKind::InvalidKey
            }
            Self::NotMirrored { .. } => SyncErrorKind::NotMirrored,
            Self::LocalChange { .. } | Self::Occupied { .. } => SyncErrorKind::LocalChange,
            Self::NotRetained { .. }
            | Self::NoEntry { .. }
            | Self::NoRemoval { .. }
            | Self::DirectoryVersion { .. }
            | Self::NoVersion { .. } => SyncErrorKind::NoVersion,
            Self::Leftover { .. } | Self::File { .. } => SyncErrorKind::File,
        }
    }

    /// Returns whether a retry may succeed. A [`SyncError::LocalChange`] is retryable because the
    /// next synchronisation stores the change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Index { source, .. } => is_transient_io(source),
            Self::List { source, .. }
            | Self::Fetch { source, .. }
            | Self::Append { source }
            | Self::Log { source: ReadError::Store { source } } => is_transient(source),
            Self::OwnedElsewhere { .. } => true,
            Self::Leftover { source, .. } | Self::File { source } => source.is_retryable(),
            Self::SizeMismatch { .. } | Self::LocalChange { .. } => true,
            Self::ForeignKey { .. }
            | Self::UnsafeKey { .. }
            | Self::NotMirrored { .. }
            | Self::Log { .. }
            | Self::StoreReplaced { .. }
            | Self::NotRetained { .. }
            | Self::NoEntry { .. }
            | Self::NoRemoval { .. }
            | Self::NoVersion { .. }
            | Self::DirectoryVersion { .. }
            | Self::NoObject { .. }
            | Self::Occupied { .. }
            | Self::LeaseLost
            | Self::Closing
            | Self::Erased
            | Self::Damaged { .. } => false,
        }
    }
}

impl From<AppendError> for SyncError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Fenced => Self::LeaseLost,
            AppendError::Store(source) => Self::Append { source },
        }
    }
}

fn entries(oldest: u64, last: u64) -> String {
    match last {
        0 => "it is empty".to_owned(),
        _ => format!("it has the entries {oldest} to {last}"),
    }
}

fn at_url(url: Option<&str>) -> String {
    url.map(|url| format!(", at {url}")).unwrap_or_default()
}

/// Returns an error and its causes on one line, like [`sandbox_core::with_causes`]. Of a failure of
/// a store on the local disk, only the error of the system is shown: the rest explains the library.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let system = system_error_on_disk(error);
        let part = system.unwrap_or(error).to_string();
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source().filter(|_| system.is_none());
    }
    text
}

/// Returns the error of the system if `error` is that of a store on the local disk.
fn system_error_on_disk<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e (dyn std::error::Error + 'static)> {
    match error.downcast_ref()? {
        object_store::Error::Generic { store: "LocalFileSystem" | "local disk", .. } => {
            let causes = std::iter::successors(error.source(), |error| error.source());
            causes.last().filter(|cause| cause.is::<io::Error>())
        }
        _ => None,
    }
}

/// Returns whether a retry of a store request may succeed. `object_store` uses the generic variant
/// for timeouts, broken connections and errors of the server.
pub(crate) fn is_transient(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
}

/// Returns whether a retry of a system call may succeed.
pub(crate) fn is_transient_io(error: &io::Error) -> bool {
    use io::ErrorKind;

    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::QuotaExceeded
            | ErrorKind::ResourceBusy
            | ErrorKind::StorageFull
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_local_disk_is_shown_without_the_texts_of_the_library() {
        #[derive(Debug, thiserror::Error)]
        #[error("Unable to copy data to file: {0}")]
        struct Copy(#[source] io::Error);
        let full = || Copy(io::Error::from_raw_os_error(28)).into();
        let failed = |store| SyncError::Append {
            source: object_store::Error::Generic { store, source: full() },
        };
        let expected = "the session log cannot be written: No space left on device (os error 28)";
        assert_eq!(with_causes(&failed("LocalFileSystem")), expected);
        let other = with_causes(&failed("S3"));
        assert!(other.contains("Generic S3 error: Unable to copy"), "{other}");
        let index = SyncError::Index { path: "/s".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(with_causes(&index), sandbox_core::with_causes(&index));
    }

    #[test]
    fn retryable_errors_are_those_that_pass_without_a_change() {
        let index = |kind: io::ErrorKind| SyncError::Index {
            path: PathBuf::from("/state"),
            source: kind.into(),
        };
        let fetch = |source| SyncError::Fetch { key: "k".to_owned(), source };
        let not_found =
            object_store::Error::NotFound { path: "k".to_owned(), source: "absent".into() };
        let generic = object_store::Error::Generic { store: "s", source: "timeout".into() };
        let not_mirrored = SyncError::NotMirrored { path: RelativePath::parse("a").unwrap() };
        for (error, kind, is_retryable) in [
            (index(io::ErrorKind::ResourceBusy), SyncErrorKind::State, true),
            (index(io::ErrorKind::PermissionDenied), SyncErrorKind::State, false),
            (fetch(not_found), SyncErrorKind::Store, false),
            (fetch(generic), SyncErrorKind::Store, true),
            (not_mirrored, SyncErrorKind::NotMirrored, false),
        ] {
            assert_eq!((error.kind(), error.is_retryable()), (kind, is_retryable), "{error}");
        }
    }
}
