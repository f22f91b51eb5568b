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
    /// The object broke off, or is not what the store announced.
    #[error("{key:?} has {announced} bytes, but {arrived} arrived")]
    Torn {
        /// The object.
        key: String,
        /// The size that the store announced.
        announced: u64,
        /// What came.
        arrived: u64,
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

/// An error and its causes on one line, without what a cause merely repeats.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
