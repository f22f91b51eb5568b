//! Why a mirror cannot do what was asked.

use std::io;
use std::path::PathBuf;

use object_store::path::Path as Key;
use sandbox_core::{FileError, RelativePath};

/// Why a mirror could not be opened, restored, or made to fetch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The record of what the store holds cannot be used.
    #[error("cannot use {}", path.display())]
    Index {
        /// The record.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The store cannot be listed.
    #[error("cannot list {prefix:?} in the store")]
    List {
        /// The prefix.
        prefix: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// The store did not give the object.
    #[error("cannot fetch {key:?}")]
    Fetch {
        /// The object.
        key: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// The object's content does not have the size that the store announced.
    #[error("{key:?} has {expected} bytes, but {received} arrived")]
    SizeMismatch {
        /// The object.
        key: String,
        /// The size that the store announced, in bytes.
        expected: u64,
        /// The bytes that arrived.
        received: u64,
    },
    /// The key is not under the mirror's prefix.
    #[error("the key {key:?} does not belong here: keys of this session begin with {:?}", format!("{prefix}/"))]
    ForeignKey {
        /// The key as it was given.
        key: String,
        /// The mirror's prefix.
        prefix: Key,
    },
    /// The key cannot stand for a path inside the directory.
    #[error("the key {key:?} stands for no path inside the session directory: {reason}")]
    UnsafeKey {
        /// The key as it was given.
        key: String,
        /// Why.
        reason: String,
    },
    /// The path is one that is not mirrored.
    #[error("{path} is not mirrored, so nothing is fetched to it")]
    NotMirrored {
        /// The path.
        path: RelativePath,
    },
    /// Fetching would overwrite a change that is nowhere else.
    #[error("{path} has a change that is not in the store yet; fetching would lose it")]
    LocalChange {
        /// The path.
        path: RelativePath,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File {
        /// The file error.
        #[from]
        source: FileError,
    },
}
