//! The owner's access to the session directory, which a command can deny (`chmod 000 .`).

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::files::by_descriptor;

/// All permissions of the owner.
const OWNER: u32 = 0o700;

/// The permissions that the owner of a directory had when the sandbox opened.
#[derive(Debug)]
pub(super) struct OwnerAccess {
    path: PathBuf,
    original: u32,
}

impl OwnerAccess {
    pub(super) fn of(path: &Path) -> Self {
        let original = rustix::fs::stat(path).map_or(0, |stat| stat.st_mode & OWNER);
        Self { path: path.to_owned(), original }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the permissions to the owner if a command removed one. Without them no further
    /// command could start in the directory.
    pub(super) fn restore(&self) {
        let lost = |mode: u32| self.original & !mode != 0;
        if !rustix::fs::stat(&self.path).is_ok_and(|stat| lost(stat.st_mode)) {
            return;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.path, flags, Mode::empty());
        let restored = opened.and_then(|dir| {
            let mode = rustix::fs::fstat(&dir)?.st_mode & 0o7777 | self.original;
            rustix::fs::chmod(by_descriptor(&dir), Mode::from_raw_mode(mode))
        });
        if let Err(errno) = restored {
            tracing::warn!(path = %self.path.display(), "the mode was not restored: {errno}");
        }
    }
}
