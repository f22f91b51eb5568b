//! Removal of whole trees.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use super::readable::open_in_mount;
use super::removal_error::RemovalError;

const LIST_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY_ONLY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Size of the part of a directory that is read at once. One part of each open directory is held.
const BUFFER_BYTES: usize = 16 * 1024;
/// Maximum number of directories of a tree that are open at the same time.
const MAX_LEVELS: usize = 32;
/// Number of times that a directory is read again because it was not empty after its removal.
const MAX_PASSES: u32 = 8;

/// Returns a path of an open directory that no rename can redirect.
pub(crate) fn by_descriptor(dir: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()))
}

/// Removes a tree without following symlinks, including parts that deny access to their owner.
///
/// The tree may have any depth: at most 40 descriptors are open, and a level takes a few bytes.
///
/// Mount points below the top are not entered. They and the directories above them are kept, and
/// their paths relative to the tree are returned.
///
/// # Errors
/// Returns [`RemovalError`] if a file cannot be removed. Others may be removed already.
pub fn remove_tree(path: &Path) -> Result<Vec<PathBuf>, RemovalError> {
    let (parent, name, top) = match open_top(path)? {
        Top::Directory { parent, name, top } => (parent, name, top),
        Top::Gone => return Ok(Vec::new()),
    };
    Removal::of(top)?.run(&parent, &name)
}

/// Top of a tree that is to be removed.
enum Top {
    Directory {
        parent: OwnedFd,
        name: CString,
        top: OwnedFd,
    },
    /// It was no directory, and nothing is left of it.
    Gone,
}

fn open_top(path: &Path) -> rustix::io::Result<Top> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let parent = match rustix::fs::openat(
        CWD,
        if above.as_os_str().is_empty() { Path::new(".") } else { above },
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT) => return Ok(Top::Gone),
        other => other?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    // The top may itself be a mount point.
    let open = |flags| rustix::fs::openat(&parent, &*name, flags, Mode::empty());
    let top = match open(LIST_DIRECTORY) {
        Err(Errno::ACCESS) => open(DIRECTORY_ONLY)
            .and_then(|dir| grant_access(&dir))
            .and_then(|()| open(LIST_DIRECTORY)),
        other => other,
    };
    match top {
        Ok(top) => Ok(Top::Directory { parent, name, top }),
        Err(Errno::NOENT) => Ok(Top::Gone),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            absent_is_fine(rustix::fs::unlinkat(&parent, &*name, AtFlags::empty()))?;
            Ok(Top::Gone)
        }
        Err(errno) => Err(errno),
    }
}

/// Removal of one tree.
///
/// An agent chooses the depth. So only the innermost directories are open, and the others are
/// reached again by `..`. They are recognised by their identity, because another process may have
/// moved the directory below out of the tree.
struct Removal {
    /// Path of the top, for the paths of mount points.
    top: PathBuf,
    /// Identities of the directories above `levels`, from the top down.
    above: Vec<Identity>,
    /// The innermost directories, at most [`MAX_LEVELS`].
    levels: VecDeque<Level>,
    /// Directories with mount points below.
    kept: HashSet<Identity>,
    mount_points: BTreeSet<PathBuf>,
}

/// Device and inode of a directory.
type Identity = (u64, u64);

struct Level {
    dir: OwnedFd,
    identity: Identity,
    /// Name in the directory above. Unknown for the top, and if this directory was reached by `..`.
    name: Option<CString>,
    /// Entries that were read and are still to be removed.
    rest: Vec<(CString, FileType)>,
    has_more: bool,
    /// Set if a mount point lies below.
    is_kept: bool,
    /// Number of times that the directory was read to its end.
    passes: u32,
}

impl Removal {
    fn of(top: OwnedFd) -> rustix::io::Result<Self> {
        let path = std::fs::read_link(by_descriptor(&top)).unwrap_or_default();
        Ok(Self {
            top: path,
            above: Vec::new(),
            levels: VecDeque::from([Level::of(top, None)?]),
            kept: HashSet::new(),
            mount_points: BTreeSet::new(),
        })
    }

    fn run(mut self, parent: &OwnedFd, top: &CStr) -> Result<Vec<PathBuf>, RemovalError> {
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        while let Some(level) = self.levels.back_mut() {
            match level.next(&mut buffer)? {
                Some((name, kind)) => {
                    self.remove(&name, kind).map_err(|errno| self.failure(errno, Some(&name)))?;
                }
                None => self.leave(parent, top).map_err(|errno| self.failure(errno, None))?,
            }
        }
        Ok(self.mount_points.into_iter().collect())
    }

