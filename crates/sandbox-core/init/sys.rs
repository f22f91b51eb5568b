//! The system calls that init makes, without a C library.

use core::arch::{asm, naked_asm};

/// An error number of the kernel (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const FAULT: Self = Self(14);
    pub const EXIST: Self = Self(17);
    pub const INVAL: Self = Self(22);
    pub const ROFS: Self = Self(30);
    pub const LOOP: Self = Self(40);
    pub const TOO_BIG: Self = Self(7);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// A descriptor. Init has few, knows each, and closes by hand.
pub type Fd = i32;

/// A text that ends in NUL, as the kernel takes paths.
#[derive(Clone, Copy)]
pub struct CStr<'a>(&'a [u8]);

impl<'a> CStr<'a> {
    /// `bytes` ends in NUL and has no other.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_last() {
            Some((0, rest)) if !rest.contains(&0) => Some(Self(bytes)),
            _ => None,
        }
    }

    /// # Safety
    /// `start` points to a text that ends in NUL and lives as long as the result.
    unsafe fn from_ptr(start: *const u8) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { core::ffi::CStr::from_ptr(start.cast()) }.to_bytes_with_nul())
    }

    pub fn bytes(self) -> &'a [u8] {
        &self.0[..self.0.len() - 1]
    }

    pub fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }

    /// The path without its leading slash, `.` for the root.
    pub fn below_root(self) -> CStr<'a> {
        match self.0 {
            [b'/', 0] => c(b".\0"),
            [b'/', rest @ ..] => CStr(rest),
            _ => self,
        }
    }
}

/// A literal such as `c(b"/proc\0")`.
pub const fn c(literal: &'static [u8]) -> CStr<'static> {
    CStr(literal)
}

mod nr {
    pub const CLOSE: usize = 3;
    pub const POLL: usize = 7;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const SHUTDOWN: usize = 48;
    pub const SETSOCKOPT: usize = 54;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const CHDIR: usize = 80;
    pub const FCHDIR: usize = 81;
    pub const UMASK: usize = 95;
    pub const GETEUID: usize = 107;
    pub const GETEGID: usize = 108;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const CAPSET: usize = 126;
    pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157;
    pub const SETRLIMIT: usize = 160;
    pub const MOUNT: usize = 165;
    pub const UMOUNT2: usize = 166;
    pub const SETHOSTNAME: usize = 170;
    pub const EXIT_GROUP: usize = 231;
    pub const KEYCTL: usize = 250;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266;
    pub const READLINKAT: usize = 267;
    pub const UNSHARE: usize = 272;
    pub const SIGNALFD4: usize = 289;
    pub const EVENTFD2: usize = 290;
    pub const DUP3: usize = 292;
    pub const SECCOMP: usize = 317;
    pub const STATX: usize = 332;
    pub const OPEN_TREE: usize = 428;
    pub const MOVE_MOUNT: usize = 429;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
    pub const MOUNT_SETATTR: usize = 442;
    pub const LANDLOCK_CREATE_RULESET: usize = 444;
    pub const LANDLOCK_ADD_RULE: usize = 445;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
    pub const PIPE2: usize = 293;
    pub const PROCESS_VM_READV: usize = 310;
    pub const PROCESS_VM_WRITEV: usize = 311;
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
}

/// # Safety
/// The arguments are what the system call `number` takes; pointers are valid for what it does with
/// them.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the clobbers are those of the kernel's x86-64
    // convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

macro_rules! sys {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: every caller in this file passes what the call takes, from references that
        // outlive it.
        unsafe { call($number, padded([$( ($argument) as usize ),*])) }
    };
}

fn padded<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&given);
    arguments
}

// After the macro, which they use.
mod landlock;
mod messages;
mod mounts;
mod notifications;
mod processes;

pub use landlock::*;
pub use messages::*;
pub use mounts::*;
pub use notifications::*;
pub use processes::*;

/// The arguments of the program, as the kernel leaves them on the stack: their count, then a
/// pointer to each (System V x86-64 ABI, 3.4.1).
#[repr(transparent)]
pub struct Arguments(*const usize);

