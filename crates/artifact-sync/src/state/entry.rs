//! Entries of the index.

use serde::{Deserialize, Serialize};

use crate::scan::RecordedSignature;
use crate::state::version::Version;

/// Side that created a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Origin {
    /// The directory. Removing the file removes the object.
    Local,
    /// The store. Removing the file keeps the object.
    Remote,
}

/// File whose content the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredFile {
    pub(crate) signature: RecordedSignature,
    /// BLAKE3 hash of the content, in hexadecimal.
    pub(crate) hash: String,
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) origin: Origin,
}

/// Knowledge about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexEntry {
    Stored(StoredFile),
    /// The file came from the store and was removed here. The object is kept and is not fetched
    /// again, unless its version changes.
    Removed {
        version: Version,
    },
    /// The store held the file when the previous directory was last seen. The current directory is
    /// a new one that does not have the file yet.
    ExpectedRemote {
        version: Version,
        origin: Origin,
    },
}

/// Identity of the directory that the index describes. A directory that was recreated under the
/// same name is another directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DirectoryId {
    pub(crate) inode: u64,
    /// Creation time; `None` if the file system does not report it.
    pub(crate) born: Option<(i64, u32)>,
}

/// Failed upload or removal of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Set if no retry can succeed.
    pub(crate) is_final: bool,
}

impl IndexEntry {
    pub(super) fn stored(&self) -> Option<&StoredFile> {
        match self {
            Self::Stored(stored) => Some(stored),
            Self::Removed { .. } | Self::ExpectedRemote { .. } => None,
        }
    }
}
