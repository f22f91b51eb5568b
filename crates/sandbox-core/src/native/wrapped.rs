//! Commands as shell strings.
//!
//! A string starts the init program as a client (`init/client.rs`). The client sends its standard
//! streams to the host, where a thread has init run the command on them. After the command, the
//! client asks this thread for files that were quarantined.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown,
};
use rustix::process::{Pid, geteuid, getpid};

use super::attached_outcome::AttachedOutcome;
use super::connection::Connection;
use super::memory_file::memory_file;
use super::memory_kills::KillWatch;
use super::outcome::{Outcome, Report};
use super::outstanding::Began;
use super::process::PROGRAM;
use super::refresh::Mounts;
use super::registry::{MAX_COMMANDS, Registry};
use super::request;
use super::settlement::Settled;
use super::size::SizeWatch;
use super::stdio::{Pumps, Stdio};
use super::wire;
use crate::internal::lock;
use crate::sandbox::{CommandSpec, ExecError, Limit, REFUSED};

/// Maximum time for a client to send its request, and for a busy session to accept the command.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of clients at the same time. Init runs as many commands.
const MAX_CLIENTS: usize = 1_024;
/// Size of the stack of a client's thread. It may compile the policy.
const STACK_BYTES: usize = 512 * 1024;

/// The end of a wrapped command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WrappedEnd {
    /// The command.
    pub spec: Arc<CommandSpec>,
    /// The time at which it began.
    pub began: SystemTime,
    /// Its duration.
    pub elapsed: Duration,
    /// Its outcome; `None` if it could not be started, or was killed together with its client.
    pub outcome: Option<AttachedOutcome>,
}

/// A receiver of the ends of wrapped commands.
pub(super) type Observer = Arc<dyn Fn(WrappedEnd) + Send + Sync>;

/// The wrapped commands of one sandbox, with the listener for their clients.
#[derive(Default)]
pub(super) struct WrappedCommands {
    listener: Mutex<Option<Listener>>,
    observer: Arc<Mutex<Option<Observer>>>,
}

struct Listener {
    socket: Arc<UnixListener>,
    name: String,
    /// The init program. Clients execute it by the path of this descriptor.
    program: OwnedFd,
    commands: Arc<Mutex<Registry>>,
    running: Arc<AtomicUsize>,
    owner: Pid,
}

/// One of several things that are counted as long as they exist.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for WrappedCommands {
    fn drop(&mut self) {
        let listener = lock(&self.listener).take();
        if let Some(listener) = listener.filter(|listener| listener.owner == getpid()) {
            // Wakes the thread, which then exits.
            let _ = rustix::net::shutdown(&listener.socket, Shutdown::Both);
        }
    }
}

impl WrappedCommands {
    /// Returns whether a command is running.
    pub(super) fn are_running(&self) -> bool {
        let listener = lock(&self.listener);
        listener.as_ref().is_some_and(|listener| listener.running.load(Ordering::SeqCst) > 0)
    }

    /// Replaces the receiver of the ends of commands.
    pub(super) fn observe(&self, observer: Observer) {
        *lock(&self.observer) = Some(observer);
    }

    /// Returns the shell string of a command. No shell expands any character of it.
    pub(super) fn wrap(
        &self,
        connection: &Arc<Connection>,
        mounts: &Arc<Mounts>,
        spec: &CommandSpec,
    ) -> Result<String, ExecError> {
        // Reports a command that could never run to the caller, not to a later client.
        request::encode(connection, spec, wire::COMMAND_MAY_LINGER)?;
        let mut listener = lock(&self.listener);
        let listener = match &mut *listener {
            Some(listener) => listener,
            none => {
                let session = Session {
                    connection: Arc::downgrade(connection),
                    mounts: Arc::downgrade(mounts),
                    commands: Arc::default(),
                    running: Arc::default(),
                    observer: Arc::clone(&self.observer),
                };
                none.insert(listen(session).map_err(|source| ExecError::Host {
                    operation: "listen for wrapped commands",
                    source,
                })?)
            }
        };
        let number = lock(&listener.commands).number(spec);
        let (process, program) = (std::process::id(), listener.program.as_raw_fd());
        Ok(format!("/proc/{process}/fd/{program} {} {number}", listener.name))
    }
}

