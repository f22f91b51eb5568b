//! Starting and ending processes, and what they may do.

use core::arch::asm;

use super::{CStr, Errno, Fd, IoVec, O_CLOEXEC, Result, call, nr, open, padded, read};

pub fn unshare(flags: usize) -> Result<()> {
    sys!(nr::UNSHARE, flags).map(drop)
}

/// Forks, with `clone(2)` flags; `Ok(0)` in the child.
pub fn fork(flags: usize) -> Result<i32> {
    sys!(nr::CLONE, flags | 17, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// The same, in another control group, which an open directory names (`clone3(2)`).
pub fn fork_into(flags: usize, group: Fd) -> Result<i32> {
    const CLONE_PARENT: usize = 0x8000;
    const CLONE_INTO_CGROUP: u64 = 2 << 32;
    // The kernel wants none for a sibling, which has that of its parent.
    let exit_signal = if flags & CLONE_PARENT == 0 { 17 } else { 0 };
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup
    let arguments =
        [flags as u64 | CLONE_INTO_CGROUP, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, group as u64];
    sys!(nr::CLONE3, arguments.as_ptr(), size_of_val(&arguments)).map(|pid| pid as i32)
}

/// Starts a child that shares this process's memory, on a stack of its own, and sleeps until it has
/// executed a program or ended. Nothing is copied, and no page is made to be copied on writing.
/// `run` must not return, and `T` is its own until then.
pub fn start_sharing<T>(
    stack: &mut [u8],
    run: extern "C" fn(&mut T) -> !,
    argument: &mut T,
) -> Result<i32> {
    const CLONE_VM: usize = 0x100;
    const CLONE_VFORK: usize = 0x4000;
    // The stack grows down, and calls want it aligned to 16.
    let top = (stack.as_mut_ptr() as usize + stack.len()) & !15;
    let result: isize;
    // SAFETY: the child runs on its own stack and calls a function that never returns, with a
    // reference that nobody else uses: the caller sleeps. The clobbers are those of the kernel's
    // x86-64 convention; the child's registers are its own.
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

/// Makes this process the parent of every orphan among its descendants.
pub fn adopt_orphans() -> Result<()> {
    prctl(PR_SET_CHILD_SUBREAPER, 1)
}

/// Gives each child of this process, which has one thread, to `visit`. One that is made or ends
/// meanwhile may be left out.
pub fn each_child(mut visit: impl FnMut(i32)) -> Result<()> {
    let list = open(super::AT_FDCWD, super::c(b"/proc/thread-self/children\0"), 0, 0)?;
    let (mut buffer, mut pid) = ([0; 4096], 0);
    while let Ok(count @ 1..) = read(list, &mut buffer) {
        // Numbers, each with a space behind it.
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

pub fn kill(pid: i32) {
    let _ = sys!(nr::KILL, pid, 9);
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
const PR_SET_CHILD_SUBREAPER: usize = 36;
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
            // Without namespaces of its own a process may not; then `no_new_privs` alone keeps it
            // from gaining any.
            Err(Errno::PERM) => break,
            other => other?,
        }
    }
    // PR_CAP_AMBIENT_CLEAR_ALL
    prctl(PR_CAP_AMBIENT, 4)?;
    prctl(PR_SET_NO_NEW_PRIVS, 1)
}

/// Gives up the capabilities that this process has.
pub fn drop_capabilities() -> Result<()> {
    // struct __user_cap_header_struct (version 3, this process) and two empty
    // __user_cap_data_struct
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    sys!(nr::CAPSET, header.as_ptr(), none.as_ptr()).map(drop)
}

/// Loads a seccomp filter: `program` is a row of `struct sock_filter`, 8 bytes each.
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
    sys!(nr::SECCOMP, 1, flags, &raw const program)
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
const SIGTERM: u32 = 15;

/// Blocks SIGCHLD, and makes a descriptor that becomes readable when a child ends.
pub fn child_events() -> Result<Fd> {
    events(SIGCHLD_MASK)
}

/// The same for SIGTERM too, which this process is to be sent when its parent dies.
pub fn child_events_and_orphaning() -> Result<Fd> {
    prctl(PR_SET_PDEATHSIG, SIGTERM as usize)?;
    events(SIGCHLD_MASK | 1 << (SIGTERM - 1))
}

/// Whether the parent of this process is dead, by what such a descriptor holds, which is emptied.
pub fn is_orphaned(events: Fd) -> bool {
    let mut is_orphaned = false;
    while let Ok(signal) = next_signal(events) {
        is_orphaned |= signal == SIGTERM;
    }
    is_orphaned
}

fn events(mask: u64) -> Result<Fd> {
    sys!(nr::RT_SIGPROCMASK, 2, &raw const mask, 0, 8)?;
    // SFD_NONBLOCK | SFD_CLOEXEC
    sys!(nr::SIGNALFD4, -1isize, &raw const mask, 8, 0o4000 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// The signals that users and their programs send to a command: HUP, INT, QUIT, USR1, USR2, TERM,
/// CONT, WINCH.
const PASSED_MASK: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 9 | 1 << 11 | 1 << 14 | 1 << 17 | 1 << 27;

/// Blocks the signals that are passed on, and makes a descriptor that gives them.
pub fn passed_signals() -> Result<Fd> {
    let mask = PASSED_MASK;
    sys!(nr::RT_SIGPROCMASK, 2, &raw const mask, 0, 8)?;
    sys!(nr::SIGNALFD4, -1isize, &raw const mask, 8, O_CLOEXEC).map(|fd| fd as Fd)
}

/// The number of the next signal of such a descriptor (`struct signalfd_siginfo`).
pub fn next_signal(signals: Fd) -> Result<u32> {
    let mut information = [0u32; 32];
    sys!(nr::READ, signals, information.as_mut_ptr(), 128)?;
    Ok(information[0])
}

pub fn unblock_signals() {
    let mask = 0u64;
    let _ = sys!(nr::RT_SIGPROCMASK, 2, &raw const mask, 0, 8);
}

/// Writes each text to its address in the memory of another process, which this one must be allowed
/// to trace.
pub fn write_memory<const N: usize>(pid: i32, texts: [(usize, &[u8]); N]) -> Result<()> {
    let from = texts.map(|(_, text)| IoVec { base: text.as_ptr().cast_mut(), len: text.len() });
    let to = texts.map(|(at, text)| IoVec { base: at as *mut u8, len: text.len() });
    let written = sys!(nr::PROCESS_VM_WRITEV, pid, from.as_ptr(), N, to.as_ptr(), N, 0)?;
    if written == texts.iter().map(|(_, text)| text.len()).sum() {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}
