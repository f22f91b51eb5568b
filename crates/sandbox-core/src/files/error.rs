//! What can go wrong with a file of a session.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a file of a session could not be reached.
///
/// Paths are relative to the session directory where the file lies inside it. Contents never
/// appear.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused; the source says why.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, such as `open` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A symlink on the way leads out of the session directory.
    #[error("{} leads out of the session directory through a symlink", path.display())]
    Escapes {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The path names something whose content cannot be read or replaced.
    #[error("{} is {found}, not a regular file", path.display())]
    NotAFile {
        /// The path as it was asked for.
        path: PathBuf,
        /// What is there, such as `a directory`.
        found: &'static str,
    },
    /// The file is larger than the caller accepts.
    #[error("{} has {size} bytes; at most {max_bytes} are read", path.display())]
    TooLarge {
        /// The path as it was asked for.
        path: PathBuf,
        /// The file's size in bytes.
        size: u64,
        /// What the caller accepts, in bytes.
        max_bytes: u64,
    },
    /// A session directory that must not be used.
    #[error("session directory {} {problem}", path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, such as `is a symlink`.
        problem: &'static str,
    },
}

/// The kinds of [`FileError`] that callers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// Nothing is there.
    NotFound,
    /// The path leads out of the session directory.
    Escapes,
    /// Something other than a regular file is there.
    NotAFile,
    /// The file is over the caller's limit.
    TooLarge,
    /// The disk or the quota is full.
    StorageFull,
    /// Anything else.
    Other,
}

impl FileError {
    /// The kind, for callers that branch.
    pub fn kind(&self) -> FileErrorKind {
        match self {
            Self::Escapes { .. } => FileErrorKind::Escapes,
            Self::NotAFile { .. } => FileErrorKind::NotAFile,
            Self::TooLarge { .. } => FileErrorKind::TooLarge,
            Self::UnsafeDirectory { .. } => FileErrorKind::Other,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FileErrorKind::NotFound,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    FileErrorKind::StorageFull
                }
                _ => FileErrorKind::Other,
            },
        }
    }

    /// The error of a system call that worked on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }

    /// As [`FileError::io`], for calls that resolve the path beneath the session directory: the
    /// kernel says `EXDEV` when a symlink leads out and `ELOOP` when it meets a magic link
    /// (`openat2(2)`).
    pub(super) fn beneath(operation: &'static str, path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::XDEV | Errno::LOOP => Self::Escapes { path: path.to_owned() },
            errno => Self::io(operation, path, errno),
        }
    }
}
