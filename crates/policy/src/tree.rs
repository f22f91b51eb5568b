//! The file system as the compiler looks at it; handed in by the caller, so that this crate does no
//! I/O.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What stands at a path; a symlink is not followed.
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

/// A file system to look at.
pub trait Tree {
    /// What stands at a path; `None` where nothing does.
    ///
    /// # Errors
    /// Where it cannot be told.
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>>;

    /// The path with every symlink resolved.
    ///
    /// # Errors
    /// Where a part is missing, or symlinks go in a circle.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// Where a symlink leads, as it says itself.
    ///
    /// # Errors
    /// Where it is none.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// The names in a directory, and what stands at each.
    ///
    /// # Errors
    /// Where it cannot be listed.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>>;

    /// The beginning of a regular file, at most `max` bytes.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>>;
}
