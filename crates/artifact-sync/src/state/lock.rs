//! Lock of a state directory: one mirror uses it at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::state::journal::options;

const LOCK: &str = "lock";

/// State directory that no other mirror uses.
#[derive(Debug)]
pub(crate) struct StateLock {
    dir: PathBuf,
    file: File,
}

impl StateLock {
    /// Creates the directory if it is absent, and locks it. The error names the path.
    pub(crate) fn take(dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|error| (dir.to_owned(), error))?;
        let path = dir.join(LOCK);
        let locked = options().open(&path).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let problem = "another mirror of this session is open";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, problem))
            }
        });
        locked.map(|file| Self { dir: dir.to_owned(), file }).map_err(|error| (path, error))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}
