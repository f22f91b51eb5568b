//! What happened, as data.

use std::fmt;

use object_store::path::Path as Key;
use sandbox_core::RelativePath;

/// What one synchronisation did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SyncReport {
    /// The files that were made or changed since the last report, by path.
    pub changed: Vec<ChangedFile>,
    /// The files that are gone since the last report.
    pub deleted: Vec<RelativePath>,
    /// What the store does not have yet, and why. The next synchronisation tries again.
    pub pending: Vec<Pending>,
    /// What cannot be mirrored, and why.
    pub skipped: Vec<Skipped>,
    /// Files that are gone and whose objects were left, because they are so many at one time that
    /// it may be a mistake; [`Mirror::sync_with_removals`](crate::Mirror::sync_with_removals)
    /// removes them.
    pub held_back: Vec<RelativePath>,
    /// Files that had changed in the store too, and where that version is now.
    pub conflicts: Vec<ConflictCopy>,
}

/// A file that both sides had changed. It has what was written in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConflictCopy {
    /// The file.
    pub path: RelativePath,
    /// Beside it, in the directory and in the store: what was written in the store.
    pub kept_as: RelativePath,
}

/// A file that was made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedFile {
    /// Where it is in the directory.
    pub path: RelativePath,
    /// Its key, once the store has it.
    pub key: Option<Key>,
    /// A link to it, where the store has it and a linker can make one.
    pub url: Option<String>,
}

/// A change that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// Where the file is, or was.
    pub path: RelativePath,
    /// Why.
    pub reason: String,
}

/// Something that is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Skipped {
    /// Where it is; a name that is not UTF-8 is shown with replacement characters.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why something is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// Object stores have no symlinks.
    Symlink,
    /// A FIFO, a socket, or a device.
    Special,
    /// The name is not UTF-8, which object keys are.
    NotUtf8,
    /// The path is longer than a system call takes.
    PathTooLong,
    /// It is nested deeper than is looked at.
    TooDeep,
    /// It is larger than is mirrored.
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// No key, or none in this store, can stand for the path.
    Key {
        /// Why.
        reason: String,
    },
    /// The system refuses to show it.
    Unreadable {
        /// The system's message.
        reason: String,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symlink => f.write_str("symlinks are not mirrored"),
            Self::Special => f.write_str("it is no regular file"),
            Self::NotUtf8 => f.write_str("its name is not UTF-8"),
            Self::PathTooLong => f.write_str("its path is too long"),
            Self::TooDeep => {
                write!(f, "it is nested more than {} directories deep", crate::snapshot::MAX_DEPTH)
            }
            Self::TooLarge { size } => {
                write!(
                    f,
                    "it has {size} bytes; at most {} are mirrored",
                    crate::snapshot::MAX_FILE_BYTES
                )
            }
            Self::Key { reason } => f.write_str(reason),
            Self::Unreadable { reason } => write!(f, "it cannot be read: {reason}"),
        }
    }
}

impl SkipReason {
    /// Whether a file may still be there as it was, so that its object must not be removed.
    pub(crate) fn hides_a_file(&self) -> bool {
        match self {
            Self::Symlink | Self::Special | Self::NotUtf8 | Self::Key { .. } => false,
            Self::PathTooLong | Self::TooDeep | Self::TooLarge { .. } | Self::Unreadable { .. } => {
                true
            }
        }
    }
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The files that were fetched, by path.
    pub restored: Vec<RelativePath>,
    /// The objects that were not, though they should have been.
    pub failed: Vec<RestoreFailure>,
}

/// An object that could not be fetched or must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreFailure {
    /// Its key, or the directory of keys that could not be listed.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl RestoreReport {
    /// One sentence for each object that was not fetched.
    pub fn problems(&self) -> Vec<String> {
        self.failed
            .iter()
            .map(|failed| format!("{:?} was not restored: {}", failed.key, failed.reason))
            .collect()
    }
}

/// Which way files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// To the store.
    Upload,
    /// From the store.
    Download,
}

/// Is told how far a transfer has come.
pub trait Progress: fmt::Debug + Send + Sync {
    /// `done` of `total` files have been dealt with. Called often, and from any thread: it must not
    /// block.
    fn advanced(&self, direction: Direction, done: usize, total: usize);
}
