//! The terminal of a command.
//!
//! The worker leads the terminal session, and the shell leads a process group of its own in it. The
//! kernel stops no process group without a parent in its session, so a shell that led the session
//! itself could not be stopped from the keyboard.

use crate::sys::{self, Errno, Fd, Result};

pub struct Terminal {
    fd: Fd,
    /// Process group of the worker, which never uses the terminal.
    worker: i32,
}

impl Terminal {
    /// Makes the first terminal among the streams the controlling terminal of this process, for the
    /// rest of its life.
    pub fn take(streams: &[Fd]) -> Result<Self> {
        // The signals of the terminal are for the command.
        sys::block_terminal_signals();
        sys::new_terminal_session();
        let fd = streams.iter().find(|stream| sys::take_terminal(**stream).is_ok());
        Ok(Self { fd: *fd.ok_or(Errno::INVAL)?, worker: sys::process_id()? })
    }

    pub fn fd(&self) -> Fd {
        self.fd
    }

    /// Makes this process, the future shell, the leader of a process group.
    pub fn enter(&self, in_foreground: bool) -> Result<()> {
        let group = sys::new_process_group()?;
        if in_foreground { self.give_to(group) } else { Ok(()) }
    }

    /// Makes a process group the foreground.
    pub fn give_to(&self, group: i32) -> Result<()> {
        sys::set_foreground(self.fd, group)
    }

    /// Leaves no process group of the command in the foreground.
    pub fn take_back(&self) {
        let _ = self.give_to(self.worker);
    }
}
