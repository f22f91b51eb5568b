//! The system calls that init makes, without a C library.

use core::arch::{asm, naked_asm};

/// An error number of the kernel (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const NOENT: Self = Self(2);
    pub const INTR: Self = Self(4);
    pub const EXIST: Self = Self(17);
    pub const INVAL: Self = Self(22);
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
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const SOCKET: usize = 41;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
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
    pub const SYMLINKAT: usize = 266;
    pub const UNSHARE: usize = 272;
    pub const SIGNALFD4: usize = 289;
    pub const EVENTFD2: usize = 290;
    pub const DUP3: usize = 292;
    pub const SECCOMP: usize = 317;
    pub const STATX: usize = 332;
    pub const OPEN_TREE: usize = 428;
    pub const MOVE_MOUNT: usize = 429;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
    pub const MOUNT_SETATTR: usize = 442;
    pub const PIPE2: usize = 293;
    pub const PROCESS_VM_WRITEV: usize = 311;
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
}

/// # Safety
/// The arguments are what the system call `number` takes; pointers are valid for what it does with them.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the clobbers are those of the kernel's x86-64 convention.
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
        // SAFETY: every caller in this file passes what the call takes, from references that outlive it.
        unsafe { call($number, padded([$( ($argument) as usize ),*])) }
    };
}

fn padded<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&given);
    arguments
}

/// Where the kernel starts the program: no frame, no arguments of interest.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {start}", "ud2", start = sym crate::start)
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

const AT_EMPTY_PATH: usize = 0x1000;
const AT_RECURSIVE: usize = 0x8000;
pub const AT_FDCWD: Fd = -100;
const O_CLOEXEC: usize = 0o2_000_000;
pub const O_PATH: usize = 0o10_000_000;
pub const O_DIRECTORY: usize = 0o200_000;
pub const O_CREAT_EXCL: usize = 0o300;
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

pub fn is_directory(fd: Fd) -> Result<bool> {
    let Statx(bytes) = statx(fd)?;
    Ok(u16::from_le_bytes([bytes[28], bytes[29]]) & 0o170_000 == 0o040_000)
}

