//! Signals, and descriptors that receive them.

use super::{Fd, O_CLOEXEC, PR_SET_PDEATHSIG, Result, prctl};

/// Resets every signal to its default action, because the host may ignore some.
pub fn reset_signals() {
    // struct sigaction of the kernel: handler, flags, restorer, mask
    let default = [0usize; 4];
    for signal in 1..=64 {
        let _ = sys!(rt_sigaction, signal, default.as_ptr(), 0, 8);
    }
}

const SIGCHLD_MASK: u64 = 1 << 16;
const SIGTERM: u32 = 15;

/// Blocks SIGCHLD. Returns a descriptor that becomes readable when a child exits.
pub fn child_events() -> Result<Fd> {
    events(SIGCHLD_MASK)
}

/// Like [`child_events`]; the descriptor also becomes readable when the parent exits, because the
/// kernel then sends SIGTERM.
pub fn child_events_and_orphaning() -> Result<Fd> {
    prctl(PR_SET_PDEATHSIG, SIGTERM as usize)?;
    events(SIGCHLD_MASK | 1 << (SIGTERM - 1))
}

/// Empties such a descriptor. Returns whether the parent of this process has exited.
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

/// Signals that users and their programs send to a command: HUP, INT, QUIT, USR1, USR2, ALRM, TERM,
/// CONT, WINCH.
const FORWARDED_MASK: u64 =
    1 | 1 << 1 | 1 << 2 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 27;

/// The forwarded signals that are messages to a program: USR1, USR2, ALRM.
const MESSAGES_MASK: u64 = 1 << 9 | 1 << 11 | 1 << 13;

/// Blocks the messages, which wait until they can be forwarded. The others still end this process.
pub fn hold_messages() -> Result<()> {
    let mask = MESSAGES_MASK;
    sys!(rt_sigprocmask, 0, &raw const mask, 0, 8).map(drop)
}

/// Blocks the forwarded signals. Returns a descriptor that receives them.
pub fn forwarded_signals() -> Result<Fd> {
    let mask = FORWARDED_MASK;
    sys!(rt_sigprocmask, 2, &raw const mask, 0, 8)?;
    sys!(signalfd4, -1isize, &raw const mask, 8, O_CLOEXEC).map(|fd| fd as Fd)
}

/// Returns the number of the next signal of such a descriptor (`struct signalfd_siginfo`).
pub fn next_signal(signals: Fd) -> Result<u32> {
    let mut information = [0u32; 32];
    sys!(read, signals, information.as_mut_ptr(), 128)?;
    Ok(information[0])
}

/// Blocks the signals by which a terminal ends and stops processes: HUP, INT, QUIT, TSTP, TTIN,
/// TTOU.
pub fn block_terminal_signals() {
    let mask: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 19 | 1 << 20 | 1 << 21;
    let _ = sys!(rt_sigprocmask, 0, &raw const mask, 0, 8);
}

pub fn unblock_signals() {
    let mask = 0u64;
    let _ = sys!(rt_sigprocmask, 2, &raw const mask, 0, 8);
}
