//! A slot: the first process of a process namespace in which one command runs at a time.
//!
//! It is made ahead, with everything that does not depend on the command, and waits for one on the control
//! socket. It then starts the shell, and when that has ended, or the host has let go of the command's
//! channel, it kills all that is left in its namespace, reaps it, and only then reports. So whoever reads the
//! report knows that nothing of the command is alive. Then it waits for the next command: its namespace is empty again, and what the last
//! command could change was never its own.

use crate::ahead::Ahead;
use crate::mounts;
use crate::pool::{Place, Pool};
use crate::reader::Reader;
use crate::sys::{self, CStr, Errno, Fd, MAX_FDS, Poll, Result, c};
use crate::wire;

/// How often a slot that waits looks up. It goes if another one waits too.
pub const LOOK_UP_SECONDS: u64 = 1;
/// How often the last one looks up before it goes. After that it has given its memory back, and the next command pays half a millisecond
/// for a new one.
const MAX_LOOKS: u32 = 30;
/// How many commands a slot runs. Its own processor time counts against the limits of a command.
const MAX_COMMANDS: u32 = 1000;

/// What a slot needs of the session.
pub struct Session {
    pub control: Fd,
    /// Wakes init when the last slot that waited has taken a command.
    pub taken: Fd,
    pub pool: Pool,
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

/// Runs commands, one after another, and ends the process.
pub fn run(session: &Session, place: Place, announce: Announce) -> ! {
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
    let (Ok(buffer), Ok(stack)) = (sys::memory(wire::MAX_MESSAGE_BYTES), sys::memory(SHELL_STACK_BYTES)) else {
        sys::exit(1)
    };
    for _ in 0..MAX_COMMANDS {
        let mut fds = [-1; MAX_FDS];
        let received = receive(session, place, buffer, &mut fds);
        if session.pool.forget(place) {
            let _ = sys::write(session.taken, &1u64.to_le_bytes());
        }
        let (message, count) = match received {
            Ok((message, count)) if count >= 4 => (message, count),
            // The host is gone, or sent what no host of ours sends; closing the descriptors tells it so.
            _ => sys::exit(0),
        };
        let channel = fds[3];
        let (kind, value, next) = match execute(message, &fds[..count], events, stack) {
            Ok((kind, value, next)) => (kind, value, next),
            Err(errno) => (wire::RESULT_BAD_REQUEST, errno.0 as u32, Next::End),
        };
        if next == Next::Wait {
            session.pool.expect(place);
        }
        report(channel, kind, value);
        sys::close(channel);
        if next == Next::End {
            break;
        }
    }
    sys::exit(0)
}

/// What a slot does after a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Wait,
    /// The command has left something in this process, if only memory that is in use.
    End,
}

/// Waits for a command; ends the process when none comes for long.
fn receive<'b>(
    session: &Session,
    place: Place,
    buffer: &'b mut [u8],
    fds: &mut [Fd; MAX_FDS],
) -> Result<(&'b [u8], usize)> {
    for _ in 0..MAX_LOOKS {
        match sys::receive(session.control, buffer, fds) {
            Err(Errno::AGAIN) if session.pool.leave_to_others(place) => sys::exit(0),
            Err(Errno::AGAIN) => {}
            Ok((len, count)) => return Ok((&buffer[..len], count)),
            Err(errno) => return Err(errno),
        }
    }
    sys::exit(0)
}

fn prepare(session: &Session) -> core::result::Result<Fd, (u32, Errno)> {
    let _ = sys::prctl(sys::PR_SET_PDEATHSIG, 9);
    mounts::mount_proc(session.max_pid).map_err(|errno| (wire::STEP_PROC, errno))?;
    let restrict = || {
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

fn execute(message: &[u8], fds: &[Fd], events: Fd, stack: &mut [u8]) -> Result<(u32, u32, Next)> {
    let body = match fds.get(4) {
        Some(file) => sys::map_file(*file)?,
        None => message,
    };
    let mut reader = Reader(body);
    if reader.u32()? != wire::VERSION {
        return Err(Errno::INVAL);
    }
    let is_later = reader.u32()? == wire::COMMAND_LATER;
    let (shell, directory, command) = (reader.text()?, reader.text()?, reader.text()?);
    let count = reader.u32()? as usize;
    if count > wire::MAX_VARIABLES {
        return Err(Errno::TOO_BIG);
    }
    // Room for one of ours, and for the null at the end.
    let mut variables = [core::ptr::null(); wire::MAX_VARIABLES + 2];
    for variable in variables.iter_mut().take(count) {
        *variable = reader.text()?.as_ptr();
    }
    let mut request = Request { shell, directory, command, variables, count, fds };
    if is_later {
        let (kind, value) = run_later(&mut request, events, stack)?;
        return Ok((kind, value, Next::End));
    }
    let child = request.start(None, stack)?;
    request.close_streams();
    let (kind, value) = supervise(child, request.channel(), events);
    // A file with a long request stays mapped.
    Ok((kind, value, if fds.len() > 4 { Next::End } else { Next::Wait }))
}

/// One command, and what its shell starts with.
struct Request<'r> {
    shell: CStr<'r>,
    directory: CStr<'r>,
    command: CStr<'r>,
    variables: [*const u8; wire::MAX_VARIABLES + 2],
    count: usize,
    /// Standard input, output, error, and the command's channel.
    fds: &'r [Fd],
}

impl Request<'_> {
    fn channel(&self) -> Fd {
        self.fds[3]
    }

    /// Starts the shell with its command, or, ahead of it, with a blank one.
    fn start(&mut self, ahead: Option<&Ahead>, stack: &mut [u8]) -> Result<i32> {
        sys::start_sharing(stack, become_shell, &mut Shell { request: self, ahead })
    }

    /// Leaves the shell's streams to the shell.
    fn close_streams(&self) {
        for fd in &self.fds[..3] {
            sys::close(*fd);
        }
    }
}

