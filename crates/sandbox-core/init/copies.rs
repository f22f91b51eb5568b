//! Copies of mounts: files and directories of the host, as a session sees them.

use crate::mounts::ROOT;
use crate::sys::{self, CStr, Fd, MS_NODEV, MS_NOSUID, MS_RDONLY, Result};
use crate::wire;

/// Opens a path in the host's tree.
pub fn on_host(path: CStr<'_>, open: impl Fn(Fd, CStr<'_>) -> Result<Fd>) -> Result<Fd> {
    let host = sys::open(sys::AT_FDCWD, ROOT, sys::O_PATH, 0)?;
    let opened = open(host, path.below_root());
    sys::close(host);
    opened
}

/// Mounts a copy of the mounts at `source` on `target`, and closes both.
pub fn mount_copy(source: Fd, target: Fd, attributes: usize) -> Result<()> {
    let copy = sys::clone_mounts(source)?;
    sys::restrict_mounts(copy, attributes)?;
    sys::attach(copy, target)?;
    sys::close(copy);
    sys::close(source);
    sys::close(target);
    Ok(())
}

/// Returns mount attributes. `MOUNT_ATTR_RDONLY`, `_NOSUID` and `_NODEV` have the numbers of the
/// old mount flags.
pub fn attributes(access: u32) -> usize {
    let always = MS_NOSUID | MS_NODEV;
    if access == wire::READ_WRITE { always } else { always | MS_RDONLY }
}
