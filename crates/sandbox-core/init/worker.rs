//! A worker: the first process of a process namespace in which one command runs at a time.
//!
//! It is made in advance, with everything that does not depend on the command, and waits for one on the
//! control socket. It then starts the shell, and when that has ended, or the host has let go of the
//! command's channel, it kills all that is left in its namespace, reaps it, and only then reports.
//! So whoever reads the report knows that nothing of the command is alive. Then it waits for the
//! next command: its namespace is empty again, and what the last command could change was never its
//! own.

use crate::cgroup::{Group, Watch};
use crate::notify::CreationSupervisor;
use crate::pool::{Pool, WorkerIndex};
use crate::prestart::Prestart;
use crate::reader::Reader;
use crate::reply::Reply;
use crate::shell::{self, Request};
use crate::sys::{self, CStr, Errno, Fd, MAX_FDS, Poll, Result};
use crate::tier::Tier;
use crate::wire;

/// How often a worker that waits looks up. It goes if another one waits too.
pub const LOOK_UP_SECONDS: u64 = 1;
/// How often the last one looks up before it goes. After that it has given its memory back, and the
/// next command pays half a millisecond for a new one.
const MAX_LOOKS: u32 = 30;
/// How many commands a worker runs. Its own processor time counts against the limits of a command.
const MAX_COMMANDS: u32 = 1000;

/// After how long what was killed and is not dead yet is looked at again.
const KILL_AGAIN_MS: i32 = 10;

/// What a worker needs of the session.
pub struct Session {
    pub control: Fd,
    /// Wakes init when the last worker that waited has taken a command.
    pub taken: Fd,
    pub pool: Pool,
    pub filter: &'static [u8],
    pub limits: &'static [u8],
    pub tier: Tier,
    pub group: Option<Group>,
    /// What init alone sees to.
    pub supervisor: Option<CreationSupervisor>,
}

impl Session {
    /// Forks a process that is to become a worker.
    pub fn fork_worker(&self, index: WorkerIndex) -> Result<i32> {
        let namespaces = self.tier.worker_namespaces();
        match &self.group {
            Some(group) => group.fork_worker(
                index,
                namespaces,
                self.supervisor.as_ref().map_or(0, CreationSupervisor::bypass_tag),
            ),
            None => sys::fork(namespaces),
        }
    }

    /// Removes what was made for a worker that is dead.
    pub fn remove_group(&self, index: WorkerIndex) {
        if let Some(group) = &self.group {
            group.remove_worker(index);
        }
    }
}

/// Whether the worker tells the host that the session takes commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Yes,
    No,
}

/// Runs commands, one after another, and ends the process.
pub fn run(session: &Session, index: WorkerIndex, announce: Announce) -> ! {
    if let Some(supervisor) = &session.supervisor {
        sys::close(supervisor.listener());
    }
    let (events, watch) = match prepare(session, index) {
        Ok(prepared) => prepared,
        Err((step, errno)) => {
            if announce == Announce::Yes {
                crate::report_failure(session.control, step, errno, b"");
            }
            sys::exit(1)
        }
    };
    if announce == Announce::Yes {
        let mut message = [0; 8];
        message[..4].copy_from_slice(&wire::MSG_READY.to_le_bytes());
        message[4..].copy_from_slice(&session.tier.landlock_abi().to_le_bytes());
        if sys::send(session.control, &message).is_err() {
            sys::exit(1);
        }
    }
    let (Ok(buffer), Ok(stack)) =
        (sys::memory(wire::MAX_MESSAGE_BYTES), sys::memory(shell::STACK_BYTES))
    else {
        sys::exit(1)
    };
    let worker = Worker { session, events, watch };
    for _ in 0..MAX_COMMANDS {
        let mut fds = [-1; MAX_FDS];
        let received = worker.receive(index, buffer, &mut fds);
        if session.pool.forget(index) {
            let _ = sys::write(session.taken, &1u64.to_le_bytes());
        }
        let (message, count) = match received {
            Ok((message, count)) if count >= 4 => (message, count),
            // The host is gone, or sent what no host of ours sends; closing the descriptors tells
            // it so.
            _ => sys::exit(0),
        };
        let channel = fds[3];
        let (kind, value, next) = match worker.execute(message, &fds[..count], stack) {
            Ok((kind, value, next)) => (kind, value, next),
            Err(errno) => {
                worker.end_all(0);
                (wire::RESULT_BAD_REQUEST, errno.0 as u32, Next::End)
            }
        };
        let limit = worker.watch.limit();
        let next = if worker.watch.is_much_held() { Next::End } else { next };
        if next == Next::Wait {
            session.pool.expect(index);
        }
        Reply { kind, value, limit, creations: session.pool.creations() }.send(channel);
        sys::close(channel);
        if next == Next::End {
            break;
        }
    }
    sys::exit(0)
}

