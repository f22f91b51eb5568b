//! A file that is being written and has no name yet.

use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::FileError;
use super::readable::WriteAccess;

/// Prefix of the temporary names that files have while they replace their target. A crash can leave
/// such a file behind. Programs should ignore it.
pub const STAGED_PREFIX: &str = ".agent-tools-staged-";
/// Hexadecimal digits of one random number in a temporary name.
const TOKEN_DIGITS: usize = 16;

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
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
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

    /// Sets the nine permission bits.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn set_mode(&mut self, mode: u16) -> Result<(), FileError> {
        let mode = Mode::from_raw_mode(u32::from(mode) & 0o777);
        rustix::fs::fchmod(&self.file, mode)
            .map_err(|errno| FileError::io("change the mode of", &self.asked, errno))
    }

    /// Sets the modification time, in seconds and nanoseconds since 1970.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn set_modified(&mut self, (seconds, nanoseconds): (i64, u32)) -> Result<(), FileError> {
        let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let times = Timestamps { last_access: modified, last_modification: modified };
        rustix::fs::futimens(&self.file, &times)
            .map_err(|errno| FileError::io("set the times of", &self.asked, errno))
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

    /// Passes a temporary name of the file to `rename`, which gives it its final name.
    pub(super) fn with_temporary_name<T>(
        &mut self,
        rename: impl FnOnce(&OwnedFd, &str, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let _access = WriteAccess::to(&self.parent);
        let staged = match &self.staged_name {
            Some(staged) => staged.clone(),
            None => {
                let staged = staged_name();
                self.link(&staged)?;
                self.staged_name.insert(staged).clone()
            }
        };
        let renamed = rename(&self.parent, &staged, &self.name)?;
        self.staged_name = None;
        Ok(renamed)
    }

    /// Returns the file, for reading what was written.
    pub fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub(super) fn error(&self, operation: &'static str, source: io::Error) -> FileError {
        FileError::io(operation, &self.asked, source)
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

/// Returns whether a file of this name is being written, or was when a process ended. Another
/// program's file has such a name only if it is a copy of one.
pub fn is_staged_name(name: &str) -> bool {
    let is_random = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    name.strip_prefix(STAGED_PREFIX).is_some_and(|rest| {
        is_random(rest, 2 * TOKEN_DIGITS)
            || rest.strip_prefix("probe-").is_some_and(|rest| is_random(rest, TOKEN_DIGITS))
    })
}

/// Returns whether this process uses the name for a file that it is writing.
pub fn is_own_staged_name(name: &str) -> bool {
    is_staged_name(name)
        && name.get(STAGED_PREFIX.len()..).is_some_and(|rest| rest.starts_with(process_token()))
}

/// Returns a name that no other program can guess.
pub(super) fn staged_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{STAGED_PREFIX}{}{:016x}", process_token(), random().hash_one(count))
}

/// Returns the digits that all names of this process have in common.
fn process_token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| format!("{:016x}", random().hash_one(std::process::id())))
}

/// Returns the keyed hash of this process. Its keys come from the operating system.
fn random() -> &'static RandomState {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unfinished_files_are_recognised_and_all_different() {
        let names: std::collections::HashSet<String> = (0..1_000).map(|_| staged_name()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|name| is_staged_name(name) && is_own_staged_name(name)));
        let other = format!("{STAGED_PREFIX}{:032x}", 1);
        assert!(is_staged_name(&other) && !is_own_staged_name(&other));
        for name in ["", "a", STAGED_PREFIX, &format!("{STAGED_PREFIX}1-2-3"), &other[1..]] {
            assert!(!is_staged_name(name), "{name}");
        }
    }
}
