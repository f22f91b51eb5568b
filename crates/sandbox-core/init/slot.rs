//! A slot: the first process of one command's own process namespace.
//!
//! It is made ahead, with everything that does not depend on the command, and waits for one on the control
//! socket. It then starts the shell, and when that has ended, or the host has let go of the command's
//! channel, it kills all that is left in its namespace, reaps it, and only then reports. So whoever reads the
//! report knows that nothing of the command is alive. Then it ends itself.

use crate::mounts;
use crate::reader::Reader;
use crate::sys::{self, CStr, Errno, Fd, MAX_FDS, Poll, Result, c};
use crate::wire;

/// How long a slot waits for a command. After that it gives its memory back, and the next command pays half a
/// millisecond for a new one.
const IDLE_MS: i32 = 30_000;

/// What a slot needs of the session.
pub struct Session {
    pub control: Fd,
    /// Counts the commands that slots have taken.
    pub taken: Fd,
    pub filter: &'static [u8],
    pub limits: &'static [u8],
    /// The highest process id of a command, or 0 where the kernel cannot limit it.
    pub max_pid: u32,
}

/// Whether the slot tells the host that the session takes commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Yes,
    No,
}

/// Runs one command, and ends the process.
pub fn run(session: &Session, announce: Announce) -> ! {
    let events = match prepare(session) {
        Ok(events) => events,
        Err((step, errno)) => {
            if announce == Announce::Yes {
                crate::report_failure(session.control, step, errno, b"");
            }
            sys::exit(1)
        }
    };
    if announce == Announce::Yes && sys::send(session.control, &wire::MSG_READY.to_le_bytes()).is_err() {
        sys::exit(1);
    }
    let Ok(buffer) = sys::memory(wire::MAX_MESSAGE_BYTES) else { sys::exit(1) };
    let mut control = [Poll { fd: session.control, events: sys::POLL_IN, found: 0 }];
    if sys::poll(&mut control, IDLE_MS) == Ok(0) {
        sys::exit(0);
    }
    let mut fds = [-1; MAX_FDS];
    let received = sys::receive(session.control, buffer, &mut fds);
    let _ = sys::write(session.taken, &1u64.to_le_bytes());
    let (message, count) = match received {
        Ok((message, count)) if count >= 4 => (message, count),
        // The host is gone, or sent what no host of ours sends; closing the descriptors tells it so.
        _ => sys::exit(0),
    };
    let channel = fds[3];
    let (kind, value) = match execute(message, &fds[..count], events) {
        Ok(result) => result,
        Err(errno) => (wire::RESULT_BAD_REQUEST, errno.0 as u32),
    };
    report(channel, kind, value);
    sys::exit(0)
}

fn prepare(session: &Session) -> core::result::Result<Fd, (u32, Errno)> {
    let _ = sys::prctl(sys::PR_SET_PDEATHSIG, 9);
    mounts::mount_proc(session.max_pid).map_err(|errno| (wire::STEP_PROC, errno))?;
    let restrict = || {
        sys::reset_signals();
        let events = sys::child_events()?;
        let mut limits = Reader(session.limits);
        while !limits.0.is_empty() {
            sys::set_limit(limits.u32()?, limits.u64()?, limits.u64()?)?;
        }
        sys::drop_capabilities()?;
        sys::load_filter(session.filter)?;
        Ok(events)
    };
    restrict().map_err(|errno| (wire::STEP_PRIVILEGES, errno))
}

fn execute(message: &[u8], fds: &[Fd], events: Fd) -> Result<(u32, u32)> {
    let body = match fds.get(4) {
        Some(file) => sys::map_file(*file)?,
        None => message,
    };
    let mut reader = Reader(body);
    if reader.u32()? != wire::VERSION {
        return Err(Errno::INVAL);
    }
    let (shell, directory, command) = (reader.text()?, reader.text()?, reader.text()?);
    let count = reader.u32()? as usize;
    if count > wire::MAX_VARIABLES {
        return Err(Errno::TOO_BIG);
    }
    let mut variables = [core::ptr::null(); wire::MAX_VARIABLES + 1];
    for variable in variables.iter_mut().take(count) {
        *variable = reader.text()?.as_ptr();
    }

    let channel = fds[3];
    let child = sys::fork(0)?;
    if child == 0 {
        become_shell(shell, directory, command, &variables, fds);
    }
    for fd in &fds[..3] {
        sys::close(*fd);
    }
    Ok(supervise(child, channel, events))
}

/// Turns the forked child into the shell; failures go to the command's channel.
fn become_shell(shell: CStr<'_>, directory: CStr<'_>, command: CStr<'_>, variables: &[*const u8], fds: &[Fd]) -> ! {
    let channel = fds[3];
    let start = || -> core::result::Result<Errno, (u32, Errno)> {
        sys::new_terminal_session();
        sys::chdir(directory).map_err(|errno| (wire::RESULT_NO_DIRECTORY, errno))?;
        // 0, 1 and 2 are taken since the beginning, so no descriptor of the message is one of them.
        for (to, fd) in fds[..3].iter().enumerate() {
            sys::dup_to(*fd, to as Fd).map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
        }
        sys::unblock_signals();
        let arguments = [c(b"bash\0").as_ptr(), c(b"-c\0").as_ptr(), command.as_ptr(), core::ptr::null()];
        Ok(sys::execute(shell, &arguments, variables))
    };
    let (kind, errno) = match start() {
        Ok(errno) => (wire::RESULT_NO_SHELL, errno),
        Err(failure) => failure,
    };
    report(channel, kind, errno.0 as u32);
    sys::exit(127)
}

/// Waits for the shell or for the host to let go, then ends and reaps everything.
fn supervise(shell: i32, channel: Fd, events: Fd) -> (u32, u32) {
    let mut status = None;
    while status.is_none() {
        let mut fds = [
            Poll { fd: events, events: sys::POLL_IN, found: 0 },
            Poll { fd: channel, events: sys::POLL_RDHUP, found: 0 },
        ];
        let _ = sys::poll(&mut fds, -1);
        if fds[1].found != 0 {
            break;
        }
        sys::drain(events);
        while let Ok((pid @ 1.., ended)) = sys::wait(false) {
            if pid == shell {
                status = Some(ended);
            }
        }
    }
    // A kill that meets a fork may miss the newborn, so again until nobody is left to wait for.
    loop {
        sys::kill_all_others();
        match sys::wait(true) {
            Ok((pid, ended)) if pid == shell => status = Some(ended),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let status = status.unwrap_or(9);
    match status & 0x7f {
        0 => (wire::RESULT_EXITED, (status >> 8) & 0xff),
        signal => (wire::RESULT_SIGNALED, signal),
    }
}

fn report(channel: Fd, kind: u32, value: u32) {
    let mut message = [0; 8];
    message[..4].copy_from_slice(&kind.to_le_bytes());
    message[4..].copy_from_slice(&value.to_le_bytes());
    let _ = sys::send(channel, &message);
}
