//! Terminal sessions, and the foreground of a terminal (`ioctl_tty(2)`).

use super::{Fd, Result};

/// Makes a terminal the controlling terminal of this process, which leads a terminal session.
pub fn take_terminal(terminal: Fd) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    sys!(ioctl, terminal, TIOCSCTTY, 0).map(drop)
}

/// Makes a process group the foreground of a terminal of this session.
pub fn set_foreground(terminal: Fd, group: i32) -> Result<()> {
    const TIOCSPGRP: usize = 0x5410;
    sys!(ioctl, terminal, TIOCSPGRP, &raw const group).map(drop)
}

/// Makes this process the leader of a new process group. Returns the id of the group.
pub fn new_process_group() -> Result<i32> {
    sys!(setpgid, 0, 0)?;
    process_id()
}

pub fn process_id() -> Result<i32> {
    sys!(getpid).map(|pid| pid as i32)
}
