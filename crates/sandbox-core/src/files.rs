//! Files inside a session directory, reached so that no symlink leads out of it.

mod beneath;
mod directory;
mod error;
mod staged;
mod trees;

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

pub use directory::SessionDir;
pub use error::{FileError, FileErrorKind};
pub use staged::{STAGED_PREFIX, StagedFile};

/// The path of an open file or directory, every symlink resolved, as the kernel sees it at this moment.
///
/// A check of this path cannot be fooled by a symlink that was swapped in after the opening. `asked` names
/// the file in an error.
///
/// # Errors
/// [`FileError::Io`], also where `/proc` is not mounted.
pub fn real_path(fd: impl AsFd, asked: &Path) -> Result<PathBuf, FileError> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
        .map_err(|error| FileError::io("resolve", asked, error))
}
