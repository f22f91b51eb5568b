//! A file that is being written and has no name yet.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::error::FileError;

/// Prefix of the temporary names that files have while they replace their target. A crash can leave
/// such a file behind. Programs should ignore it.
pub const STAGED_PREFIX: &str = ".agent-tools-staged-";

/// New content for a file of a session. [`StagedFile::commit`] puts it in place; dropping the value
/// discards it.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    parent: OwnedFd,
    name: String,
    /// Temporary name, if the file system does not support unnamed files.
    staged_name: Option<String>,
    replaces: bool,
    asked: PathBuf,
}

impl StagedFile {
    /// Creates the file. `old_mode` is the mode of the file that it will replace.
    pub(super) fn begin(
        parent: OwnedFd,
        name: &str,
        asked: &Path,
        old_mode: Option<Mode>,
    ) -> Result<Self, FileError> {
        let error = |errno| FileError::io("create", asked, errno);
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (fd, staged_name) =
            match rustix::fs::openat(&parent, ".", flags | OFlags::TMPFILE, mode) {
                Ok(fd) => (fd, None),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                    let staged = staged_name();
                    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                    (
                        rustix::fs::openat(&parent, &staged, flags, mode).map_err(error)?,
                        Some(staged),
                    )
                }
                Err(errno) => return Err(error(errno)),
            };
        if let Some(old_mode) = old_mode {
            rustix::fs::fchmod(&fd, old_mode).map_err(error)?;
        }
        Ok(Self {
            file: File::from(fd),
            parent,
            name: name.to_owned(),
            staged_name,
            replaces: old_mode.is_some(),
            asked: asked.to_owned(),
        })
    }

    /// Sets the executable bit for everyone who may read the file, or clears all executable bits.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn set_executable(&mut self, executable: bool) -> Result<(), FileError> {
        let error = |errno| FileError::io("change the mode of", &self.asked, errno);
        let mode = rustix::fs::fstat(&self.file).map_err(error)?.st_mode & 0o777;
        let bits = (mode & 0o444) >> 2;
        let mode = if executable { mode | bits } else { mode & !0o111 };
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(error)
    }

    /// Returns the path that the file will have, with every symlink currently resolved.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the kernel denies the query or `/proc` is not mounted.
    pub fn real_path(&self) -> Result<PathBuf, FileError> {
        super::real_path(&self.parent, &self.asked).map(|parent| parent.join(&self.name))
    }

    /// Gives the content its name in one step, and returns the metadata of the file.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error. The target is then unchanged.
    pub fn commit(mut self) -> Result<Metadata, FileError> {
        self.place().map_err(|error| FileError::io("write", &self.asked, error))?;
        self.file.metadata().map_err(|error| FileError::io("inspect", &self.asked, error))
    }

    fn place(&mut self) -> io::Result<()> {
        if self.staged_name.is_none() {
            let name = if self.replaces { staged_name() } else { self.name.clone() };
            match self.link(&name) {
                Ok(()) if !self.replaces => return Ok(()),
                Ok(()) => self.staged_name = Some(name),
                // Another writer has created the target in the meantime, so it is replaced.
                Err(Errno::EXIST) => {
                    let name = staged_name();
                    self.link(&name)?;
                    self.staged_name = Some(name);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        if let Some(staged) = &self.staged_name {
            rustix::fs::renameat(&self.parent, staged, &self.parent, &self.name)?;
            self.staged_name = None;
        }
        Ok(())
    }

    fn link(&self, name: &str) -> rustix::io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, unnamed, &self.parent, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Write for StagedFile {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.file.write(content)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(staged) = &self.staged_name {
            let _ = rustix::fs::unlinkat(&self.parent, staged, AtFlags::empty());
        }
    }
}

/// Returns a name that is unique on this machine, from the process id, a counter, and the time in
/// nanoseconds.
fn staged_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    format!("{STAGED_PREFIX}{:x}-{count:x}-{now:x}", std::process::id())
}
