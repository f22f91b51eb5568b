//! Files inside a session directory. No symlink leads out of it.

mod beneath;
mod directory;
mod entries;
mod error;
mod exchange;
mod links;
mod mode_records;
mod mounts;
mod readable;
mod removal_error;
mod remove;
mod staged;
mod trees;
#[cfg(feature = "native")]
mod usage;
mod walk;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

pub use directory::SessionDir;
pub use entries::{EntryPlace, FileKind, FileStat, FoundEntry};
pub use error::{FileError, FileErrorKind};
pub use exchange::{Found, Replaced};
pub use links::{PASSES, link_path, link_problem, without_symlinks};
pub use mode_records::ModeRecords;
pub use mounts::mount_points_below;
#[cfg(feature = "native")]
pub(crate) use readable::with_access;
pub use readable::{ReadableDirectory, is_opened_by_grant};
pub use removal_error::RemovalError;
#[cfg(feature = "native")]
pub(crate) use remove::by_descriptor;
pub use remove::remove_tree;
pub use staged::{STAGED_PREFIX, StagedFile, is_own_staged_name, is_staged_name};
#[cfg(feature = "native")]
pub(crate) use usage::{Usage, usage};
pub use walk::{EntryKind, Subtree, Walk, WalkEntry};

/// Returns the current path of an open file or directory, with every symlink resolved.
///
/// A symlink that appears after the file was opened cannot change the result. `asked` names the
/// file in an error.
///
/// # Errors
/// Returns [`FileError::Io`] if the kernel denies the query or `/proc` is not mounted.
pub fn real_path(fd: impl AsFd, asked: &Path) -> Result<PathBuf, FileError> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
        .map_err(|error| FileError::io("resolve", asked, error))
}

/// Reads an open regular file of at most `max_bytes` bytes from its current position. `asked` names
/// the file in an error.
///
/// # Errors
/// Returns [`FileError::TooLarge`] if the file has more bytes, and [`FileError::Io`] if reading
/// fails.
pub fn read_open(file: &File, asked: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let io = |error| FileError::io("read", asked, error);
    let size = file.metadata().map_err(io)?.len();
    let too_large = |size| FileError::TooLarge { path: asked.to_owned(), size, max_bytes };
    if size > max_bytes {
        return Err(too_large(size));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    // The file may grow during the read, so one byte more than the limit is requested.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > max_bytes {
        return Err(too_large(content.len() as u64));
    }
    Ok(content)
}
