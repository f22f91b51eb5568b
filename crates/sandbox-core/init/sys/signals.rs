//! Signals, and descriptors that receive them.

use super::{Fd, O_CLOEXEC, PR_SET_PDEATHSIG, Result, prctl};

/// Sets every signal back to its default action, whatever the host ignores.
pub fn reset_signals() {
    // struct sigaction of the kernel: handler, flags, restorer, mask
    let default = [0usize; 4];
    for signal in 1..=64 {
        let _ = sys!(rt_sigaction, signal, default.as_ptr(), 0, 8);
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
    sys!(rt_sigprocmask, 2, &raw const mask, 0, 8)?;
    // SFD_NONBLOCK | SFD_CLOEXEC
    sys!(signalfd4, -1isize, &raw const mask, 8, 0o4000 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// The signals that users and their programs send to a command: HUP, INT, QUIT, USR1, USR2, TERM,
/// CONT, WINCH.
const PASSED_MASK: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 9 | 1 << 11 | 1 << 14 | 1 << 17 | 1 << 27;

/// Blocks the signals that are passed on, and makes a descriptor that gives them.
pub fn passed_signals() -> Result<Fd> {
    let mask = PASSED_MASK;
    sys!(rt_sigprocmask, 2, &raw const mask, 0, 8)?;
    sys!(signalfd4, -1isize, &raw const mask, 8, O_CLOEXEC).map(|fd| fd as Fd)
}

/// The number of the next signal of such a descriptor (`struct signalfd_siginfo`).
pub fn next_signal(signals: Fd) -> Result<u32> {
    let mut information = [0u32; 32];
    sys!(read, signals, information.as_mut_ptr(), 128)?;
    Ok(information[0])
}

pub fn unblock_signals() {
    let mask = 0u64;
    let _ = sys!(rt_sigprocmask, 2, &raw const mask, 0, 8);
}