impl Arguments {
    /// The first few, where there are as many.
    pub fn first<const N: usize>(&self) -> [Option<CStr<'static>>; N] {
        // SAFETY: `_start` passes the stack pointer that the kernel set, and nothing has changed
        // that part of the stack.
        let count = unsafe { self.0.read() };
        core::array::from_fn(|at| {
            // SAFETY: as above; each is a text that ends in NUL.
            (at < count).then(|| unsafe { CStr::from_ptr(self.0.add(1 + at).read() as *const u8) })
        })
    }
}

/// Where the kernel starts the program: no frame.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym crate::start)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// `core` was compiled for unwinding and names this function; nothing here unwinds.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(nr::EXIT_GROUP, code);
    }
}

pub fn close(fd: Fd) {
    let _ = sys!(nr::CLOSE, fd);
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: Fd) -> Result<()> {
    sys!(nr::CLOSE_RANGE, first, u32::MAX, 0).map(drop)
}

pub fn dup_to(fd: Fd, to: Fd) -> Result<()> {
    if fd == to { Ok(()) } else { sys!(nr::DUP3, fd, to, 0).map(drop) }
}

/// Reads what a signalfd or an eventfd holds, to empty it.
pub fn drain(fd: Fd) {
    let mut buffer = [0u8; 128];
    let _ = sys!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len());
}

/// Reads once; 0 at the end.
pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match sys!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Reads a file from its beginning, wherever reading has come to.
pub fn read_from_start(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::PREAD64, fd, buffer.as_mut_ptr(), buffer.len(), 0)
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

/// A pipe: its reading and its writing end.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends = [0; 2];
    sys!(nr::PIPE2, ends.as_mut_ptr(), O_CLOEXEC)?;
    Ok((ends[0], ends[1]))
}

pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    sys!(nr::WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// Anonymous memory, zeroed, that lives as long as the process.
pub fn memory(len: usize) -> Result<&'static mut [u8]> {
    // PROT_READ|WRITE, MAP_PRIVATE|MAP_ANONYMOUS
    let at = sys!(nr::MMAP, 0, len, 3, 0x22, -1isize, 0)?;
    // SAFETY: the kernel has just given this mapping to nobody else, and it is never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

/// Something for which zeros are a value, in memory of its own, zeroed.
pub fn zeroed<T: Zero>() -> Result<&'static mut T> {
    // SAFETY: pages are aligned for every type here, zeros are a value of it, and the mapping is
    // nobody else's.
    memory(size_of::<T>()).map(|bytes| unsafe { &mut *bytes.as_mut_ptr().cast() })
}

/// The same, in memory that stays common to the processes that are forked later.
pub fn shared_memory<T: Zero + Sync>() -> Result<&'static T> {
    // PROT_READ|WRITE, MAP_SHARED|MAP_ANONYMOUS
    let at = sys!(nr::MMAP, 0, size_of::<T>(), 3, 0x21, -1isize, 0)?;
    // SAFETY: as above; what is shared is made to be changed by several at once.
    Ok(unsafe { &*(at as *const T) })
}

/// A type for which zeros in every byte are a value.
///
/// # Safety
/// They are.
pub unsafe trait Zero {}

/// A file's content as it is now. The file must not shrink: it is one of ours, sealed.
pub fn map_file(fd: Fd) -> Result<&'static [u8]> {
    let len = file_size(fd)?;
    if len == 0 {
        return Err(Errno::INVAL);
    }
    // PROT_READ, MAP_PRIVATE
    let at = sys!(nr::MMAP, 0, len, 1, 2, fd, 0)?;
    // SAFETY: the mapping is ours alone, and its file is sealed against shrinking by the host.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, len) })
}

/// A file's content as it is now, until this is dropped.
pub struct Mapping(&'static [u8]);

impl Mapping {
    pub fn of(fd: Fd) -> Result<Self> {
        map_file(fd).map(Self)
    }

    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = sys!(nr::MUNMAP, self.0.as_ptr(), self.0.len());
    }
}

const AT_EMPTY_PATH: usize = 0x1000;
const AT_RECURSIVE: usize = 0x8000;
pub const AT_FDCWD: Fd = -100;
const O_CLOEXEC: usize = 0o2_000_000;
pub const O_PATH: usize = 0o10_000_000;
pub const O_DIRECTORY: usize = 0o200_000;
pub const O_CREAT_EXCL: usize = 0o300;
const O_NOFOLLOW: usize = 0o400_000;
pub const O_WRONLY: usize = 1;

