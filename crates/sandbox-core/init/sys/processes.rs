//! Start, end and privileges of processes.

use super::{CStr, Errno, Fd, IoVec, Result, open, read};
use crate::arch;

/// Signal of a child that exits; in the lowest byte of the flags of `clone(2)`.
const SIGCHLD: usize = 17;

pub fn unshare(flags: usize) -> Result<()> {
    sys!(unshare, flags).map(drop)
}

/// Forks with flags of `clone(2)`. Returns 0 in the child.
pub fn fork(flags: usize) -> Result<i32> {
    sys!(clone, flags | SIGCHLD, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// Like [`fork`], into the control group of an open directory (`clone3(2)`).
pub fn fork_into(flags: usize, group: Fd) -> Result<i32> {
    const CLONE_PARENT: usize = 0x8000;
    const CLONE_INTO_CGROUP: u64 = 2 << 32;
    // The kernel requires 0 for a sibling, which has the exit signal of its parent.
    let exit_signal = if flags & CLONE_PARENT == 0 { SIGCHLD as u64 } else { 0 };
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup
    let arguments =
        [flags as u64 | CLONE_INTO_CGROUP, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, group as u64];
    sys!(clone3, arguments.as_ptr(), size_of_val(&arguments)).map(|pid| pid as i32)
}

/// Starts a child that shares this process's memory, and sleeps until the child has executed a
/// program or exited. The child runs `run` on a stack of its own. Nothing is copied, and no page
/// becomes copy-on-write.
pub fn start_sharing<T>(
    stack: &mut [u8],
    run: extern "C" fn(&mut T) -> !,
    argument: &mut T,
) -> Result<i32> {
    const CLONE_VM: usize = 0x100;
    const CLONE_VFORK: usize = 0x4000;
    const NUMBER: usize = arch::ARCHITECTURE.number("clone") as usize;
    // The stack grows down, and functions expect it to be aligned to 16.
    let top = (stack.as_mut_ptr() as usize + stack.len()) & !15;
    let argument = core::ptr::from_mut(argument).cast();
    let flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
    // SAFETY: the flags make the parent sleep, and `top` is the end of `stack`, which is borrowed.
    // `run` never returns, and the reference that it takes is used by nothing else.
    let result = unsafe { arch::start_sharing(NUMBER, flags, top, run as *const (), argument) };
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as i32) }
}

/// Collects an exited child. Returns its process id and its status. With `block` it waits until a
/// child exits; otherwise it returns the id 0 if no child has.
pub fn wait(block: bool) -> Result<(i32, u32)> {
    const WNOHANG: usize = 1;
    wait_for(if block { 0 } else { WNOHANG })
}

/// Collects an exited child like [`wait`], or a notice that a child was stopped.
pub fn wait_for_change() -> Result<(i32, u32)> {
    // WNOHANG | WUNTRACED
    wait_for(3)
}

/// Returns the signal that stopped a child with this status.
pub fn stop_signal(status: u32) -> Option<u32> {
    (status & 0xff == 0x7f).then_some(status >> 8 & 0xff)
}

fn wait_for(options: usize) -> Result<(i32, u32)> {
    let mut status = 0u32;
    // __WALL
    let options = 0x4000_0000 | options;
    loop {
        match sys!(wait4, -1isize, &raw mut status, options, 0) {
            Err(Errno::INTR) => {}
            other => return other.map(|pid| (pid as i32, status)),
        }
    }
}

pub fn kill_group(leader: i32, signal: u32) {
    let _ = sys!(kill, -(leader as isize), signal);
}

/// Kills all processes that this one can see, except itself.
pub fn kill_all_others() {
    let _ = sys!(kill, -1isize, 9);
}

/// Makes this process the parent of every orphan among its descendants.
pub fn adopt_orphans() -> Result<()> {
    prctl(PR_SET_CHILD_SUBREAPER, 1)
}

/// Calls `visit` with each child of this process, which has one thread. A child that starts or
/// exits in the meantime may be missing.
pub fn each_child(mut visit: impl FnMut(i32)) -> Result<()> {
    let list = open(super::AT_FDCWD, super::c(b"/proc/thread-self/children\0"), 0, 0)?;
    let (mut buffer, mut pid) = ([0; 4096], 0);
    while let Ok(count @ 1..) = read(list, &mut buffer) {
        // Decimal numbers, each with a space after it.
        for byte in &buffer[..count] {
            match byte {
                b'0'..=b'9' => pid = pid * 10 + i32::from(byte - b'0'),
                _ => {
                    visit(pid);
                    pid = 0;
                }
            }
        }
    }
    super::close(list);
    Ok(())
}

