//! The outer end of a command's pseudo-terminal, and raw mode of the caller's terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, Termios, Winsize, tcflush, tcgetattr,
    tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Interval at which a process in the background looks for the foreground.
const FOREGROUND_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Number of rows.
    pub rows: u16,
    /// Number of columns.
    pub columns: u16,
}

/// 24 rows of 80 columns.
impl Default for TerminalSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// The outer end of a pseudo-terminal, in non-blocking mode: what a command prints is read here,
/// and what is written here is typed.
///
/// Once no process has the inner end open, a read fails with `EIO`. Dropping the last descriptor
/// hangs up, like closing a window.
#[derive(Debug)]
pub struct PseudoTerminal {
    outer: OwnedFd,
}

impl PseudoTerminal {
    /// Takes the outer end of a new pseudo-terminal.
    pub(super) fn new(outer: OwnedFd, size: TerminalSize) -> io::Result<Self> {
        let mut modes = tcgetattr(&outer)?;
        // Erasing a character removes all of its bytes.
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&outer, OptionalActions::Now, &modes)?;
        rustix::io::ioctl_fionbio(&outer, true)?;
        let terminal = Self { outer };
        terminal.resize(size)?;
        Ok(terminal)
    }

    /// Changes the size. The command gets `SIGWINCH`.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn resize(&self, TerminalSize { rows, columns }: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.outer, size)?)
    }
}

impl AsFd for PseudoTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

impl From<PseudoTerminal> for OwnedFd {
    fn from(terminal: PseudoTerminal) -> Self {
        terminal.outer
    }
}

/// The outer end of a pseudo-terminal, which another process has created.
impl From<OwnedFd> for PseudoTerminal {
    fn from(outer: OwnedFd) -> Self {
        Self { outer }
    }
}

/// Reads the caller's terminal once this process is in its foreground. A read from the background
/// would stop the process. Returns 0 at the end.
///
/// # Errors
/// Returns the error of the system call.
pub fn read_terminal(terminal: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let terminal = terminal.as_fd();
    loop {
        // A terminal that controls other processes than this one asks for no permission.
        let is_foreground = match tcgetpgrp(terminal) {
            Ok(group) => group == getpgrp(),
            Err(errno) => errno == Errno::NOTTY,
        };
        let wanted = if is_foreground { PollFlags::IN } else { PollFlags::empty() };
        match poll(&mut [PollFd::from_borrowed_fd(terminal, wanted)], Some(&FOREGROUND_INTERVAL)) {
            Ok(0) | Err(Errno::INTR) => continue,
            ready => ready?,
        };
        match rustix::io::read(terminal, &mut *buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            read => return Ok(read?),
        }
    }
}

/// Discards what was typed at a terminal before, so that it answers no later question.
///
/// # Errors
/// Returns the error of the system call; `ENOTTY` if the descriptor is no terminal.
pub fn discard_input(terminal: impl AsFd) -> io::Result<()> {
    Ok(tcflush(terminal, QueueSelector::IFlush)?)
}

/// The caller's terminal in other modes, such as raw mode: keys arrive at once, and none is a
/// signal. Dropping it restores the modes.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    modes: Termios,
}

impl RawTerminal {
    /// Puts a terminal into raw mode.
    ///
    /// # Errors
    /// Returns the error of the system call; `ENOTTY` if the descriptor is no terminal.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let modes = tcgetattr(&terminal)?;
        let mut raw = modes.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, modes })
    }

    /// Stops a terminal from showing its input, except line ends. All else stays as it is.
    ///
    /// # Errors
    /// Like [`RawTerminal::enter`].
    pub fn hide_input(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let modes = tcgetattr(&terminal)?;
        let mut hidden = modes.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, modes })
    }

    /// Returns the size of a terminal, or the usual one if it has none.
    pub fn size_of(terminal: impl AsFd) -> TerminalSize {
        match tcgetwinsize(terminal) {
            Ok(Winsize { ws_row: rows @ 1.., ws_col: columns @ 1.., .. }) => {
                TerminalSize { rows, columns }
            }
            _ => TerminalSize::default(),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.modes);
    }
}