/// `struct statx`, of which init reads the mode (offset 28) and the size (offset 40).
#[repr(C, align(8))]
struct Statx([u8; 256]);

fn statx(fd: Fd) -> Result<Statx> {
    let mut stat = Statx([0; 256]);
    // STATX_TYPE | STATX_SIZE
    sys!(nr::STATX, fd, c(b"\0").as_ptr(), AT_EMPTY_PATH, 0x201, &raw mut stat)?;
    Ok(stat)
}

fn file_size(fd: Fd) -> Result<usize> {
    let Statx(bytes) = statx(fd)?;
    let mut size = [0; 8];
    size.copy_from_slice(&bytes[40..48]);
    Ok(u64::from_le_bytes(size) as usize)
}

/// `S_IFLNK` and `S_IFDIR` (`inode(7)`).
const SYMLINK: u16 = 0o120_000;
const DIRECTORY: u16 = 0o040_000;

fn file_type(fd: Fd) -> Result<u16> {
    let Statx(bytes) = statx(fd)?;
    Ok(u16::from_le_bytes([bytes[28], bytes[29]]) & 0o170_000)
}

pub fn is_directory(fd: Fd) -> Result<bool> {
    Ok(file_type(fd)? == DIRECTORY)
}

pub fn open(dir: Fd, path: CStr<'_>, flags: usize, mode: usize) -> Result<Fd> {
    sys!(nr::OPENAT, dir, path.as_ptr(), flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

/// Opens a path for reference, following no symlink anywhere, with `root` as its root.
pub fn open_plain(root: Fd, path: CStr<'_>) -> Result<Fd> {
    // struct open_how: flags, mode, resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
    // RESOLVE_IN_ROOT
    let how = [(O_PATH | O_CLOEXEC) as u64, 0, 0x04 | 0x02 | 0x10];
    sys!(nr::OPENAT2, root, path.as_ptr(), how.as_ptr(), 24).map(|fd| fd as Fd)
}

/// The same from the process's own root, without `openat2`, by which a filter cannot tell that no
/// file is made.
pub fn open_in_steps(path: CStr<'_>) -> Result<Fd> {
    let mut at = open(AT_FDCWD, c(b"/\0"), O_PATH, 0)?;
    let mut name = [0; 256];
    for part in path.bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let end = part.len();
        name.get_mut(..end).ok_or(Errno::INVAL)?.copy_from_slice(part);
        *name.get_mut(end).ok_or(Errno::INVAL)? = 0;
        // A symlink is opened itself; it has nothing below it, and nothing is mounted on it.
        let next = open(at, CStr::new(&name[..=end]).ok_or(Errno::INVAL)?, O_PATH | O_NOFOLLOW, 0);
        close(at);
        at = next?;
    }
    if file_type(at)? == SYMLINK {
        close(at);
        return Err(Errno::LOOP);
    }
    Ok(at)
}

pub fn make_directory(dir: Fd, path: CStr<'_>, mode: usize) -> Result<()> {
    sys!(nr::MKDIRAT, dir, path.as_ptr(), mode).map(drop)
}

pub fn remove_directory(dir: Fd, path: CStr<'_>) -> Result<()> {
    // AT_REMOVEDIR
    sys!(nr::UNLINKAT, dir, path.as_ptr(), 0x200).map(drop)
}

pub fn symlink(target: CStr<'_>, dir: Fd, path: CStr<'_>) -> Result<()> {
    sys!(nr::SYMLINKAT, target.as_ptr(), dir, path.as_ptr()).map(drop)
}

/// Where a symlink leads; gives the length of that.
pub fn read_link(path: CStr<'_>, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::READLINKAT, AT_FDCWD as isize, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())
}

pub fn chdir(path: CStr<'_>) -> Result<()> {
    sys!(nr::CHDIR, path.as_ptr()).map(drop)
}

pub fn fchdir(fd: Fd) -> Result<()> {
    sys!(nr::FCHDIR, fd).map(drop)
}

#[repr(C)]
struct IoVec {
    base: *mut u8,
    len: usize,
}

/// A number as the kernel's files take it.
pub fn decimal<const N: usize>(buffer: &mut [u8; N], number: impl Into<u64>) -> &[u8] {
    let mut at = buffer.len();
    let mut rest: u64 = number.into();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &buffer[at..];
        }
    }
}