/// The session of a listener. The listener does not keep it open.
struct Session {
    connection: Weak<Connection>,
    mounts: Weak<Mounts>,
    commands: Arc<Mutex<Registry>>,
    /// Number of commands that are running.
    running: Arc<AtomicUsize>,
    observer: Arc<Mutex<Option<Observer>>>,
}

fn listen(session: Session) -> io::Result<Listener> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let name = format!("sandbox-{:032x}", u128::from_le_bytes(random));
    let socket = Arc::new(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?);
    let program = memory_file("sandbox-client", PROGRAM, MemfdFlags::EXEC)?;
    let (commands, running) = (Arc::clone(&session.commands), Arc::clone(&session.running));
    let accepting = Arc::clone(&socket);
    let thread = std::thread::Builder::new().name("sandbox-wrapped".to_owned());
    thread.stack_size(256 * 1024).spawn(move || accept(&accepting, &Arc::new(session)))?;
    Ok(Listener { socket, name, program, commands, running, owner: getpid() })
}

/// Serves each client in a thread of its own, so that none waits for another.
fn accept(socket: &UnixListener, session: &Arc<Session>) {
    let clients = Arc::<AtomicUsize>::default();
    while let Ok((client, _)) = socket.accept() {
        if clients.load(Ordering::SeqCst) >= MAX_CLIENTS {
            refuse(&client, "too many commands of this session are running\n");
            continue;
        }
        let (counted, session) = (Counted::new(&clients), Arc::clone(session));
        let thread = std::thread::Builder::new().name("sandbox-client".to_owned());
        // A client without an answer reports the failure itself.
        let _ = thread.stack_size(STACK_BYTES).spawn(move || {
            let _counted = counted;
            match session.start(&client) {
                Ok(started) => started.finish(&client),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    refuse(&client, &format!("{error}\n"));
                }
                Err(_) => {}
            }
        });
    }
}

/// A command that runs on the streams of a client.
struct Started {
    spec: Arc<CommandSpec>,
    began_at: (SystemTime, Instant),
    observer: Option<Observer>,
    mounts: Arc<Mounts>,
    began: Began,
    pumps: Pumps,
    size: SizeWatch,
    kills: KillWatch,
    /// Another descriptor of the client's end of the channel. The command ends when both are
    /// closed, and this thread notices when the client exits.
    channel: UnixStream,
    _running: Counted,
}

impl Session {
    /// Starts the command of one client on the client's streams. Errors of the kind `InvalidInput`
    /// are for the client.
    fn start(&self, client: &UnixStream) -> io::Result<Started> {
        let owner = rustix::net::sockopt::socket_peercred(client)?.uid;
        if owner != geteuid() && !owner.is_root() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        client.set_read_timeout(Some(TIMEOUT))?;
        let (number, streams) = receive(client)?;
        let refused = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let spec = lock(&self.commands).command(number).ok_or_else(|| {
            refused(format!("this command is one of more than {MAX_COMMANDS}; wrap it again"))
        })?;
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let connection = self.connection.upgrade().ok_or_else(closed)?;
        let mounts = self.mounts.upgrade().ok_or_else(closed)?;
        // A client that was killed did not ask for the paths that its command created.
        if let Err(reason) = mounts.recover_unreported() {
            connection.begin_to_end(reason);
            return Err(refused(reason.to_owned()));
        }
        let Stdio { streams, pumps } =
            Stdio::of(streams.each_ref().map(AsFd::as_fd), [false; 3], &mounts.plan())
                .map_err(|error| refused(error.to_string()))?;
        let (began, began_at) = (mounts.begin(), (SystemTime::now(), Instant::now()));
        let running = Counted::new(&self.running);
        let (channel, end) = UnixStream::pair()?;
        let body = request::encode(&connection, &spec, wire::COMMAND_MAY_LINGER)
            .map_err(io::Error::other)?;
        let [stdin, stdout, stderr] = &streams;
        let ends = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), end.as_fd()];
        let kills = connection.watch_memory_kills();
        connection.send_blocking(&body, ends, TIMEOUT).map_err(io::Error::other)?;
        let milliseconds =
            |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX).to_le_bytes();
        let times = [milliseconds(spec.timeout), milliseconds(spec.linger)].concat();
        send(client, &times, channel.as_fd())?;
        let size = connection.size().watch();
        Ok(Started {
            spec,
            began_at,
            observer: lock(&self.observer).clone(),
            mounts,
            began,
            pumps,
            size,
            kills,
            channel,
            _running: running,
        })
    }
}