/// Reads the name of a process in lists of processes. Returns its length, or 0 if the process is
/// gone.
pub fn process_name(pid: i32, name: &mut [u8; 16]) -> usize {
    let mut path = [0; 32];
    let mut digits = [0; 10];
    let mut at = 0;
    for part in [b"/proc/", super::decimal(&mut digits, pid as u32), b"/comm\0"] {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let Some(path) = CStr::new(&path[..at]) else { return 0 };
    let Ok(file) = open(super::AT_FDCWD, path, 0, 0) else { return 0 };
    let read = read(file, name).unwrap_or(0);
    super::close(file);
    // A line end follows the name.
    read.saturating_sub(1)
}

pub fn kill(pid: i32) {
    let _ = sys!(kill, pid, 9);
}

pub fn execute(path: CStr<'_>, arguments: &[*const u8], variables: &[*const u8]) -> Errno {
    match sys!(execve, path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno::INVAL,
    }
}

pub fn new_terminal_session() {
    let _ = sys!(setsid);
}

/// Sets the name in lists of processes, at most 15 bytes.
pub fn set_process_name(name: CStr<'_>) {
    const PR_SET_NAME: usize = 15;
    let _ = prctl(PR_SET_NAME, name.as_ptr() as usize);
}

pub fn user_and_group() -> (u32, u32) {
    (sys!(geteuid).unwrap_or(0) as u32, sys!(getegid).unwrap_or(0) as u32)
}

pub fn drop_groups() -> Result<()> {
    sys!(setgroups, 0, 0).map(drop)
}

/// Creates a keyring, so that this process does not inherit the session keyring of the host
/// (`keyctl(2)`).
pub fn new_session_keyring() {
    let _ = sys!(keyctl, 1, 0);
}

pub fn set_umask(mask: usize) {
    let _ = sys!(umask, mask);
}

pub fn set_host_name(name: &[u8]) -> Result<()> {
    sys!(sethostname, name.as_ptr(), name.len()).map(drop)
}

pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    sys!(setrlimit, resource, limit.as_ptr()).map(drop)
}

pub const PR_SET_PDEATHSIG: usize = 1;
pub const PR_SET_DUMPABLE: usize = 4;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;

pub fn prctl(option: usize, value: usize) -> Result<()> {
    sys!(prctl, option, value, 0, 0, 0).map(drop)
}

/// Prevents every program that is executed later from gaining a capability.
pub fn drop_bounding_set() -> Result<()> {
    for capability in 0..64 {
        match prctl(PR_CAPBSET_DROP, capability) {
            // This is past the last capability that the kernel knows.
            Err(Errno::INVAL) => break,
            // Only a process with a capability may drop it. Otherwise `no_new_privs` suffices.
            Err(Errno::PERM) => break,
            other => other?,
        }
    }
    // PR_CAP_AMBIENT_CLEAR_ALL
    prctl(PR_CAP_AMBIENT, 4)?;
    prctl(PR_SET_NO_NEW_PRIVS, 1)
}

/// Drops all capabilities of this process.
pub fn drop_capabilities() -> Result<()> {
    // struct __user_cap_header_struct (version 3, this process) and two empty
    // __user_cap_data_struct
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    sys!(capset, header.as_ptr(), none.as_ptr()).map(drop)
}

/// Drops for good the capabilities that only the opening of the network needs:
/// `CAP_NET_BIND_SERVICE`, `CAP_NET_BROADCAST` and `CAP_NET_RAW`.
pub fn drop_network_capabilities() -> Result<()> {
    const KEPT: u32 = !(1 << 10 | 1 << 11 | 1 << 13);
    // The structures of `drop_capabilities`: effective, permitted, inheritable, twice.
    let mut header = [0x2008_0522u32, 0];
    let mut own = [0u32; 6];
    sys!(capget, header.as_mut_ptr(), own.as_mut_ptr())?;
    for low in &mut own[..3] {
        *low &= KEPT;
    }
    sys!(capset, header.as_ptr(), own.as_ptr()).map(drop)
}

/// Runs `run` without the effective capabilities of this process, like a command.
pub fn without_capabilities<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // The structures of `drop_capabilities`: effective, permitted, inheritable, twice.
    let mut header = [0x2008_0522u32, 0];
    let mut own = [0u32; 6];
    sys!(capget, header.as_mut_ptr(), own.as_mut_ptr())?;
    let [_, low, low_inherited, _, high, high_inherited] = own;
    let lowered = [0, low, low_inherited, 0, high, high_inherited];
    sys!(capset, header.as_ptr(), lowered.as_ptr())?;
    let result = run();
    sys!(capset, header.as_ptr(), own.as_ptr())?;
    result
}

/// Loads a seccomp filter. `program` is an array of `struct sock_filter`, 8 bytes each.
pub fn load_filter(program: &[u8]) -> Result<()> {
    load_filter_with(program, 0).map(drop)
}

pub(super) fn load_filter_with(program: &[u8], flags: usize) -> Result<usize> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    let program = Program { len: (program.len() / 8) as u16, filter: program.as_ptr() };
    // SECCOMP_SET_MODE_FILTER
    sys!(seccomp, 1, flags, &raw const program)
}

/// Writes each text to its address in the memory of another process, which this one must be allowed
/// to trace.
pub fn write_memory<const N: usize>(pid: i32, texts: [(usize, &[u8]); N]) -> Result<()> {
    let from = texts.map(|(_, text)| IoVec { base: text.as_ptr().cast_mut(), len: text.len() });
    let to = texts.map(|(at, text)| IoVec { base: at as *mut u8, len: text.len() });
    let written = sys!(process_vm_writev, pid, from.as_ptr(), N, to.as_ptr(), N, 0)?;
    if written == texts.iter().map(|(_, text)| text.len()).sum() {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}
