//! Whole trees inside a session directory: making, replacing and removing them.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::directory::SessionDir;
use super::error::FileError;
use crate::path::RelativePath;

impl SessionDir {
    /// Whether a directory is at `path`, and no symlink on the way to it or in its place.
    pub fn has_plain_directory(&self, path: &RelativePath) -> bool {
        beneath::open_plain_directory(self, path.as_ref()).is_ok()
    }

    /// Makes one directory, in a parent that is there; one that is there already is left as it is.
    ///
    /// # Errors
    /// [`FileError::Io`], also when something else has the name or a symlink stands on the way.
    pub fn create_directory(&self, path: &RelativePath) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::io("create", path.as_ref(), errno);
        let parent = self.plain_parent(path).map_err(failed)?;
        match rustix::fs::mkdirat(&parent, path.file_name(), Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.has_plain_directory(path) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// The names in a directory, in no order; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// [`FileError::Io`] when no directory is there or a symlink stands on the way.
    pub fn names(&self, path: &RelativePath) -> Result<Vec<String>, FileError> {
        let failed = |error: io::Error| FileError::io("list", path.as_ref(), error);
        let dir = beneath::open_plain_directory(self, path.as_ref())
            .map_err(|errno| failed(errno.into()))?;
        let entries = std::fs::read_dir(by_descriptor(&dir)).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect::<io::Result<_>>().map_err(failed)
    }

    /// Moves a tree to a place, whatever is there, in one step: at any moment the place has the old
    /// or the new. The old is removed then.
    ///
    /// # Errors
    /// [`FileError::Io`]. When only the removal failed, the new is in place and the old stands at
    /// `from`.
    pub fn replace_tree(&self, from: &RelativePath, to: &RelativePath) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::io("replace", to.as_ref(), errno);
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

    /// Removes whatever is at `path`, following no symlink; nothing there is fine.
    ///
    /// # Errors
    /// [`FileError::Io`]; what could be removed is gone then.
    pub fn remove_tree(&self, path: &RelativePath) -> Result<(), FileError> {
        let failed = |error: io::Error| FileError::io("remove", path.as_ref(), error);
        let parent = match self.plain_parent(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(|errno| failed(errno.into()))?,
        };
        remove(&by_descriptor(&parent).join(path.file_name())).map_err(failed)
    }

    /// The directory that holds `path`, without a symlink on the way.
    fn plain_parent(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        match path.parent() {
            Some(parent) => beneath::open_plain_directory(self, parent.as_ref()),
            None => beneath::open_plain_directory(self, Path::new(".")),
        }
    }
}

/// A path that leads to an open directory and cannot be turned elsewhere.
fn by_descriptor(dir: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()))
}

/// Removes a tree, following no symlink in it, even where its owner was denied access to a part.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path).and_then(|()| std::fs::remove_dir_all(path))
        }
        // A file, or a symlink, which some systems tell apart from a directory by an error only.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the owner back the right to list and change every directory below `path`, following no
/// symlink.
fn open_up(path: &Path) -> io::Result<()> {
    let top = rustix::fs::open(path, DIRECTORY_ONLY, Mode::empty())?;
    let mut rest = vec![top];
    while let Some(dir) = rest.pop() {
        std::fs::set_permissions(by_descriptor(&dir), Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(by_descriptor(&dir))? {
            match rustix::fs::openat(&dir, entry?.file_name(), DIRECTORY_ONLY, Mode::empty()) {
                Ok(below) => rest.push(below),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

const DIRECTORY_ONLY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
