//! The client of a wrapped command: `PROGRAM SOCKET NUMBER`, started by any shell on the host.
//!
//! It sends its standard streams to the host process on the session's socket, and receives the
//! command's channel. It forwards signals, and exits with the status of the command. If it is
//! killed, its end of the channel closes, and the worker kills the command.

use crate::sys::{self, CStr, Fd, MAX_FDS, Poll, Result};
use crate::wire;

/// Exit code if the command could not be run for a reason outside of it.
const NOT_RUN: i32 = 125;
const TIMED_OUT: i32 = 124;

pub fn run(socket: CStr<'_>, number: CStr<'_>) -> ! {
    // The command may run before its channel has arrived here.
    let _ = sys::hold_messages();
    let (connection, channel, timeout_ms, linger_ms) = match hand_over(socket, number) {
        Ok(handed) => handed,
        Err(_) => fail(b"the session of this command is closed, or not this user's\n"),
    };
    let Ok(signals) = sys::forwarded_signals() else { fail(b"cannot receive signals\n") };
    let (mut is_over, mut is_lingering, mut timeout) = (false, false, timeout_ms);
    loop {
        let mut fds = [
            Poll { fd: channel, events: sys::POLL_IN, found: 0 },
            Poll { fd: signals, events: sys::POLL_IN, found: 0 },
        ];
        if sys::poll(&mut fds, timeout) == Ok(0) {
            // The worker kills the processes of the command, and then reports.
            (is_over, timeout) = (!is_lingering, -1);
            sys::shut_down_sending(channel);
        }
        if fds[1].found != 0
            && let Ok(signal) = sys::next_signal(signals)
        {
            let _ = sys::send(channel, &signal.to_le_bytes());
        }
        if fds[0].found != 0 {
            match next_report(channel) {
                Report::Lingers => (is_lingering, timeout) = (true, linger_ms),
                Report::Last(report) => end(connection, &report, is_over),
                Report::Other => {}
            }
        }
    }
}

/// A report on the command's channel.
enum Report {
    /// Processes have outlived the shell.
    Lingers,
    Last([u8; wire::REPORT_BYTES]),
    Other,
}

fn next_report(channel: Fd) -> Report {
    let mut report = [0; wire::REPORT_BYTES];
    if sys::read(channel, &mut report) != Ok(report.len()) {
        fail(b"the session of this command has ended\n");
    }
    let [kind, value] = words(&report);
    match kind {
        wire::RESULT_LINGERS => Report::Lingers,
        wire::RESULT_STOPPED => Report::Other,
        wire::RESULT_KILLED => {
            let mut names = [0; wire::MAX_NAMES_BYTES];
            let _ = sys::read(channel, &mut names[..(value as usize).min(wire::MAX_NAMES_BYTES)]);
            Report::Other
        }
        _ => Report::Last(report),
    }
}

/// Returns the first two words of a report.
fn words(report: &[u8; wire::REPORT_BYTES]) -> [u32; 2] {
    [&report[..4], &report[4..8]]
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// Sends the standard streams. Returns the connection, the command's channel, and its timeout and
/// the time for processes that outlive its shell in milliseconds.
fn hand_over(socket: CStr<'_>, number: CStr<'_>) -> Result<(Fd, Fd, i32, i32)> {
    let connection = sys::connect_abstract(socket.bytes())?;
    sys::send_with(connection, number.bytes(), &[0, 1, 2])?;
    let (mut fds, mut reply) = ([-1; MAX_FDS], [0; wire::MAX_NOTICE_BYTES]);
    match sys::receive(connection, &mut reply, &mut fds)? {
        (8, 1) => Ok((connection, fds[0], code(&reply), code(&reply[4..]))),
        (length @ 5.., 0) => fail(&reply[4..length]),
        _ => Err(sys::Errno::INVAL),
    }
}

fn code(notice: &[u8]) -> i32 {
    i32::from_le_bytes([notice[0], notice[1], notice[2], notice[3]])
}

/// Forwards the report of the command to the host, which checks the paths that the command created.
/// Returns the exit code that replaces 0.
fn settle(connection: Fd, report: &[u8]) -> i32 {
    let (mut fds, mut notice) = ([-1; MAX_FDS], [0; wire::MAX_NOTICE_BYTES]);
    let received = sys::send(connection, report)
        .and_then(|()| sys::receive(connection, &mut notice, &mut fds));
    let Ok((length @ 4.., _)) = received else {
        fail(b"the session ended before the command was checked\n")
    };
    let _ = sys::write_all(2, &notice[4..length]);
    code(&notice)
}

fn end(connection: Fd, report: &[u8; wire::REPORT_BYTES], is_over: bool) -> ! {
    let [kind, value] = words(report);
    let replaced = settle(connection, report);
    match kind {
        wire::RESULT_EXITED | wire::RESULT_SIGNALED if is_over => sys::exit(TIMED_OUT),
        wire::RESULT_EXITED if value == 0 => sys::exit(replaced),
        wire::RESULT_EXITED => sys::exit(value as i32),
        wire::RESULT_SIGNALED => sys::exit(128 + value as i32),
        wire::RESULT_NO_DIRECTORY => fail(b"cannot enter the working directory\n"),
        wire::RESULT_NO_SHELL => fail(b"cannot start the shell\n"),
        _ => fail(b"cannot start a process\n"),
    }
}

fn fail(message: &[u8]) -> ! {
    let _ = sys::write_all(2, b"sandbox: ");
    let _ = sys::write_all(2, message);
    sys::exit(NOT_RUN)
}
