//! Access to files and directories that deny it to their owner.
//!
//! A command may take all permissions from its own files. The host makes such a file readable,
//! opens it, and restores its mode. A directory stays readable while it is listed, and writable
//! while an entry is replaced. If the process is killed in between, the next one restores the mode
//! by a record ([`ModeRecords`](super::ModeRecords)). Other users never get a permission.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Mutex;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::{self, IN_MOUNT};
use super::mode_records::ModeRecord;
use super::remove::by_descriptor;
use crate::internal::lock;

/// Permissions that listing a directory and opening its entries need.
pub(super) const LIST: u32 = 0o500;
/// Permission that reading a file needs.
const READ: u32 = 0o400;

/// Files that are readable for a moment, by device and inode.
static GRANTED: Mutex<Option<HashMap<(u64, u64), Granted>>> = Mutex::new(None);

#[derive(Debug)]
struct Granted {
    original: u32,
    granted: u32,
    holders: usize,
    /// Deleted with this value, after the mode was restored.
    records: Vec<ModeRecord>,
}

/// Permission that a file's owner has as long as this value exists.
#[derive(Debug)]
pub(super) struct Grant {
    file: OwnedFd,
    id: (u64, u64),
    original: u32,
}

/// Directory that is open for listing and stays accessible while this value exists.
#[derive(Debug)]
pub struct ReadableDirectory {
    fd: OwnedFd,
    grant: Option<Grant>,
}

impl ReadableDirectory {
    /// Opens the directory `name` of `parent`. A mount point is not entered (`EXDEV`), a symlink is
    /// not followed (`ELOOP` or `ENOTDIR`), and a directory without permissions is opened.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn open_at(parent: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_in_mount(&parent, name, flags) {
            Ok(fd) => Ok(Self { fd, grant: None }),
            Err(Errno::ACCESS) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Self::open_granted(open_in_mount(&parent, name, flags)?)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Opens a directory beneath another, or that one if the path is empty. No component may be a
    /// symlink or a mount point; those without permissions are passed.
    ///
    /// # Errors
    /// Returns the error of the system, `EXDEV` for a mount point.
    pub fn open_beneath(dir: impl AsFd, path: &Path) -> rustix::io::Result<Self> {
        let path_or_dot = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(&dir, path_or_dot, flags, Mode::empty(), IN_MOUNT);
        let mut opened = match opened {
            Ok(fd) => Self { fd, grant: None },
            Err(Errno::ACCESS | Errno::NOSYS | Errno::AGAIN) => {
                let (_parents, fd) = open_path(dir, path, OFlags::DIRECTORY)?;
                match reopen(&fd) {
                    Err(Errno::ACCESS) => Self::open_granted(fd)?,
                    reopened => Self { fd: reopened?, grant: None },
                }
            }
            Err(errno) => return Err(errno),
        };
        // Modes have 16 bits.
        let mode = rustix::fs::fstat(&opened.fd)?.st_mode as u16;
        opened.make_accessible(mode)?;
        Ok(opened)
    }

    fn open_granted(dir: OwnedFd) -> rustix::io::Result<Self> {
        let grant = Grant::of(dir)?;
        Ok(Self { fd: reopen(&grant.file)?, grant: Some(grant) })
    }

    /// Makes the entries accessible if the owner may list a directory of this mode but not enter
    /// it.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn make_accessible(&mut self, mode: u16) -> rustix::io::Result<()> {
        let is_accessible = u32::from(mode) & LIST == LIST;
        if self.grant.is_none() && !is_accessible && !rustix::process::geteuid().is_root() {
            self.grant = Some(Grant::of(duplicate(&self.fd)?)?);
        }
        Ok(())
    }

    /// Returns the mode that the directory has apart from a permission granted by this value, or
    /// `None` if nothing was granted.
    pub fn original_mode(&self) -> Option<u16> {
        // The permission bits of a mode have 16 bits.
        self.grant.as_ref().map(|grant| grant.original as u16)
    }
}

impl AsFd for ReadableDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a file beneath a directory although it or a directory above denies access to its owner. No
/// component may be a symlink. The mode is restored before this function returns.
pub(super) fn open_file(dir: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let (_parents, file) = open_path(dir, path, OFlags::empty())?;
    let grant = match Grant::of(duplicate(&file)?) {
        Ok(grant) => Some(grant),
        // Only a directory above denied access. It may have a grant of another thread by now.
        Err(Errno::ACCESS) => None,
        Err(errno) => return Err(errno),
    };
    let opened = rustix::fs::open(by_descriptor(&file), flags | OFlags::CLOEXEC, Mode::empty());
    drop(grant);
    opened
}

/// Runs an operation on entries of an open directory. If the directory denies it to its owner, the
/// owner has all permissions for a moment.
#[cfg(feature = "native")]
pub(crate) fn with_access<T>(
    dir: &OwnedFd,
    operation: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match operation() {
        Err(Errno::ACCESS) => {
            let _granted = Grant::with(duplicate(dir)?, 0o700)?;
            operation()
        }
        other => other,
    }
}

