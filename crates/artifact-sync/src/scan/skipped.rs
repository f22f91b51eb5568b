//! Files that cannot be mirrored, and the reasons.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_DEPTH, MAX_FILE_BYTES};

/// A file or directory that is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Skipped {
    /// Path in the directory. A name that is not UTF-8 is shown with replacement characters.
    pub path: String,
    /// Reason for skipping it.
    pub reason: SkipReason,
}

/// Reason for not mirroring a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SkipReason {
    /// It is a symlink, which no object can represent.
    Symlink,
    /// It is a FIFO, a socket, or a device.
    Special,
    /// Its name is not UTF-8, but object keys are.
    NotUtf8,
    /// Its path is longer than a system call accepts.
    PathTooLong,
    /// It is nested more than 256 directories deep.
    TooDeep,
    /// It is larger than 5 GiB.
    TooLarge {
        /// File size in bytes.
        size: u64,
    },
    /// Another file system is mounted on it.
    MountPoint,
    /// It has the name of a file that a process of agent-tools was writing when it ended.
    Staged,
    /// No object key can represent the path, or the store rejects the key permanently.
    Key {
        /// Explanation for a user.
        reason: String,
    },
    /// The system denied access to it.
    Unreadable {
        /// The system's message.
        reason: String,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symlink => f.write_str("it is a symlink whose target is not UTF-8"),
            Self::Special => f.write_str("it is not a regular file"),
            Self::NotUtf8 => f.write_str("its name is not UTF-8"),
            Self::PathTooLong => f.write_str("its path is too long"),
            Self::TooDeep => write!(f, "it is nested more than {MAX_DEPTH} directories deep"),
            Self::TooLarge { size } => {
                write!(f, "it has {size} bytes; at most {MAX_FILE_BYTES} are mirrored")
            }
            Self::MountPoint => f.write_str("another file system is mounted on it"),
            Self::Staged => f.write_str("it is left over from an interrupted write"),
            Self::Key { reason } => f.write_str(reason),
            Self::Unreadable { reason } => write!(f, "it cannot be read: {reason}"),
        }
    }
}

impl SkipReason {
    /// Returns whether a mirrored file may still exist at or below the path. If so, its object must
    /// not be removed.
    pub(crate) fn hides_a_file(&self) -> bool {
        match self {
            Self::Symlink | Self::Special | Self::NotUtf8 | Self::Staged | Self::Key { .. } => {
                false
            }
            Self::PathTooLong
            | Self::TooDeep
            | Self::TooLarge { .. }
            | Self::MountPoint
            | Self::Unreadable { .. } => true,
        }
    }
}
