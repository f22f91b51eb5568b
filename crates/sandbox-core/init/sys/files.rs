//! Descriptors, files and directories.

use super::{CStr, Errno, Fd, Result, c};
use crate::arch::ARCHITECTURE;

pub(super) const AT_EMPTY_PATH: usize = 0x1000;
pub(super) const AT_RECURSIVE: usize = 0x8000;
pub const AT_FDCWD: Fd = -100;
pub(super) const O_CLOEXEC: usize = 0o2_000_000;
pub const O_PATH: usize = 0o10_000_000;
pub const O_DIRECTORY: usize = ARCHITECTURE.o_directory;
pub const O_CREAT_EXCL: usize = 0o300;
pub const O_NOFOLLOW: usize = ARCHITECTURE.o_nofollow;
pub const O_WRONLY: usize = 1;
pub const O_ACCESS_MODE: usize = 3;

pub fn close(fd: Fd) {
    let _ = sys!(close, fd);
}

/// Closes all descriptors at and above `first`.
pub fn close_from(first: Fd) -> Result<()> {
    sys!(close_range, first, u32::MAX, 0).map(drop)
}

pub fn dup_to(fd: Fd, to: Fd) -> Result<()> {
    if fd == to { Ok(()) } else { sys!(dup3, fd, to, 0).map(drop) }
}

/// Empties a signalfd or an eventfd.
pub fn drain(fd: Fd) {
    let mut buffer = [0u8; 128];
    let _ = sys!(read, fd, buffer.as_mut_ptr(), buffer.len());
}

/// Reads once. Returns 0 at the end of the file.
pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match sys!(read, fd, buffer.as_mut_ptr(), buffer.len()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Reads a file from its beginning, independent of its position.
pub fn read_from_start(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(pread64, fd, buffer.as_mut_ptr(), buffer.len(), 0)
}

pub fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Err(Errno::INTR) => {}
            other => bytes = &bytes[other?..],
        }
    }
    Ok(())
}

/// Creates a pipe. Returns its reading and its writing end.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends = [0; 2];
    sys!(pipe2, ends.as_mut_ptr(), O_CLOEXEC)?;
    Ok((ends[0], ends[1]))
}

/// `O_NONBLOCK` (`fcntl(2)`).
pub const O_NONBLOCK: usize = 0o4000;

pub fn status_flags(fd: Fd) -> Result<usize> {
    // F_GETFL
    sys!(fcntl, fd, 3, 0)
}

pub fn set_status_flags(fd: Fd, flags: usize) -> Result<()> {
    // F_SETFL
    sys!(fcntl, fd, 4, flags).map(drop)
}

pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    sys!(write, fd, bytes.as_ptr(), bytes.len())
}

/// `struct statx`. Init reads the mode at offset 28, the inode at 32, the size at 40, the numbers
/// of a device file at 128, and the device with the file at 136.
#[repr(C, align(8))]
struct Statx([u8; 256]);

fn statx(fd: Fd) -> Result<Statx> {
    let mut stat = Statx([0; 256]);
    // STATX_TYPE | STATX_INO | STATX_SIZE
    sys!(statx, fd, c(b"\0").as_ptr(), AT_EMPTY_PATH, 0x301, &raw mut stat)?;
    Ok(stat)
}

pub(super) fn file_size(fd: Fd) -> Result<usize> {
    let Statx(bytes) = statx(fd)?;
    let mut size = [0; 8];
    size.copy_from_slice(&bytes[40..48]);
    Ok(u64::from_le_bytes(size) as usize)
}

/// Identity of a file: its device and its inode. Two open files differ in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: [u8; 8],
    inode: [u8; 8],
}

pub fn file_id(fd: Fd) -> Result<FileId> {
    let Statx(bytes) = statx(fd)?;
    let mut id = FileId { device: [0; 8], inode: [0; 8] };
    id.inode.copy_from_slice(&bytes[32..40]);
    id.device.copy_from_slice(&bytes[136..144]);
    Ok(id)
}

/// `S_IFLNK`, `S_IFDIR` and `S_IFCHR` (`inode(7)`).
const SYMLINK: u16 = 0o120_000;
const DIRECTORY: u16 = 0o040_000;
const CHARACTER_DEVICE: u16 = 0o020_000;

fn file_type(fd: Fd) -> Result<u16> {
    statx(fd).map(|stat| type_of(&stat))
}

fn type_of(Statx(bytes): &Statx) -> u16 {
    u16::from_le_bytes([bytes[28], bytes[29]]) & 0o170_000
}

/// Returns the major and the minor number of a character device, or `None` for another file.
pub fn character_device(fd: Fd) -> Result<Option<(u32, u32)>> {
    let stat = statx(fd)?;
    let number = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&stat.0[at..at + 4]);
        u32::from_le_bytes(word)
    };
    Ok((type_of(&stat) == CHARACTER_DEVICE).then(|| (number(128), number(132))))
}

pub fn is_symlink(fd: Fd) -> Result<bool> {
    Ok(file_type(fd)? == SYMLINK)
}

