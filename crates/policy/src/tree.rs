//! The compiler's view of the file system. The caller implements it, because this crate does no
//! I/O.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Type of a directory entry; a symlink is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symlink.
    Symlink,
    /// A socket, a FIFO or a device.
    Other,
}

/// A file system that the compiler inspects.
pub trait Tree {
    /// Returns the type of the entry at `path`, or `None` if there is no entry.
    ///
    /// # Errors
    /// Returns an error if the entry cannot be inspected.
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>>;

    /// Returns `path` with every symlink resolved.
    ///
    /// # Errors
    /// Returns an error if a component does not exist, or if symlinks form a cycle.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// Returns the target that a symlink contains, unresolved.
    ///
    /// # Errors
    /// Returns an error if `path` is not a symlink.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// Returns the names in a directory with their types.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be listed.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>>;

    /// Returns the first bytes of a regular file, at most `max`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>>;
}

/// Returns whether an error reports that there is no file, and not that it cannot be inspected.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the deepest directory on the way to `path` that can be inspected, or `None` for `/`.
pub(crate) fn inspectable_above(tree: &dyn Tree, path: &Path) -> Option<PathBuf> {
    let above = path.ancestors().skip(1).filter(|above| above.parent().is_some());
    let mut inspected = above.filter(|above| matches!(tree.kind(above), Ok(Some(_))));
    inspected.find_map(|above| tree.canonicalize(above).ok())
}