impl Started {
    /// Waits until the client has received the report, and ends the command if the session
    /// directory becomes too large. Returns the report, and whether that happened.
    fn receive_report(
        &mut self,
        mut client: &UnixStream,
    ) -> Option<([u8; wire::REPORT_BYTES], bool)> {
        let mut outgrew = false;
        loop {
            let due = self.size.due().filter(|_| !outgrew);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = wait.map(|wait| wait.max(Duration::from_millis(1)));
            client.set_read_timeout(wait).ok()?;
            let mut report = [0; wire::REPORT_BYTES];
            // The client sends the report in one piece.
            match client.read_exact(&mut report) {
                Ok(()) => return Some((report, outgrew)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outgrew = self.size.check();
                    if outgrew {
                        let _ = self.channel.shutdown(std::net::Shutdown::Write);
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Waits until the client has received the report of its command. Then answers with an exit
    /// code that replaces that of a command that succeeded, and with a text.
    fn finish(mut self, client: &UnixStream) {
        let Some((report, outgrew)) = self.receive_report(client) else {
            return self.report_end(None);
        };
        std::mem::take(&mut self.pumps).finish();
        let report = Report::of(&report);
        self.kills.settle(report.limit);
        let (unroutable, watched_creations) = (report.unroutable, report.watched_creations);
        let timed_out = self.began_at.1.elapsed() >= self.spec.timeout && report.was_killed();
        let ended = Outcome { report, timed_out, outgrew, killed: Vec::new() };
        let settled = self.mounts.settle_blocking(&self.began, watched_creations);
        let mut text: String =
            settled.quarantined.iter().map(|file| format!("sandbox: {file}\n")).collect();
        if let Some(reason) = settled.sandbox_ended {
            text += &format!("sandbox: the session has ended: {reason}\n");
        }
        let code = if text.is_empty() { 0 } else { REFUSED };
        let is_too_large = self.size.is_exceeded_blocking();
        let limit = ended.limit().or(is_too_large.then_some(Limit::SessionSize));
        // The client has explained a command that did not start.
        let nowhere = Path::new("");
        let outcome = ended.status(nowhere, nowhere).ok().map(|status| {
            let Settled { quarantined, sandbox_ended } = settled;
            let killed = Vec::new();
            AttachedOutcome { status, killed, limit, unroutable, quarantined, sandbox_ended }
        });
        let reached = outcome.as_ref().and_then(AttachedOutcome::limit_reached).or(limit);
        if let Some(limit) = reached.filter(|limit| *limit != Limit::WallTime) {
            text += &format!("sandbox: limit reached: {}\n", limit.name());
        }
        self.report_end(outcome);
        let text = text.as_bytes();
        let text = &text[..text.len().min(wire::MAX_NOTICE_BYTES - 4)];
        answer(client, &[&code.to_le_bytes()[..], text].concat());
    }

    /// Tells the observer before the client exits.
    fn report_end(&self, outcome: Option<AttachedOutcome>) {
        let Some(observer) = &self.observer else { return };
        let (began, instant) = self.began_at;
        observer(WrappedEnd {
            spec: Arc::clone(&self.spec),
            began,
            elapsed: instant.elapsed(),
            outcome,
        });
    }
}

/// Tells a client why its command is not run.
fn refuse(client: &UnixStream, reason: &str) {
    answer(client, &[&0_i32.to_le_bytes()[..], reason.as_bytes()].concat());
}

/// Sends an answer. A client that was killed needs none.
fn answer(client: &UnixStream, message: &[u8]) {
    let _ = rustix::net::send(client, message, SendFlags::NOSIGNAL);
}

/// Receives the number of a command, in decimal digits, and the client's standard streams.
fn receive(client: &UnixStream) -> io::Result<(u64, [OwnedFd; 3])> {
    let mut buffer = [0; 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(client, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)?;
    let number =
        std::str::from_utf8(&buffer[..received.bytes]).ok().and_then(|digits| digits.parse().ok());
    let rights = |message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    };
    let streams: Vec<_> = ancillary.drain().filter_map(rights).flatten().collect();
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    Ok((number.ok_or_else(invalid)?, streams.try_into().map_err(|_| invalid())?))
}

fn send(client: &UnixStream, message: &[u8], channel: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [channel];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(client, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