pub fn open(dir: Fd, path: CStr<'_>, flags: usize, mode: usize) -> Result<Fd> {
    sys!(nr::OPENAT, dir, path.as_ptr(), flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

/// Opens a path for reference, following no symlink anywhere, with `root` as its root.
pub fn open_plain(root: Fd, path: CStr<'_>) -> Result<Fd> {
    // struct open_how: flags, mode, resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT
    let how = [(O_PATH | O_CLOEXEC) as u64, 0, 0x04 | 0x02 | 0x10];
    sys!(nr::OPENAT2, root, path.as_ptr(), how.as_ptr(), 24).map(|fd| fd as Fd)
}

pub fn make_directory(dir: Fd, path: CStr<'_>, mode: usize) -> Result<()> {
    sys!(nr::MKDIRAT, dir, path.as_ptr(), mode).map(drop)
}

pub fn symlink(target: CStr<'_>, dir: Fd, path: CStr<'_>) -> Result<()> {
    sys!(nr::SYMLINKAT, target.as_ptr(), dir, path.as_ptr()).map(drop)
}

pub fn chdir(path: CStr<'_>) -> Result<()> {
    sys!(nr::CHDIR, path.as_ptr()).map(drop)
}

pub fn fchdir(fd: Fd) -> Result<()> {
    sys!(nr::FCHDIR, fd).map(drop)
}

pub const MS_RDONLY: usize = 1;
pub const MS_NOSUID: usize = 2;
pub const MS_NODEV: usize = 4;
pub const MS_NOEXEC: usize = 8;

/// Mounts a new file system on the current directory.
pub fn mount_here(kind: CStr<'_>, flags: usize, options: CStr<'_>) -> Result<()> {
    sys!(nr::MOUNT, kind.as_ptr(), c(b".\0").as_ptr(), kind.as_ptr(), flags, options.as_ptr()).map(drop)
}

/// Cuts the mount namespace off from what the host mounts later.
pub fn make_mounts_private() -> Result<()> {
    // MS_REC | MS_PRIVATE
    sys!(nr::MOUNT, 0, c(b"/\0").as_ptr(), 0, 0x4000 | 0x4_0000, 0).map(drop)
}

/// A detached copy of the mounts at and below what `fd` refers to.
pub fn clone_mounts(fd: Fd) -> Result<Fd> {
    sys!(nr::OPEN_TREE, fd, c(b"\0").as_ptr(), 1 | AT_EMPTY_PATH | AT_RECURSIVE | O_CLOEXEC).map(|fd| fd as Fd)
}

/// Adds attributes to every mount of a copy, for good: a sandboxed process has no right to take them off.
pub fn restrict_mounts(mounts: Fd, attributes: usize) -> Result<()> {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    let attr = [attributes as u64, 0, 0, 0];
    sys!(nr::MOUNT_SETATTR, mounts, c(b"\0").as_ptr(), AT_EMPTY_PATH | AT_RECURSIVE, attr.as_ptr(), 32).map(drop)
}

/// The same for the one mount that `fd` is the root of.
pub fn restrict_mount(fd: Fd, attributes: usize) -> Result<()> {
    let attr = [attributes as u64, 0, 0, 0];
    sys!(nr::MOUNT_SETATTR, fd, c(b"\0").as_ptr(), AT_EMPTY_PATH, attr.as_ptr(), 32).map(drop)
}

/// Attaches detached mounts on what `at` refers to.
pub fn attach(mounts: Fd, at: Fd) -> Result<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    let empty = c(b"\0").as_ptr();
    sys!(nr::MOVE_MOUNT, mounts, empty, at, empty, 0x44).map(drop)
}

/// Makes the current directory the root and lets go of the old one (`pivot_root(2)`, "pivot_root(".", ".")").
pub fn enter_root() -> Result<()> {
    let here = c(b".\0").as_ptr();
    sys!(nr::PIVOT_ROOT, here, here)?;
    // MNT_DETACH
    sys!(nr::UMOUNT2, here, 2)?;
    chdir(c(b"/\0"))
}

pub fn unshare(flags: usize) -> Result<()> {
    sys!(nr::UNSHARE, flags).map(drop)
}

/// Forks, with `clone(2)` flags; `Ok(0)` in the child.
pub fn fork(flags: usize) -> Result<i32> {
    sys!(nr::CLONE, flags | 17, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// Starts a child that shares this process's memory, on a stack of its own, and sleeps until it has executed a program or ended. Nothing is
/// copied, and no page is made to be copied on writing. `run` must not return, and `T` is its own until then.
pub fn start_sharing<T>(stack: &mut [u8], run: extern "C" fn(&mut T) -> !, argument: &mut T) -> Result<i32> {
    const CLONE_VM: usize = 0x100;
    const CLONE_VFORK: usize = 0x4000;
    // The stack grows down, and calls want it aligned to 16.
    let top = (stack.as_mut_ptr() as usize + stack.len()) & !15;
    let result: isize;
    // SAFETY: the child runs on its own stack and calls a function that never returns, with a reference that nobody else uses: the
    // caller sleeps. The clobbers are those of the kernel's x86-64 convention; the child's registers are its own.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") nr::CLONE as isize => result,
            in("rdi") CLONE_VM | CLONE_VFORK | 17, in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") core::ptr::from_mut(argument), in("r13") run,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as i32) }
}

/// Waits for any child: its id and its status; `block` says whether to wait for one to end.
pub fn wait(block: bool) -> Result<(i32, u32)> {
    let mut status = 0u32;
    // __WALL, WNOHANG
    let options = 0x4000_0000 | usize::from(!block);
    loop {
        match sys!(nr::WAIT4, -1isize, &raw mut status, options, 0) {
            Err(Errno::INTR) => {}
            other => return other.map(|pid| (pid as i32, status)),
        }
    }
}

pub fn kill_group(leader: i32, signal: u32) {
    let _ = sys!(nr::KILL, -(leader as isize), signal);
}

/// Kills every process that this one can see but itself.
pub fn kill_all_others() {
    let _ = sys!(nr::KILL, -1isize, 9);
}

pub fn execute(path: CStr<'_>, arguments: &[*const u8], variables: &[*const u8]) -> Errno {
    match sys!(nr::EXECVE, path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno::INVAL,
    }
}

pub fn new_terminal_session() {
    let _ = sys!(nr::SETSID);
}

pub fn user_and_group() -> (u32, u32) {
    let id = |number| sys!(number).unwrap_or(0) as u32;
    (id(nr::GETEUID), id(nr::GETEGID))
}

pub fn drop_groups() -> Result<()> {
    sys!(nr::SETGROUPS, 0, 0).map(drop)
}

/// A keyring of its own, so that the host's session keyring is not inherited (`keyctl(2)`).
pub fn new_session_keyring() {
    let _ = sys!(nr::KEYCTL, 1, 0);
}

pub fn set_umask(mask: usize) {
    let _ = sys!(nr::UMASK, mask);
}

pub fn set_host_name(name: &[u8]) -> Result<()> {
    sys!(nr::SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    sys!(nr::SETRLIMIT, resource, limit.as_ptr()).map(drop)
}

pub const PR_SET_PDEATHSIG: usize = 1;
pub const PR_SET_DUMPABLE: usize = 4;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;

pub fn prctl(option: usize, value: usize) -> Result<()> {
    sys!(nr::PRCTL, option, value, 0, 0, 0).map(drop)
}

/// Sees to it that no program that is ever executed gains a capability.
pub fn drop_bounding_set() -> Result<()> {
    for capability in 0..64 {
        match prctl(PR_CAPBSET_DROP, capability) {
            // Past the last capability that the kernel knows.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    // PR_CAP_AMBIENT_CLEAR_ALL
    prctl(PR_CAP_AMBIENT, 4)?;
    prctl(PR_SET_NO_NEW_PRIVS, 1)
}

/// Gives up the capabilities that this process has.
pub fn drop_capabilities() -> Result<()> {
    // struct __user_cap_header_struct (version 3, this process) and two empty __user_cap_data_struct
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    sys!(nr::CAPSET, header.as_ptr(), none.as_ptr()).map(drop)
}

/// Loads a seccomp filter: `program` is a row of `struct sock_filter`, 8 bytes each.
pub fn load_filter(program: &[u8]) -> Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    let program = Program { len: (program.len() / 8) as u16, filter: program.as_ptr() };
    // SECCOMP_SET_MODE_FILTER
    sys!(nr::SECCOMP, 1, 0, &raw const program).map(drop)
}

/// Brings the loopback device of the network namespace up (`netdevice(7)`).
pub fn loopback_up() -> Result<()> {
    // AF_INET, SOCK_DGRAM | SOCK_CLOEXEC
    let socket = sys!(nr::SOCKET, 2, 2 | O_CLOEXEC, 0)? as Fd;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    // IFF_UP | IFF_RUNNING
    request[16..18].copy_from_slice(&0x41u16.to_le_bytes());
    let up = sys!(nr::IOCTL, socket, 0x8914, request.as_ptr()).map(drop);
    close(socket);
    up
}

/// Sets every signal back to its default action, whatever the host ignores.
pub fn reset_signals() {
    // struct sigaction of the kernel: handler, flags, restorer, mask
    let default = [0usize; 4];
    for signal in 1..=64 {
        let _ = sys!(nr::RT_SIGACTION, signal, default.as_ptr(), 0, 8);
    }
}

const SIGCHLD_MASK: u64 = 1 << 16;

/// Blocks SIGCHLD, and makes a descriptor that becomes readable when a child ends.
pub fn child_events() -> Result<Fd> {
    let mask = SIGCHLD_MASK;
    sys!(nr::RT_SIGPROCMASK, 2, &raw const mask, 0, 8)?;
    // SFD_NONBLOCK | SFD_CLOEXEC
    sys!(nr::SIGNALFD4, -1isize, &raw const mask, 8, 0o4000 | O_CLOEXEC).map(|fd| fd as Fd)
}

pub fn unblock_signals() {
    let mask = 0u64;
    let _ = sys!(nr::RT_SIGPROCMASK, 2, &raw const mask, 0, 8);
}

pub fn event_counter() -> Result<Fd> {
    // EFD_NONBLOCK | EFD_CLOEXEC
    sys!(nr::EVENTFD2, 0, 0o4000 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// `struct pollfd`.
#[repr(C)]
pub struct Poll {
    pub fd: Fd,
    pub events: i16,
    pub found: i16,
}

pub const POLL_IN: i16 = 1;
pub const POLL_RDHUP: i16 = 0x2000;

/// Waits until one of `fds` has something, or for `timeout_ms` (-1: for ever).
pub fn poll(fds: &mut [Poll], timeout_ms: i32) -> Result<usize> {
    loop {
        match sys!(nr::POLL, fds.as_mut_ptr(), fds.len(), timeout_ms as isize) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[repr(C)]
struct IoVec {
    base: *mut u8,
    len: usize,
}

/// Writes each text to its address in the memory of another process, which this one must be allowed to trace.
pub fn write_memory<const N: usize>(pid: i32, texts: [(usize, &[u8]); N]) -> Result<()> {
    let from = texts.map(|(_, text)| IoVec { base: text.as_ptr().cast_mut(), len: text.len() });
    let to = texts.map(|(at, text)| IoVec { base: at as *mut u8, len: text.len() });
    let written = sys!(nr::PROCESS_VM_WRITEV, pid, from.as_ptr(), N, to.as_ptr(), N, 0)?;
    if written == texts.iter().map(|(_, text)| text.len()).sum() { Ok(()) } else { Err(Errno::INVAL) }
}

/// `struct msghdr`.
#[repr(C)]
struct MessageHeader {
    name: usize,
    name_len: usize,
    iov: *mut IoVec,
    iov_len: usize,
    control: *mut u8,
    control_len: usize,
    flags: u32,
}

/// Sends one message without descriptors.
pub fn send(socket: Fd, message: &[u8]) -> Result<()> {
    let mut iov = IoVec { base: message.as_ptr().cast_mut(), len: message.len() };
    let header = MessageHeader {
        name: 0,
        name_len: 0,
        iov: &raw mut iov,
        iov_len: 1,
        control: core::ptr::null_mut(),
        control_len: 0,
        flags: 0,
    };
    // MSG_NOSIGNAL
    sys!(nr::SENDMSG, socket, &raw const header, 0x4000).map(drop)
}

/// The most descriptors that one message brings.
pub const MAX_FDS: usize = 5;

/// Receives one message with its descriptors; an empty message means that the other side is gone.
pub fn receive<'b>(socket: Fd, buffer: &'b mut [u8], fds: &mut [Fd; MAX_FDS]) -> Result<(&'b [u8], usize)> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut iov = IoVec { base: buffer.as_mut_ptr(), len: buffer.len() };
    let mut header = MessageHeader {
        name: 0,
        name_len: 0,
        iov: &raw mut iov,
        iov_len: 1,
        control: control.0.as_mut_ptr(),
        control_len: 64,
        flags: 0,
    };
    // MSG_CMSG_CLOEXEC
    let len = loop {
        match sys!(nr::RECVMSG, socket, &raw mut header, 0x4000_0000) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    // One struct cmsghdr: length (8), SOL_SOCKET = 1 (4), SCM_RIGHTS = 1 (4), the descriptors.
    let word = |at: usize| u32::from_le_bytes([control.0[at], control.0[at + 1], control.0[at + 2], control.0[at + 3]]);
    let mut count = 0;
    if header.control_len >= 16 && word(8) == 1 && word(12) == 1 {
        count = ((word(0) as usize).saturating_sub(16) / 4).min(MAX_FDS);
        for (at, fd) in fds.iter_mut().enumerate().take(count) {
            *fd = word(16 + at * 4) as Fd;
        }
    }
    // MSG_TRUNC | MSG_CTRUNC
    if header.flags & 0x28 != 0 {
        return Err(Errno::TOO_BIG);
    }
    Ok((&buffer[..len], count))
}

/// A number as the kernel's files take it.
pub fn decimal(buffer: &mut [u8; 10], number: u32) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = number;
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &buffer[at..];
        }
    }
}
