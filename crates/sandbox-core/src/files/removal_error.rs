//! Error of the removal of a tree.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::FileError;

/// File of a tree that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be removed", path.display())]
pub struct RemovalError {
    /// Path below the top of the tree. Empty for the top, and if the path is too long.
    pub path: PathBuf,
    /// Set if the file or its directory has the attribute of immutable files.
    pub is_immutable: bool,
    /// The error of the system.
    pub source: io::Error,
}

impl RemovalError {
    /// Creates the error of an operation on a tree, whose path this is.
    pub(super) fn into_file_error(self, tree: &Path) -> FileError {
        let path = match self.path.as_os_str().is_empty() {
            true => tree.to_owned(),
            false => tree.join(&self.path),
        };
        match self.is_immutable {
            true => FileError::Immutable { path },
            false => FileError::io("remove", &path, self.source),
        }
    }
}

impl From<Errno> for RemovalError {
    fn from(errno: Errno) -> Self {
        Self { path: PathBuf::new(), is_immutable: false, source: errno.into() }
    }
}

impl From<RemovalError> for io::Error {
    fn from(error: RemovalError) -> Self {
        error.source
    }
}
