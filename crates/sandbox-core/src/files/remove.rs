//! Removal of whole trees.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::readable::open_in_mount;

const LIST_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY_ONLY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BUFFER_BYTES: usize = 32 * 1024;

/// Returns a path of an open directory that no rename can redirect.
pub(super) fn by_descriptor(dir: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()))
}

/// Removes a tree without following symlinks, including parts that deny access to their owner.
///
/// Mount points below the top are not entered. They and the directories above them are kept, and
/// their paths relative to the tree are returned.
pub(crate) fn remove_tree(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match rustix::fs::openat(
        CWD,
        if above.as_os_str().is_empty() { Path::new(".") } else { above },
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let name = CString::new(name.as_bytes())?;
    // The top may itself be a mount point.
    let open = |flags| rustix::fs::openat(&parent, &*name, flags, Mode::empty());
    let top = match open(LIST_DIRECTORY) {
        Err(Errno::ACCESS) => open(DIRECTORY_ONLY)
            .and_then(|dir| grant_access(&dir))
            .and_then(|()| open(LIST_DIRECTORY)),
        other => other,
    };
    match top {
        Ok(top) => Ok(Removal::of(top)?.run(&parent, &name)?),
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            absent_is_fine(rustix::fs::unlinkat(&parent, &*name, AtFlags::empty()))?;
            Ok(Vec::new())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Removal of one tree, with the directories from the top down to the current one.
struct Removal {
    levels: Vec<Level>,
    mount_points: Vec<PathBuf>,
}

struct Level {
    dir: OwnedFd,
    /// Name in the directory above; empty for the top.
    name: CString,
    /// Entries that are still to be removed.
    rest: Vec<(CString, FileType)>,
    /// Set if a mount point lies below.
    is_kept: bool,
}

impl Removal {
    fn of(top: OwnedFd) -> rustix::io::Result<Self> {
        let levels = vec![Level::open(top, CString::default())?];
        Ok(Self { levels, mount_points: Vec::new() })
    }

    fn run(mut self, parent: &OwnedFd, name: &CStr) -> rustix::io::Result<Vec<PathBuf>> {
        while let Some(level) = self.levels.last_mut() {
            match level.rest.pop() {
                Some((name, kind)) => self.remove(name, kind)?,
                None => self.leave(parent, name)?,
            }
        }
        Ok(self.mount_points)
    }

    /// Removes an entry of the current directory, or enters it.
    fn remove(&mut self, name: CString, kind: FileType) -> rustix::io::Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let dir = &level.dir;
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            match with_access(dir, || rustix::fs::unlinkat(dir, &*name, AtFlags::empty())) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => {
                    self.keep(&name);
                    return Ok(());
                }
                // A directory has replaced it.
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let opened = with_access(dir, || match open_in_mount(dir, &name, LIST_DIRECTORY) {
            // The directory itself may deny access.
            Err(Errno::ACCESS) => {
                grant_access(&open_in_mount(dir, &name, DIRECTORY_ONLY)?)?;
                open_in_mount(dir, &name, LIST_DIRECTORY)
            }
            other => other,
        });
        match opened {
            Ok(below) if is_mount_point(&below)? => self.keep(&name),
            Ok(below) => self.levels.push(Level::open(below, name)?),
            Err(Errno::XDEV) => self.keep(&name),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let unlinked =
                    with_access(dir, || rustix::fs::unlinkat(dir, &*name, AtFlags::empty()));
                match unlinked {
                    Err(Errno::BUSY) => self.keep(&name),
                    other => absent_is_fine(other)?,
                }
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Removes the current directory, which is empty apart from mount points.
    fn leave(&mut self, parent: &OwnedFd, top: &CStr) -> rustix::io::Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if level.is_kept {
            if let Some(above) = self.levels.last_mut() {
                above.is_kept = true;
            }
            return Ok(());
        }
        let (dir, name) = match self.levels.last() {
            Some(above) => (&above.dir, &*level.name),
            None => (parent, top),
        };
        let removed = with_access(dir, || rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR));
        absent_is_fine(removed)
    }

    /// Keeps a mount point of the current directory.
    fn keep(&mut self, name: &CStr) {
        let above = self.levels.iter().skip(1).map(|level| &*level.name);
        let names = above.chain([name]).map(|name| OsStr::from_bytes(name.to_bytes()));
        self.mount_points.push(names.collect());
        if let Some(level) = self.levels.last_mut() {
            level.is_kept = true;
        }
    }
}

impl Level {
    fn open(dir: OwnedFd, name: CString) -> rustix::io::Result<Self> {
        let mut rest = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                rest.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        Ok(Self { dir, name, rest, is_kept: false })
    }
}

/// Runs an operation on an entry of a directory, again if the directory denied access to its owner.
fn with_access<T>(
    dir: &OwnedFd,
    operation: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match operation() {
        Err(Errno::ACCESS) => grant_access(dir).and_then(|()| operation()),
        other => other,
    }
}

/// Lets the owner list and change an open directory.
fn grant_access(dir: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::chmod(by_descriptor(dir), Mode::from_raw_mode(0o700))
}

/// Returns whether another file system is mounted on an open directory.
fn is_mount_point(dir: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn absent_is_fine(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