/// What a worker does after a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Wait,
    /// The command has left something in this process, if only memory that is in use.
    End,
}

fn prepare(
    session: &Session,
    index: WorkerIndex,
) -> core::result::Result<(Fd, Watch), (u32, Errno)> {
    let watch = Watch::new(session.group.as_ref(), index, &session.tier)
        .map_err(|errno| (wire::STEP_GROUP, errno))?;
    session.tier.enter_worker().map_err(|errno| (wire::STEP_PROC, errno))?;
    let restrict = || {
        let events = session.tier.events()?;
        let mut limits = Reader(session.limits);
        while !limits.0.is_empty() {
            sys::set_limit(limits.u32()?, limits.u64()?, limits.u64()?)?;
        }
        sys::drop_capabilities()?;
        sys::load_filter(session.filter)?;
        Ok(events)
    };
    restrict().map(|events| (events, watch)).map_err(|errno| (wire::STEP_PRIVILEGES, errno))
}

/// This process, as what runs commands.
struct Worker<'s> {
    session: &'s Session,
    /// Readable when a child has ended.
    events: Fd,
    watch: Watch,
}

impl Worker<'_> {
    /// Waits for a command; ends the process when none comes for long.
    fn receive<'b>(
        &self,
        index: WorkerIndex,
        buffer: &'b mut [u8],
        fds: &mut [Fd; MAX_FDS],
    ) -> Result<(&'b [u8], usize)> {
        let Session { control, pool, .. } = self.session;
        for _ in 0..MAX_LOOKS {
            match sys::receive(*control, buffer, fds) {
                Err(Errno::AGAIN)
                    if sys::is_orphaned(self.events) || pool.leave_to_others(index) =>
                {
                    sys::exit(0)
                }
                Err(Errno::AGAIN) => {}
                // The session is not whole any more; closing the descriptors tells the host.
                Ok(_) if sys::is_orphaned(self.events) => sys::exit(0),
                Ok((len, count)) => return Ok((&buffer[..len], count)),
                Err(errno) => return Err(errno),
            }
        }
        sys::exit(0)
    }

    fn execute(&self, message: &[u8], fds: &[Fd], stack: &mut [u8]) -> Result<(u32, u32, Next)> {
        let body = match fds.get(4) {
            Some(file) => sys::map_file(*file)?,
            None => message,
        };
        let mut reader = Reader(body);
        self.watch.begin();
        let is_deferred = reader.u32()? == wire::COMMAND_DEFERRED;
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
        if is_deferred {
            let (kind, value) = self.run_deferred(&mut request, stack)?;
            return Ok((kind, value, Next::End));
        }
        let child = request.start(&self.session.tier, None, stack)?;
        request.close_streams();
        let (kind, value) = self.supervise(child, request.channel());
        // A file with a long request stays mapped.
        Ok((kind, value, if fds.len() > 4 { Next::End } else { Next::Wait }))
    }

    /// Starts the shell at once, and gives it its command when that is known.
    fn run_deferred(&self, request: &mut Request<'_>, stack: &mut [u8]) -> Result<(u32, u32)> {
        let prestart = Prestart::new()?;
        let mut child = Some(request.start(&self.session.tier, Some(&prestart), stack)?);
        prestart.forked();
        let buffer = sys::memory(4 + wire::MAX_DEFERRED_BYTES + 1)?;
        let (mut received, mut is_ready) = (0, false);
        loop {
            let length =
                Reader(&buffer[..received]).u32().map_or(usize::MAX, |length| length as usize);
            if length != usize::MAX && length > wire::MAX_DEFERRED_BYTES {
                return Err(Errno::TOO_BIG);
            }
            let is_whole = received >= 4 && received == 4 + length + 1;
            if is_whole && (is_ready || child.is_none()) {
                break;
            }
            let mut fds = [
                Poll { fd: request.channel(), events: sys::POLL_IN, found: 0 },
                Poll { fd: self.events, events: sys::POLL_IN, found: 0 },
                // Of a shell that is dead the pipe is at its end, and would not let anybody sleep.
                Poll {
                    fd: if is_ready || child.is_none() { -1 } else { prestart.ready() },
                    events: sys::POLL_IN,
                    found: 0,
                },
                Poll { fd: self.session.control, events: 0, found: 0 },
            ];
            if is_whole {
                fds[0].events = sys::POLL_RDHUP;
            }
            let _ = sys::poll(&mut fds, -1);
            is_ready |= fds[2].found & sys::POLL_IN != 0;
            if fds[1].found != 0 {
                if sys::is_orphaned(self.events) {
                    self.end_unused();
                }
                while let Ok((pid @ 1.., _)) = sys::wait(false) {
                    if child == Some(pid) {
                        child = None;
                    }
                }
            }
            if fds[0].found & sys::POLL_IN != 0 && !is_whole {
                match sys::read(request.channel(), &mut buffer[received..]) {
                    Ok(count @ 1..) => received += count,
                    _ => self.end_unused(),
                }
            } else if fds[0].found != 0 || fds[3].found != 0 {
                self.end_unused();
            }
        }
        request.command = CStr::new(&buffer[4..received]).ok_or(Errno::INVAL)?;
        let given = match child {
            Some(pid) => prestart.give(pid, request.command).is_ok().then_some(pid),
            None => None,
        };
        let child = match given {
            Some(pid) => pid,
            None => {
                self.end_all(0);
                request.start(&self.session.tier, None, stack)?
            }
        };
        request.close_streams();
        Ok(self.supervise(child, request.channel()))
    }

    /// The host has no use for the waiting shell any more.
    fn end_unused(&self) -> ! {
        self.end_all(0);
        sys::exit(0)
    }

    /// Waits for the shell or for the host to let go, then ends and reaps everything.
    fn supervise(&self, shell: i32, channel: Fd) -> (u32, u32) {
        let mut status = None;
        while status.is_none() {
            let mut fds = [
                Poll { fd: self.events, events: sys::POLL_IN, found: 0 },
                Poll { fd: channel, events: sys::POLL_IN | sys::POLL_RDHUP, found: 0 },
                Poll { fd: self.session.control, events: 0, found: 0 },
                self.watch.poll(),
            ];
            let _ = sys::poll(&mut fds, self.watch.look_again_ms());
            if fds[2].found != 0 {
                // The session is closed; who still waits for this command hears so from the closing
                // of its channel.
                self.end_unused();
            }
            if fds[1].found & !sys::POLL_IN != 0 || self.watch.is_exceeded(&fds[3]) {
                break;
            }
            if fds[1].found != 0 {
                // The host has a signal for the command. The shell leads a process group, as in a
                // terminal.
                let mut signal = [0; 4];
                match sys::read(channel, &mut signal) {
                    Ok(4) => sys::kill_group(shell, u32::from_le_bytes(signal)),
                    _ => break,
                }
            }
            if sys::is_orphaned(self.events) {
                self.end_unused();
            }
            while let Ok((pid @ 1.., ended)) = sys::wait(false) {
                if pid == shell {
                    status = Some(ended);
                }
            }
        }
        let status = self.end_all(shell).or(status).unwrap_or(9);
        match status & 0x7f {
            0 => (wire::RESULT_EXITED, (status >> 8) & 0xff),
            signal => (wire::RESULT_SIGNALED, signal),
        }
    }

    /// Kills and reaps everything of a command. Gives the status of the shell, if it was among it.
    fn end_all(&self, shell: i32) -> Option<u32> {
        let mut status = None;
        // A kill that meets a fork may miss the newborn, so again until nobody is left to wait for.
        loop {
            self.session.tier.kill_all();
            match sys::wait(false) {
                Ok((0, _)) => {
                    let _ = sys::poll(
                        &mut [Poll { fd: self.events, events: sys::POLL_IN, found: 0 }],
                        KILL_AGAIN_MS,
                    );
                    sys::drain(self.events);
                }
                Ok((pid, ended)) if pid == shell => status = Some(ended),
                Ok(_) => {}
                Err(_) => return status,
            }
        }
    }
}
