//! Directories inside a session directory: creating, listing, replacing and removing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::directory::SessionDir;
use super::error::FileError;
use super::readable;
use super::remove::{by_descriptor, remove_tree};
use crate::path::RelativePath;

impl SessionDir {
    /// Returns whether `path` is a directory and no component of it is a symlink.
    pub fn has_plain_directory(&self, path: &RelativePath) -> bool {
        beneath::open_plain_directory(self, path.as_ref()).is_ok()
    }

    /// Creates one directory in an existing parent. An existing directory stays unchanged.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if another file has the name, if a component is a symlink, or if
    /// the system reports an error.
    pub fn create_directory(&self, path: &RelativePath) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::in_mount("create", path.as_ref(), errno);
        let parent = self.plain_parent(path).map_err(failed)?;
        match rustix::fs::mkdirat(&parent, path.file_name(), Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.has_plain_directory(path) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Returns the names in a directory, unordered, without names that are not UTF-8.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the directory does not exist or a component is a symlink.
    pub fn names(&self, path: &RelativePath) -> Result<Vec<String>, FileError> {
        let failed = |error: io::Error| FileError::io("list", path.as_ref(), error);
        let dir = beneath::open_plain_directory(self, path.as_ref())
            .map_err(|errno| failed(errno.into()))?;
        let entries = std::fs::read_dir(by_descriptor(&dir)).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect::<io::Result<_>>().map_err(failed)
    }

    /// Moves a tree to `to` in one step, and removes the file or tree that was there before.
    ///
    /// At every moment, `to` is either the old tree or the new one.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error. If only the removal failed, the
    /// new tree is at `to` and the old one at `from`.
    pub fn replace_tree(&self, from: &RelativePath, to: &RelativePath) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::in_mount("replace", to.as_ref(), errno);
        let (source, target) =
            (self.plain_parent(from).map_err(failed)?, self.plain_parent(to).map_err(failed)?);
        let rename = |flags| {
            rustix::fs::renameat_with(&source, from.file_name(), &target, to.file_name(), flags)
                .map_err(failed)
        };
        match rustix::fs::statat(&target, to.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rename(RenameFlags::NOREPLACE),
            _ => {
                rename(RenameFlags::EXCHANGE)?;
                self.remove_tree(from)
            }
        }
    }

    /// Removes the file or tree at `path` without following symlinks. Succeeds if it is absent.
    /// Mount points below are not entered.
    ///
    /// # Errors
    /// Returns [`FileError::MountPoints`] if mount points were kept; everything else is removed.
    /// Returns [`FileError::Immutable`] or [`FileError::Io`] if a file cannot be removed. The other
    /// files may be removed already.
    pub fn remove_tree(&self, path: &RelativePath) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::in_mount("remove", path.as_ref(), errno);
        let parent = match self.plain_parent(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(failed)?,
        };
        let kept = remove_tree(&by_descriptor(&parent).join(path.file_name()))
            .map_err(|error| error.into_file_error(path.as_ref()))?;
        FileError::check_mount_points(path.as_ref(), kept)
    }

    /// Opens the directory that contains `path`. No component may be a symlink.
    pub(super) fn plain_parent(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        match path.parent() {
            Some(parent) => readable::open_plain_directory(self, parent.as_ref()),
            None => readable::open_plain_directory(self, Path::new("")),
        }
    }
}