/// Returns whether a file is one of `proc(5)`.
pub fn is_in_proc(fd: Fd) -> Result<bool> {
    // PROC_SUPER_MAGIC in the first word of struct statfs
    let mut words = [0u64; 16];
    sys!(fstatfs, fd, words.as_mut_ptr())?;
    Ok(words[0] == 0x9fa0)
}

/// Changes the mode of a file that is open for reference. The secret lets the call through the
/// filter of this process.
pub fn change_mode(fd: Fd, mode: usize, [first, second]: [u64; 2]) -> Result<()> {
    let mut path = [0; 32];
    let mut digits = [0; 10];
    let mut at = 0;
    for part in [b"/proc/self/fd/", super::decimal(&mut digits, fd as u32), b"\0"] {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    sys!(fchmodat, AT_FDCWD as isize, path.as_ptr(), mode, first, second).map(drop)
}

pub fn is_directory(fd: Fd) -> Result<bool> {
    Ok(file_type(fd)? == DIRECTORY)
}

pub fn open(dir: Fd, path: CStr<'_>, flags: usize, mode: usize) -> Result<Fd> {
    sys!(openat, dir, path.as_ptr(), flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

/// Opens a path below `root` for reference, and follows no symlink in it.
pub fn open_plain(root: Fd, path: CStr<'_>) -> Result<Fd> {
    // struct open_how: flags, mode, resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
    // RESOLVE_IN_ROOT
    let how = [(O_PATH | O_CLOEXEC) as u64, 0, 0x04 | 0x02 | 0x10];
    sys!(openat2, root, path.as_ptr(), how.as_ptr(), 24).map(|fd| fd as Fd)
}

/// Like [`open_plain`], for a path that ends in a symlink. Opens the symlink itself.
pub fn open_plain_link(root: Fd, path: CStr<'_>) -> Result<Fd> {
    let how = [(O_PATH | O_NOFOLLOW | O_CLOEXEC) as u64, 0, 0x04 | 0x02 | 0x10];
    let opened = sys!(openat2, root, path.as_ptr(), how.as_ptr(), 24)? as Fd;
    expect_link(opened)
}

/// Like [`open_plain`] from the root of the process, without `openat2`, about which the kernel
/// would ask init.
pub fn open_in_steps(path: CStr<'_>) -> Result<Fd> {
    let at = open_last_in_steps(path)?;
    if file_type(at)? == SYMLINK {
        close(at);
        return Err(Errno::LOOP);
    }
    Ok(at)
}

/// Like [`open_in_steps`], for a path that ends in a symlink. Opens the symlink itself.
pub fn open_link_in_steps(path: CStr<'_>) -> Result<Fd> {
    expect_link(open_last_in_steps(path)?)
}

fn expect_link(opened: Fd) -> Result<Fd> {
    if file_type(opened)? == SYMLINK {
        return Ok(opened);
    }
    close(opened);
    Err(Errno::INVAL)
}

/// Opens a path component by component. Opens a symlink at the end itself.
fn open_last_in_steps(path: CStr<'_>) -> Result<Fd> {
    let mut at = open(AT_FDCWD, c(b"/\0"), O_PATH, 0)?;
    let mut name = [0; 256];
    for part in path.bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let end = part.len();
        name.get_mut(..end).ok_or(Errno::INVAL)?.copy_from_slice(part);
        *name.get_mut(end).ok_or(Errno::INVAL)? = 0;
        // This opens a symlink itself. The next component below it fails.
        let next = open(at, CStr::new(&name[..=end]).ok_or(Errno::INVAL)?, O_PATH | O_NOFOLLOW, 0);
        close(at);
        at = next?;
    }
    Ok(at)
}

pub fn make_directory(dir: Fd, path: CStr<'_>, mode: usize) -> Result<()> {
    sys!(mkdirat, dir, path.as_ptr(), mode).map(drop)
}

pub fn remove_directory(dir: Fd, path: CStr<'_>) -> Result<()> {
    // AT_REMOVEDIR
    sys!(unlinkat, dir, path.as_ptr(), 0x200).map(drop)
}

pub fn symlink(target: CStr<'_>, dir: Fd, path: CStr<'_>) -> Result<()> {
    sys!(symlinkat, target.as_ptr(), dir, path.as_ptr()).map(drop)
}

/// Reads the target of a symlink. Returns its length.
pub fn read_link(path: CStr<'_>, buffer: &mut [u8]) -> Result<usize> {
    sys!(readlinkat, AT_FDCWD as isize, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())
}

/// Reads the target of a symlink that is open for reference. Returns its length.
pub fn read_link_from(link: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(readlinkat, link, c(b"\0").as_ptr(), buffer.as_mut_ptr(), buffer.len())
}

pub fn chdir(path: CStr<'_>) -> Result<()> {
    sys!(chdir, path.as_ptr()).map(drop)
}

pub fn fchdir(fd: Fd) -> Result<()> {
    sys!(fchdir, fd).map(drop)
}
