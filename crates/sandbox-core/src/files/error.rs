//! Errors of file access in a session directory.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::transient::is_transient;

/// Errors returned by [`SessionDir`](super::SessionDir) and [`StagedFile`](super::StagedFile).
///
/// The path of a file inside the session directory is relative to it. File contents never appear.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system reported an error.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The failed operation, such as `open` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file, or the directory that has it, has the attribute of immutable files (`chattr(1)`).
    #[error("cannot remove {}: it is immutable; `chattr -i` makes it removable", path.display())]
    Immutable {
        /// The file.
        path: PathBuf,
    },
    /// A symlink on the path leads out of the session directory.
    #[error("{} leads out of the session directory through a symlink", path.display())]
    Escapes {
        /// The path as the caller gave it.
        path: PathBuf,
    },
    /// The symlinks on the path lead to each other.
    #[error("{} leads into a loop of symlinks", path.display())]
    SymlinkLoop {
        /// The path as the caller gave it.
        path: PathBuf,
    },
    /// The path names a file of another type, which cannot be read or replaced.
    #[error("{} is {found}, not a regular file", path.display())]
    NotAFile {
        /// The path as the caller gave it.
        path: PathBuf,
        /// The type that was found, such as `a directory`.
        found: &'static str,
    },
    /// The file is larger than the caller accepts.
    #[error("{} has {size} bytes; at most {max_bytes} are read", path.display())]
    TooLarge {
        /// The path as the caller gave it.
        path: PathBuf,
        /// The file's size in bytes.
        size: u64,
        /// The caller's limit, in bytes.
        max_bytes: u64,
    },
    /// Other file systems are mounted inside a removed tree. They and the directories above them
    /// were kept.
    #[error("{} was not removed: mount points at {}", path.display(), listed(mount_points))]
    MountPoints {
        /// The tree, as the caller gave it.
        path: PathBuf,
        /// The mount points, relative to the tree.
        mount_points: Vec<PathBuf>,
    },
    /// Another file system is mounted on a directory of the path, and hides the one below.
    #[error("another file system is mounted above {}", path.display())]
    Mounted {
        /// The path as the caller gave it.
        path: PathBuf,
    },
    /// The session directory is not safe to use.
    #[error("session directory {} {problem}", path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// The problem, such as `is a symlink`.
        problem: &'static str,
    },
}

/// Kinds of [`FileError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// The file does not exist.
    NotFound,
    /// The path leads out of the session directory.
    Escapes,
    /// The symlinks on the path lead to each other.
    SymlinkLoop,
    /// The path names something other than a regular file.
    NotAFile,
    /// The file is larger than the caller's limit.
    TooLarge,
    /// A mount point lies inside a tree that was to be removed, or above a path.
    MountPoint,
    /// The disk or the quota is full.
    StorageFull,
    /// Any other error.
    Other,
}

impl FileError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> FileErrorKind {
        match self {
            Self::Escapes { .. } => FileErrorKind::Escapes,
            Self::SymlinkLoop { .. } => FileErrorKind::SymlinkLoop,
            Self::NotAFile { .. } => FileErrorKind::NotAFile,
            Self::TooLarge { .. } => FileErrorKind::TooLarge,
            Self::UnsafeDirectory { .. } | Self::Immutable { .. } => FileErrorKind::Other,
            Self::MountPoints { .. } | Self::Mounted { .. } => FileErrorKind::MountPoint,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FileErrorKind::NotFound,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    FileErrorKind::StorageFull
                }
                _ => FileErrorKind::Other,
            },
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_transient(source))
    }

    /// Fails if mount points were kept in a removed tree.
    pub(super) fn check_mount_points(path: &Path, kept: Vec<PathBuf>) -> Result<(), Self> {
        if kept.is_empty() {
            return Ok(());
        }
        Err(Self::MountPoints { path: path.to_owned(), mount_points: kept })
    }

    /// Creates the error of a failed system call on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }

    /// Like [`FileError::io`], for calls that follow no symlink and enter no mount point.
    pub(super) fn in_mount(operation: &'static str, path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::XDEV => Self::Mounted { path: path.to_owned() },
            errno => Self::io(operation, path, errno),
        }
    }

    /// Like [`FileError::io`], for calls that resolve the path beneath the session directory and
    /// follow no symlink.
    ///
    /// The kernel reports `EXDEV` if a symlink leads out, and `ELOOP` for one that is not followed
    /// (`openat2(2)`).
    pub(super) fn beneath(operation: &'static str, path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::XDEV | Errno::LOOP => Self::Escapes { path: path.to_owned() },
            errno => Self::io(operation, path, errno),
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