/// What the shell's process needs until it is the shell.
struct Shell<'s, 'r> {
    request: &'s mut Request<'r>,
    ahead: Option<&'s Ahead>,
}

/// What `become_shell` needs, and room.
const SHELL_STACK_BYTES: usize = 64 * 1024;

/// Turns the child into the shell; failures go to the command's channel. It shares the slot's memory, so it changes nothing there but
/// its own stack and what was made for it.
extern "C" fn become_shell(Shell { request, ahead }: &mut Shell<'_, '_>) -> ! {
    let ahead = *ahead;
    let channel = request.channel();
    let mut start = || -> core::result::Result<Errno, (u32, Errno)> {
        sys::new_terminal_session();
        sys::chdir(request.directory).map_err(|errno| (wire::RESULT_NO_DIRECTORY, errno))?;
        // 0, 1 and 2 are taken since the beginning, so no descriptor of the message is one of them.
        for (to, fd) in request.fds[..3].iter().enumerate() {
            sys::dup_to(*fd, to as Fd).map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
        }
        sys::unblock_signals();
        let mut command = request.command;
        let mut variable = core::ptr::null();
        if let Some(ahead) = ahead {
            ahead.enter().map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
            command = ahead.blank();
            variable = ahead.variable().as_ptr();
        }
        // The memory is the slot's, and a shell may have been tried before.
        request.variables[request.count] = variable;
        let arguments = [c(b"bash\0").as_ptr(), c(b"-c\0").as_ptr(), command.as_ptr(), core::ptr::null()];
        Ok(sys::execute(request.shell, &arguments, &request.variables))
    };
    let (kind, errno) = match start() {
        Ok(errno) => (wire::RESULT_NO_SHELL, errno),
        Err(failure) => failure,
    };
    // A shell that was started ahead is tried again with its command, and then reports.
    if ahead.is_none() {
        report(channel, kind, errno.0 as u32);
    }
    sys::exit(127)
}

/// Starts the shell at once, and gives it its command when that is known.
fn run_later(request: &mut Request<'_>, events: Fd, stack: &mut [u8]) -> Result<(u32, u32)> {
    let ahead = Ahead::new()?;
    let mut child = Some(request.start(Some(&ahead), stack)?);
    ahead.forked();
    let buffer = sys::memory(4 + wire::MAX_LATER_BYTES + 1)?;
    let (mut received, mut is_ready) = (0, false);
    loop {
        let length = Reader(&buffer[..received]).u32().map_or(usize::MAX, |length| length as usize);
        if length != usize::MAX && length > wire::MAX_LATER_BYTES {
            return Err(Errno::TOO_BIG);
        }
        let is_whole = received >= 4 && received == 4 + length + 1;
        if is_whole && (is_ready || child.is_none()) {
            break;
        }
        let mut fds = [
            Poll { fd: request.channel(), events: sys::POLL_IN, found: 0 },
            Poll { fd: events, events: sys::POLL_IN, found: 0 },
            // Of a shell that is dead the pipe is at its end, and would not let anybody sleep.
            Poll { fd: if is_ready || child.is_none() { -1 } else { ahead.ready() }, events: sys::POLL_IN, found: 0 },
        ];
        if is_whole {
            fds[0].events = sys::POLL_RDHUP;
        }
        let _ = sys::poll(&mut fds, -1);
        is_ready |= fds[2].found & sys::POLL_IN != 0;
        if fds[1].found != 0 {
            sys::drain(events);
            while let Ok((pid @ 1.., _)) = sys::wait(false) {
                if child == Some(pid) {
                    child = None;
                }
            }
        }
        if fds[0].found & sys::POLL_IN != 0 && !is_whole {
            match sys::read(request.channel(), &mut buffer[received..]) {
                Ok(count @ 1..) => received += count,
                _ => end_unused(),
            }
        } else if fds[0].found != 0 {
            end_unused();
        }
    }
    request.command = CStr::new(&buffer[4..received]).ok_or(Errno::INVAL)?;
    let given = match child {
        Some(pid) => ahead.give(pid, request.command).is_ok().then_some(pid),
        None => None,
    };
    let child = match given {
        Some(pid) => pid,
        None => {
            sys::kill_all_others();
            request.start(None, stack)?
        }
    };
    request.close_streams();
    Ok(supervise(child, request.channel(), events))
}

/// The host has no use for the waiting shell any more. It is killed with its process namespace.
fn end_unused() -> ! {
    sys::exit(0)
}

/// Waits for the shell or for the host to let go, then ends and reaps everything.
fn supervise(shell: i32, channel: Fd, events: Fd) -> (u32, u32) {
    let mut status = None;
    while status.is_none() {
        let mut fds = [
            Poll { fd: events, events: sys::POLL_IN, found: 0 },
            Poll { fd: channel, events: sys::POLL_IN | sys::POLL_RDHUP, found: 0 },
        ];
        let _ = sys::poll(&mut fds, -1);
        if fds[1].found & !sys::POLL_IN != 0 {
            break;
        }
        if fds[1].found != 0 {
            // The host has a signal for the command. The shell leads a process group, as in a terminal.
            let mut signal = [0; 4];
            match sys::read(channel, &mut signal) {
                Ok(4) => sys::kill_group(shell, u32::from_le_bytes(signal)),
                _ => break,
            }
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
