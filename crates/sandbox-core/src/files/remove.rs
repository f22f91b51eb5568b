//! Removal of whole trees.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const DIRECTORY_ONLY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns a path of an open directory that no rename can redirect.
pub(super) fn by_descriptor(dir: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()))
}

/// Removes a tree without following symlinks, including parts that deny access to their owner.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            grant_access(path).and_then(|()| std::fs::remove_dir_all(path))
        }
        // The path is a file or a symlink, which `remove_dir_all` reports on some systems.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets the owner list and change every directory below `path`, without following symlinks.
fn grant_access(path: &Path) -> io::Result<()> {
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
