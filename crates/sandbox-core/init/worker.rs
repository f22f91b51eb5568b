//! A worker: the first process of a process namespace in which one command runs at a time.
//!
//! It starts in advance, with everything that does not depend on a command, and waits for a command
//! on the control socket. It then starts the shell. When the shell has exited, the host decides how
//! long the other processes in the namespace may run. Then the worker kills and reaps them, and
//! reports. So a report means that no process of the command is alive. Afterwards the namespace is
//! empty again, and the worker waits for the next command.

mod supervision;

use core::cell::Cell;

use crate::body::Body;
use crate::cgroup::{Group, Watch};
use crate::network::Network;
use crate::pool::{Pool, WorkerIndex};
use crate::prestart::Prestart;
use crate::reader::Reader;
use crate::reply::{Reply, report_failure, report_ready};
use crate::shell::{self, Request};
use crate::supervisor::Supervisor;
use crate::sys::{self, CStr, Errno, Fd, MAX_FDS, Poll, Result};
use crate::terminal::Terminal;
use crate::tier::Tier;
use crate::wire;

/// Interval at which an idle worker wakes. It exits if another worker is idle.
pub const WAKE_INTERVAL_SECONDS: u64 = 1;
/// Number of times that the last idle worker wakes before it exits. The exit frees its memory, and
/// the next command pays half a millisecond for a new worker.
const MAX_WAKES: u32 = 30;
/// Maximum number of commands of a worker, whose own processor time counts against their limits.
const MAX_COMMANDS: u32 = 1000;

/// The state of a session that workers inherit.
pub struct Session {
    pub control: Fd,
    /// Becomes readable when the host exits. In use by init alone.
    pub host: Fd,
    /// Wakes init when the last idle worker has taken a command.
    pub taken: Fd,
    pub pool: Pool,
    pub filter: &'static [u8],
    pub limits: &'static [u8],
    pub tier: Tier,
    pub group: Option<Group>,
    /// In use by init alone.
    pub supervisor: Option<Supervisor>,
    /// In use by init alone.
    pub network: Network,
}

impl Session {
    /// Forks a process that becomes a worker.
    pub fn fork_worker(&self, index: WorkerIndex) -> Result<i32> {
        let namespaces = self.tier.worker_namespaces();
        match &self.group {
            Some(group) => group.fork_worker(
                index,
                namespaces,
                self.supervisor.as_ref().map_or(0, Supervisor::bypass_tag),
            ),
            None => sys::fork(namespaces),
        }
    }

    /// Removes the control group of a dead worker.
    pub fn remove_group(&self, index: WorkerIndex) {
        if let Some(group) = &self.group {
            group.remove_worker(index);
        }
    }
}

/// Readiness report to the host, which only the first worker sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Yes,
    No,
}

/// Runs commands one after another, then exits.
pub fn run(session: &Session, index: WorkerIndex, announce: Announce) -> ! {
    sys::close(session.host);
    session.network.close_in_worker();
    if let Some(supervisor) = &session.supervisor {
        sys::close(supervisor.listener());
    }
    let (events, watch) = match prepare(session, index) {
        Ok(prepared) => prepared,
        Err((step, errno)) => {
            if announce == Announce::Yes {
                report_failure(session.control, step, errno, b"");
            }
            sys::exit(1)
        }
    };
    let Session { control, tier, .. } = session;
    if announce == Announce::Yes
        && report_ready(*control, tier.landlock_abi(), tier.unbounded()).is_err()
    {
        sys::exit(1);
    }
    let (Ok(buffer), Ok(stack)) =
        (sys::memory(wire::MAX_MESSAGE_BYTES), sys::memory(shell::STACK_BYTES))
    else {
        sys::exit(1)
    };
    let worker = Worker { session, events, watch, unroutable_before: Cell::new(0) };
    for _ in 0..MAX_COMMANDS {
        let mut fds = [-1; MAX_FDS];
        let received = worker.receive(index, buffer, &mut fds);
        if session.pool.remove_idle(index) {
            let _ = sys::write(session.taken, &1u64.to_le_bytes());
        }
        let (message, count) = match received {
            Ok((message, count)) if count >= 4 => (message, count),
            // The host has exited, or has sent a malformed message. The exit closes the
            // descriptors, which the host notices.
            _ => sys::exit(0),
        };
        let channel = fds[3];
        let (kind, value, next) = match worker.execute(message, &fds[..count], stack) {
            Ok((kind, value, next)) => (kind, value, next),
            Err(errno) => {
                worker.kill_all();
                (wire::RESULT_BAD_REQUEST, errno.0 as u32, Next::End)
            }
        };
        worker.watch.make_room();
        let limit = worker.watch.limit();
        let next = if worker.watch.is_used_up() { Next::End } else { next };
        if next == Next::Wait {
            session.pool.add_idle(index);
        }
        let unroutable = session.pool.unroutable().wrapping_sub(worker.unroutable_before.get());
        let creations = session.pool.creations();
        Reply { kind, value, limit, unroutable, creations }.send(channel);
        sys::close(channel);
        if next == Next::End {
            break;
        }
    }
    sys::exit(0)
}