    /// Describes an entry of the current directory, or this directory, that cannot be removed.
    fn failure(&self, errno: Errno, name: Option<&CStr>) -> RemovalError {
        let Some(level) = self.levels.back() else { return errno.into() };
        let is_immutable = |path: &CStr| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statx(&level.dir, path, flags, StatxFlags::TYPE).is_ok_and(|stat| {
                let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
                stat.stx_attributes.intersects(fixed)
            })
        };
        RemovalError {
            path: name.map_or_else(|| self.below(level), |name| self.path_of(level, name)),
            is_immutable: is_immutable(c"") || name.is_some_and(is_immutable),
            source: errno.into(),
        }
    }

    /// Returns the path of a directory below the top.
    fn below(&self, level: &Level) -> PathBuf {
        let dir = std::fs::read_link(by_descriptor(&level.dir)).unwrap_or_default();
        dir.strip_prefix(&self.top).unwrap_or(Path::new("")).to_owned()
    }

    fn path_of(&self, level: &Level, name: &CStr) -> PathBuf {
        self.below(level).join(OsStr::from_bytes(name.to_bytes()))
    }

    /// Removes an entry of the current directory, or enters it.
    fn remove(&mut self, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        let Some(level) = self.levels.back_mut() else { return Ok(()) };
        let dir = &level.dir;
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            match with_access(dir, || rustix::fs::unlinkat(dir, name, AtFlags::empty())) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => {
                    self.keep(name);
                    return Ok(());
                }
                // A directory has replaced it.
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let opened = with_access(dir, || match open_in_mount(dir, name, LIST_DIRECTORY) {
            // The directory itself may deny access.
            Err(Errno::ACCESS) => {
                grant_access(&open_in_mount(dir, name, DIRECTORY_ONLY)?)?;
                open_in_mount(dir, name, LIST_DIRECTORY)
            }
            other => other,
        });
        match opened {
            Ok(below) if is_mount_point(&below)? => self.keep(name),
            Ok(below) => self.enter(below, name.to_owned())?,
            Err(Errno::XDEV) => self.keep(name),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let unlinked =
                    with_access(dir, || rustix::fs::unlinkat(dir, name, AtFlags::empty()));
                match unlinked {
                    Err(Errno::BUSY) => self.keep(name),
                    other => absent_is_fine(other)?,
                }
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Makes a directory the current one. Closes the outermost open one if there are too many.
    fn enter(&mut self, dir: OwnedFd, name: CString) -> rustix::io::Result<()> {
        let below = Level::of(dir, Some(name))?;
        if self.kept.contains(&below.identity) {
            if let Some(level) = self.levels.back_mut() {
                level.is_kept = true;
            }
            return Ok(());
        }
        if self.levels.len() == MAX_LEVELS
            && let Some(outermost) = self.levels.pop_front()
        {
            self.above.push(outermost.identity);
        }
        self.levels.push_back(below);
        Ok(())
    }

    /// Removes the current directory, which is empty apart from mount points. The directory above
    /// becomes the current one.
    fn leave(&mut self, parent: &OwnedFd, top: &CStr) -> rustix::io::Result<()> {
        let Some(mut level) = self.levels.pop_back() else { return Ok(()) };
        if self.levels.is_empty()
            && let Some(above) = self.above.pop()
        {
            self.levels.push_back(Level::above(&level.dir, above)?);
        }
        if level.is_kept {
            self.kept.insert(level.identity);
            if let Some(above) = self.levels.back_mut() {
                above.is_kept = true;
            }
            return Ok(());
        }
        let (dir, name) = match self.levels.back() {
            None => (parent, top),
            Some(above) => match &level.name {
                Some(name) => (&above.dir, &**name),
                // The directory above is read again, and so finds this one, which is empty now.
                None => return Ok(()),
            },
        };
        match with_access(dir, || rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)) {
            // Some file systems omit entries from a listing during which others are removed.
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.passes < MAX_PASSES => {
                level.rewind()?;
                self.levels.push_back(level);
                Ok(())
            }
            Err(errno) if errno != Errno::NOENT => {
                self.levels.push_back(level);
                Err(errno)
            }
            _ => Ok(()),
        }
    }

    /// Keeps a mount point of the current directory.
    fn keep(&mut self, name: &CStr) {
        let Some(level) = self.levels.back_mut() else { return };
        level.is_kept = true;
        if let Some(level) = self.levels.back() {
            self.mount_points.insert(self.path_of(level, name));
        }
    }
}

impl Level {
    fn of(dir: OwnedFd, name: Option<CString>) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(&dir)?;
        let identity = (stat.st_dev, stat.st_ino);
        Ok(Self {
            dir,
            identity,
            name,
            rest: Vec::new(),
            has_more: true,
            is_kept: false,
            passes: 0,
        })
    }

    /// Opens the directory above `dir`, which must have this identity.
    fn above(dir: &OwnedFd, identity: Identity) -> rustix::io::Result<Self> {
        let open = || rustix::fs::openat(dir, "..", LIST_DIRECTORY, Mode::empty());
        let level = Self::of(with_access(dir, open)?, None)?;
        // Another process has moved the directory below.
        if level.identity == identity { Ok(level) } else { Err(Errno::STALE) }
    }

    /// Returns an entry that is still to be removed. Reads a part of the directory if necessary.
    fn next(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
    ) -> rustix::io::Result<Option<(CString, FileType)>> {
        while self.rest.is_empty() && self.has_more {
            let mut entries = RawDir::new(&self.dir, &mut *buffer);
            self.has_more = false;
            while let Some(entry) = entries.next() {
                let entry = entry?;
                self.has_more = true;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    self.rest.push((entry.file_name().to_owned(), entry.file_type()));
                }
                if entries.is_buffer_empty() {
                    break;
                }
            }
        }
        Ok(self.rest.pop())
    }

    /// Begins to read the directory again.
    fn rewind(&mut self) -> rustix::io::Result<()> {
        self.passes += 1;
        self.has_more = true;
        rustix::fs::seek(&self.dir, SeekFrom::Start(0)).map(drop)
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
