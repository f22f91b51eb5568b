//! Lock of a state directory: one mirror uses it at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sandbox_core::internal::ModeRecords;

use crate::state::journal::options;

const LOCK: &str = "lock";
/// Directory with records of modes that are changed for a moment.
const MODES: &str = "modes";

/// State directory that no other mirror uses.
#[derive(Debug)]
pub(crate) struct StateLock {
    dir: PathBuf,
    /// Ends before the lock.
    modes: Option<ModeRecords>,
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
        locked
            .map(|file| Self { dir: dir.to_owned(), modes: None, file })
            .map_err(|error| (path, error))
    }

    /// Restores the modes that a killed process left in a working copy. Records each change of a
    /// mode there as long as this lock is held. The error names the path.
    pub(crate) fn record_modes(&mut self, working_copy: &Path) -> Result<(), (PathBuf, io::Error)> {
        self.modes = Some(ModeRecords::begin(working_copy, self.dir.join(MODES))?);
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}
