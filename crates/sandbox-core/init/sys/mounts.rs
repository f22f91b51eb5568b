//! Mounts, and the change of the root.

use super::{AT_EMPTY_PATH, AT_RECURSIVE, CStr, Errno, Fd, O_CLOEXEC, Result, c, chdir, decimal};

pub const MS_RDONLY: usize = 1;
pub const MS_NOSUID: usize = 2;
pub const MS_NODEV: usize = 4;
pub const MS_NOEXEC: usize = 8;

/// Mounts a new file system on the current directory.
pub fn mount_here(kind: CStr<'_>, flags: usize, options: CStr<'_>) -> Result<()> {
    sys!(mount, kind.as_ptr(), c(b".\0").as_ptr(), kind.as_ptr(), flags, options.as_ptr()).map(drop)
}

/// Isolates the mount namespace from later mounts of the host.
pub fn make_mounts_private() -> Result<()> {
    // MS_REC | MS_PRIVATE
    sys!(mount, 0, c(b"/\0").as_ptr(), 0, 0x4000 | 0x4_0000, 0).map(drop)
}

/// Propagates later mounts to namespaces that are created from this one.
pub fn share_mounts() -> Result<()> {
    // MS_REC | MS_SHARED
    sys!(mount, 0, c(b"/\0").as_ptr(), 0, 0x4000 | 0x10_0000, 0).map(drop)
}

/// Keeps mounts of this namespace out of its origin, whose later mounts still appear here.
pub fn follow_mounts() -> Result<()> {
    // MS_REC | MS_SLAVE
    sys!(mount, 0, c(b"/\0").as_ptr(), 0, 0x4000 | 0x8_0000, 0).map(drop)
}

/// Returns a detached copy of the mounts at and below `fd`.
pub fn clone_mounts(fd: Fd) -> Result<Fd> {
    sys!(open_tree, fd, c(b"\0").as_ptr(), 1 | AT_EMPTY_PATH | AT_RECURSIVE | O_CLOEXEC)
        .map(|fd| fd as Fd)
}

/// Adds attributes to every mount of a copy. A sandboxed process lacks the right to remove them.
pub fn restrict_mounts(mounts: Fd, attributes: usize) -> Result<()> {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    let attr = [attributes as u64, 0, 0, 0];
    sys!(mount_setattr, mounts, c(b"\0").as_ptr(), AT_EMPTY_PATH | AT_RECURSIVE, attr.as_ptr(), 32)
        .map(drop)
}

/// Adds attributes to the one mount whose root is `fd`.
pub fn restrict_mount(fd: Fd, attributes: usize) -> Result<()> {
    let attr = [attributes as u64, 0, 0, 0];
    sys!(mount_setattr, fd, c(b"\0").as_ptr(), AT_EMPTY_PATH, attr.as_ptr(), 32).map(drop)
}

/// Attaches detached mounts at `at`.
pub fn attach(mounts: Fd, at: Fd) -> Result<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    let empty = c(b"\0").as_ptr();
    sys!(move_mount, mounts, empty, at, empty, 0x44).map(drop)
}

/// Makes the current directory the root, and detaches the old root (`pivot_root(2)`,
/// "pivot_root(".", ".")").
pub fn enter_root() -> Result<()> {
    let here = c(b".\0").as_ptr();
    sys!(pivot_root, here, here)?;
    // MNT_DETACH
    sys!(umount2, here, 2)?;
    chdir(c(b"/\0"))
}

/// Returns `mode=1777,size=<size_mib>m,nr_inodes=<files>` (`tmpfs(5)`).
pub fn size_options(buffer: &mut [u8; 64], size_mib: u32, files: u32) -> Result<CStr<'_>> {
    let (mut size, mut count) = ([0; 10], [0; 10]);
    let (size, count) = (decimal(&mut size, size_mib), decimal(&mut count, files));
    let mut end = 0;
    for part in [b"mode=1777,size=", size, b"m,nr_inodes=", count, b"\0"] {
        buffer[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    CStr::new(&buffer[..end]).ok_or(Errno::INVAL)
}