/// Access to the entries of a directory, which may deny that to its owner, while this value exists.
#[derive(Debug)]
pub(super) struct WriteAccess {
    _grant: Option<Grant>,
}

impl WriteAccess {
    /// Makes the entries of an open directory of this user accessible. Those of another directory
    /// stay as they are, so that the operation on them fails.
    pub(super) fn to(dir: &OwnedFd) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let grant = || Grant::with(duplicate(dir).ok()?, 0o700).ok();
        Self { _grant: if is_root { None } else { grant() } }
    }
}

/// Opens a directory whose path contains no symlink, even if it or one above denies access to its
/// owner. The result serves as the start of other paths only.
pub(super) fn open_plain_directory(
    dir: impl AsFd + Copy,
    path: &Path,
) -> rustix::io::Result<OwnedFd> {
    let path_or_dot = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match beneath::open_plain_directory(dir, path_or_dot) {
        Err(Errno::ACCESS) => Ok(open_path(dir, path, OFlags::DIRECTORY)?.1),
        other => other,
    }
}

/// Returns whether this process opens a file with this mode only by a grant.
pub fn is_opened_by_grant(mode: u16) -> bool {
    u32::from(mode) & READ == 0 && !rustix::process::geteuid().is_root()
}

impl Grant {
    /// Grants the owner access to an open regular file or directory of this user.
    fn of(file: OwnedFd) -> rustix::io::Result<Self> {
        Self::with(file, LIST)
    }

    /// Like [`Grant::of`], with these permissions if the file is a directory.
    fn with(file: OwnedFd, of_directory: u32) -> rustix::io::Result<Self> {
        let mut granted = lock(&GRANTED);
        let stat = rustix::fs::fstat(&file)?;
        let needed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => of_directory,
            FileType::RegularFile => READ,
            _ => return Err(Errno::ACCESS),
        };
        let id = (stat.st_dev, stat.st_ino);
        let granted = granted.get_or_insert_default();
        if let Some(known) = granted.get_mut(&id) {
            if known.granted & needed != needed {
                let changed = known.granted | needed;
                let record = ModeRecord::write(&file, id, known.original, changed)?;
                set_mode(&file, changed)?;
                known.records.extend(record);
                known.granted = changed;
            }
            known.holders += 1;
            return Ok(Self { file, id, original: known.original });
        }
        let original = stat.st_mode & 0o7777;
        let is_denied_by_mode = original & needed != needed;
        if stat.st_uid != rustix::process::geteuid().as_raw() || !is_denied_by_mode {
            return Err(Errno::ACCESS);
        }
        let changed = original | needed;
        let records = Vec::from_iter(ModeRecord::write(&file, id, original, changed)?);
        set_mode(&file, changed)?;
        granted.insert(id, Granted { original, granted: changed, holders: 1, records });
        Ok(Self { file, id, original })
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut granted = lock(&GRANTED);
        let Some(known) = granted.as_mut().and_then(|granted| granted.get_mut(&self.id)) else {
            return;
        };
        known.holders -= 1;
        if known.holders > 0 {
            return;
        }
        let mode = known.granted;
        let _records = granted.get_or_insert_default().remove(&self.id);
        // A mode that a command has set meanwhile is kept.
        let is_ours = |stat: Stat| stat.st_mode & 0o7777 == mode;
        if rustix::fs::fstat(&self.file).is_ok_and(is_ours) {
            // If this fails, the owner keeps the permission.
            let _ = set_mode(&self.file, self.original);
        }
    }
}

/// Sets the mode of an open file. `fchmod(2)` rejects descriptors that were opened with `O_PATH`.
pub(super) fn set_mode(file: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::chmod(by_descriptor(file), Mode::from_raw_mode(mode))
}

/// Opens a directory again for listing.
fn reopen(dir: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty())
}

fn duplicate(file: impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(file, 0)
}

/// Opens a path one component after another. Returns the permissions that were granted on the way,
/// which hold until they are dropped.
pub(super) fn open_path(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<(Vec<Grant>, OwnedFd)> {
    let mut grants = Vec::new();
    // Opening `.` would fail if this directory denies access.
    let mut at = duplicate(dir)?;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(Errno::XDEV) };
        let flags = if components.peek().is_some() { OFlags::DIRECTORY } else { flags };
        let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
        let below = match open_in_mount(&at, &name, flags) {
            Err(Errno::ACCESS) => {
                grants.push(Grant::of(duplicate(&at)?)?);
                open_in_mount(&at, &name, flags)
            }
            other => other,
        };
        at = below?;
    }
    if FileType::from_raw_mode(rustix::fs::fstat(&at)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    Ok((grants, at))
}

/// Opens an entry of a directory unless another file system is mounted on it (`EXDEV`). Kernels
/// before 5.6 lack `openat2`; there, the caller must detect mount points itself.
pub(super) fn open_in_mount(
    dir: impl AsFd,
    name: &CStr,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat2(&dir, name, flags, Mode::empty(), IN_MOUNT) {
        // A rename elsewhere interfered, which cannot matter for a single name.
        Err(Errno::NOSYS | Errno::AGAIN) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}
