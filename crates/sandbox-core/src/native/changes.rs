//! Identities and times of files, which show what a command has brought to a path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::files::with_access;

/// Flags to open a directory as a place.
pub(super) const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Identity of a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: (u32, u32),
    inode: u64,
}

impl FileId {
    pub(super) fn of(stat: &Statx) -> Self {
        Self { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino }
    }
}

/// Times that decide which files a command has brought to a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The time since which files are unchecked.
    pub(super) since: SystemTime,
    /// The beginning of the check before, which has not found the file.
    pub(super) last_check: SystemTime,
}

impl Times {
    /// Returns whether a command has brought a file to its path. `is_moved` tells whether a
    /// directory above was moved since the last check. The host may have created other files.
    pub(super) fn is_new(self, stat: &Statx, is_moved: bool) -> bool {
        changed(stat) >= self.since || (is_moved && time(stat) < self.last_check)
    }
}

pub(super) fn stat(dir: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::CTIME | StatxFlags::INO;
    rustix::fs::statx(dir, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// Returns the latest time at which an inode may have changed last.
pub(super) fn changed(stat: &Statx) -> SystemTime {
    // Some file systems keep whole seconds only.
    let is_rounded = stat.stx_ctime.tv_nsec == 0;
    time(stat) + if is_rounded { Duration::from_secs(1) } else { Duration::ZERO }
}

/// Returns the time of an inode's last change, which no process can set.
fn time(stat: &Statx) -> SystemTime {
    let (seconds, nanoseconds) = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds)
}

/// Opens a directory whose path contains no symlink, although a directory above may deny access to
/// its owner.
pub(super) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, DIRECTORY, Mode::empty(), resolve) {
        // Kernels before 5.6 lack the call, and concurrent renames interfere with it.
        Err(Errno::ACCESS | Errno::NOSYS | Errno::AGAIN) => {}
        other => return other,
    }
    let mut at = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
    for name in path.strip_prefix("/").unwrap_or(path) {
        at = with_access(&at, || rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()))?;
    }
    Ok(at)
}
