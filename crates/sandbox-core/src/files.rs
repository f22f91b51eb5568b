//! Files inside a session directory, reached so that no symlink leads out of it.

mod beneath;
mod directory;
mod error;
mod staged;
mod trees;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

pub use directory::SessionDir;
pub use error::{FileError, FileErrorKind};
pub use staged::{STAGED_PREFIX, StagedFile};
#[cfg(feature = "native")]
pub(crate) use trees::remove as remove_tree_at;

/// The path of an open file or directory, every symlink resolved, as the kernel sees it at this
/// moment.
///
/// A check of this path cannot be fooled by a symlink that was swapped in after the opening.
/// `asked` names the file in an error.
///
/// # Errors
/// [`FileError::Io`], also where `/proc` is not mounted.
pub fn real_path(fd: impl AsFd, asked: &Path) -> Result<PathBuf, FileError> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
        .map_err(|error| FileError::io("resolve", asked, error))
}

/// Reads an open regular file from where it stands, of at most `max_bytes` bytes. `asked` names it
/// in an error.
///
/// # Errors
/// [`FileError::TooLarge`] and [`FileError::Io`].
pub fn read_open(file: &File, asked: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let io = |error| FileError::io("read", asked, error);
    let size = file.metadata().map_err(io)?.len();
    let too_large = |size| FileError::TooLarge { path: asked.to_owned(), size, max_bytes };
    if size > max_bytes {
        return Err(too_large(size));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    // The file may grow while it is read; one byte past the limit tells.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > max_bytes {
        return Err(too_large(content.len() as u64));
    }
    Ok(content)
}