/// Action of a worker after a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Wait,
    /// The command has left state in this process, such as memory in use.
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

/// State of this process while it runs commands.
struct Worker<'s> {
    session: &'s Session,
    /// Becomes readable when a child exits.
    events: Fd,
    watch: Watch,
    /// Number of connections without a route in the session before the command began.
    unroutable_before: Cell<u32>,
}

impl Worker<'_> {
    /// Waits for a command. Exits if none arrives for a long time.
    fn receive<'b>(
        &self,
        index: WorkerIndex,
        buffer: &'b mut [u8],
        fds: &mut [Fd; MAX_FDS],
    ) -> Result<(&'b [u8], usize)> {
        let Session { control, pool, .. } = self.session;
        for _ in 0..MAX_WAKES {
            match sys::receive(*control, buffer, fds) {
                Err(Errno::AGAIN) if sys::is_orphaned(self.events) || pool.try_leave(index) => {
                    sys::exit(0)
                }
                Err(Errno::AGAIN) => {}
                // Init is dead. The exit closes the descriptors, which the host notices.
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
        self.watch.begin();
        let Body { flags, shell, directory, command, count, variables: mut rest } =
            Body::read(body)?;
        let mut usual = [core::ptr::null(); wire::USUAL_VARIABLES + 2];
        let variables = if count > wire::USUAL_VARIABLES {
            sys::null_pointers(count + 2)?
        } else {
            &mut usual[..]
        };
        for variable in variables.iter_mut().take(count) {
            *variable = rest.text()?.as_ptr();
        }
        let is_in_terminal = flags & wire::COMMAND_IN_TERMINAL != 0;
        let terminal = if is_in_terminal { Some(Terminal::take(&fds[..3])?) } else { None };
        let mut request =
            Request { shell, directory, command, variables, count, fds, flags, terminal };
        if request.has(wire::COMMAND_DEFERRED) {
            let (kind, value) = self.run_deferred(&mut request, stack)?;
            return Ok((kind, value, Next::End));
        }
        self.check_host(&request);
        self.unroutable_before.set(self.session.pool.unroutable());
        let child = request.start(&self.session.tier, None, stack)?;
        request.close_streams();
        let (kind, value) = self.supervise(child, &request);
        // The streams of the terminal end when no process has it open, this one included.
        if let Some(terminal) = &request.terminal {
            sys::close(terminal.fd());
        }
        // A file with a long request and the memory for many variables stay mapped.
        let is_large = fds.len() > 4 || request.count > wire::USUAL_VARIABLES;
        let is_used = is_large || request.terminal.is_some();
        Ok((kind, value, if is_used { Next::End } else { Next::Wait }))
    }

    /// Exits if the host has exited, or no longer waits for the command. The next owner of the
    /// session directory may be at work already, and the message has waited until now.
    fn check_host(&self, request: &Request<'_>) {
        let mut fds = [
            Poll { fd: request.channel(), events: sys::POLL_RDHUP, found: 0 },
            Poll { fd: self.session.control, events: 0, found: 0 },
        ];
        let _ = sys::poll(&mut fds, 0);
        if fds.iter().any(|polled| polled.found != 0) {
            self.abandon();
        }
    }

    /// Starts the shell at once, and passes the command to it when the command arrives.
    fn run_deferred(&self, request: &mut Request<'_>, stack: &mut [u8]) -> Result<(u32, u32)> {
        let prestart = Prestart::new()?;
        let mut child = Some(request.start(&self.session.tier, Some(&prestart), stack)?);
        prestart.close_shell_ends();
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
                // The pipe of a dead shell is at its end, and would end every wait at once.
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
                    self.abandon();
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
                    _ => self.abandon(),
                }
            } else if fds[0].found != 0 || fds[3].found != 0 {
                self.abandon();
            }
        }
        request.command = CStr::new(&buffer[4..received]).ok_or(Errno::INVAL)?;
        self.check_host(request);
        self.unroutable_before.set(self.session.pool.unroutable());
        let given = match child {
            Some(pid) => prestart.give(pid, request.command).is_ok().then_some(pid),
            None => None,
        };
        let child = match given {
            Some(pid) => pid,
            None => {
                self.kill_all();
                request.start(&self.session.tier, None, stack)?
            }
        };
        request.close_streams();
        Ok(self.supervise(child, request))
    }
}
