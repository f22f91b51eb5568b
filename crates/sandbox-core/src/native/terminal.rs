//! A pseudo-terminal between a command and the terminal of the caller.
//!
//! The command gets the inner end as its controlling terminal. The outer end stays here, and two
//! threads move what is typed and what is printed. So a command never has the caller's terminal
//! itself, whose input it could read after it was stopped, or fake.
//!
//! While the command is in the foreground, the caller's terminal is in raw mode. Then the inner end
//! turns keys into signals. Otherwise the caller's terminal keeps its modes, and nothing is read
//! from it. Its shell stays in charge of its keys, and of what is typed ahead.

mod job;
mod relay;

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

pub(super) use job::{Job, continue_is_certain, stop};
use relay::Relay;

use crate::sandbox::ExecError;

/// The terminal of a caller, and the pseudo-terminal of one command.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The caller's terminal.
    outer: OwnedFd,
    /// Modes of the caller's terminal to restore, while it is in raw mode.
    modes: Option<Termios>,
    /// Set once the command is in the foreground of the pseudo-terminal.
    is_in_use: bool,
    /// Set if another program, such as `tee`, prints the output of the command.
    is_printed_by_other: bool,
    relay: Relay,
}

/// A new pseudo-terminal, and the streams of the command that it replaces.
pub(super) struct NewTerminal {
    pub(super) terminal: Terminal,
    /// The end for the command.
    pub(super) inner: OwnedFd,
    pub(super) replaces: [bool; 3],
    /// Streams that are other terminals.
    pub(super) is_other: [bool; 3],
    pub(super) starts_in_foreground: bool,
}

impl Terminal {
    /// Creates a pseudo-terminal if one of the streams is a terminal.
    ///
    /// It belongs to the file system for terminals of the session with this init, where programs
    /// find it by its name, or to that of the host if the session has none.
    pub(super) fn of(
        streams: [BorrowedFd<'_>; 3],
        init: u32,
    ) -> Result<Option<NewTerminal>, ExecError> {
        let Some(outer) = streams.into_iter().find(|stream| isatty(stream)) else {
            return Ok(None);
        };
        let failed = |errno: Errno| ExecError::Host {
            operation: "create a pseudo-terminal",
            source: errno.into(),
        };
        let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_rdev).ok();
        let own = device(outer);
        let replaces = streams.map(|stream| isatty(stream) && device(stream) == own);
        let is_other = streams.map(|stream| isatty(stream) && device(stream) != own);
        // Terminals that are opened for reading alone are rare. Output then goes nowhere.
        let printed = [1, 2, 0].into_iter().find(|stream| replaces[*stream]).unwrap_or(0);

        let (master, inner) = open_pair(init).map_err(failed)?;
        tcsetattr(&master, OptionalActions::Now, &tcgetattr(outer).map_err(failed)?)
            .map_err(failed)?;
        let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(failed);
        let relay = Relay::start(master, copy(outer)?, copy(streams[printed])?)?;
        let mut terminal = Self {
            outer: copy(outer)?,
            modes: None,
            is_in_use: false,
            is_printed_by_other: !replaces[1],
            relay,
        };
        terminal.resize();
        // A command whose output another program reads may share the terminal with that program,
        // like a pager. It gets the terminal when it asks for it.
        let starts_in_foreground = replaces[0] && replaces[1] && terminal.try_enter();
        Ok(Some(NewTerminal { terminal, inner, replaces, is_other, starts_in_foreground }))
    }

    /// Returns whether this process may use the caller's terminal. A terminal that controls other
    /// processes than this one asks for no permission.
    fn is_foreground(&self) -> bool {
        match tcgetpgrp(&self.outer) {
            Ok(group) => group == getpgrp(),
            Err(errno) => errno == Errno::NOTTY,
        }
    }

    /// Puts the caller's terminal into raw mode and begins to read it, if this process is in the
    /// foreground. Returns whether it is.
    pub(super) fn try_enter(&mut self) -> bool {
        if self.modes.is_some() {
            return true;
        }
        if !self.is_foreground() {
            return false;
        }
        let Ok(modes) = tcgetattr(&self.outer) else { return false };
        if !self.is_in_use {
            // A job that began in the background copied the modes in which its shell reads a line.
            // The command could not change them from there.
            let _ = tcsetattr(self.relay.master(), OptionalActions::Now, &modes);
        }
        let mut raw = modes.clone();
        raw.make_raw();
        if self.is_printed_by_other {
            // That program ends its lines without a carriage return.
            raw.output_modes = modes.output_modes;
        }
        // A read never waits, so the thread that reads can always be stopped.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        if tcsetattr(&self.outer, OptionalActions::Drain, &raw).is_err() {
            return false;
        }
        self.modes = Some(modes);
        self.is_in_use = true;
        self.relay.read();
        true
    }

    /// Stops reading the caller's terminal, and restores its modes.
    pub(super) fn leave(&mut self) {
        self.relay.pause();
        if let Some(modes) = self.modes.take() {
            let _ = tcsetattr(&self.outer, OptionalActions::Drain, &modes);
        }
    }

    /// Returns whether the command has had the foreground.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_in_use
    }

    /// Gives the pseudo-terminal the size of the caller's terminal.
    pub(super) fn resize(&mut self) {
        if let Ok(size) = tcgetwinsize(&self.outer) {
            let _ = tcsetwinsize(self.relay.master(), size);
        }
    }

    /// Returns a function that waits until the output of an exited command is printed.
    pub(super) fn finish(&mut self) -> impl FnOnce() + Send + 'static {
        self.relay.finish()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Opens a pseudo-terminal. Returns its outer and its inner end.
pub(super) fn open_pair(init: u32) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    // Commands cannot change the directory /dev of a session.
    let of_session = rustix::fs::open(
        format!("/proc/{init}/root/dev/pts/ptmx"),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    );
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = of_session.or_else(|_| openpt(flags))?;
    unlockpt(&master)?;
    let inner = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, inner))
}
