//! Commands as shell strings.
//!
//! A string starts the init program as a client (`init/client.rs`). The client sends its standard
//! streams to a thread of the host, which has init run the command on them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown,
};
use rustix::process::geteuid;

use super::connection::Connection;
use super::memory_file::memory_file;
use super::process::PROGRAM;
use super::refresh::Mounts;
use super::request::{self, CommandText};
use crate::internal::lock;
use crate::sandbox::{CommandSpec, ExecError};

/// Maximum time for a client to send its request, and for a busy session to accept the command.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The wrapped commands of one sandbox, with the listener for their clients.
#[derive(Default)]
pub(super) struct WrappedCommands(Mutex<Option<Listener>>);

struct Listener {
    socket: Arc<UnixListener>,
    name: String,
    /// The init program. Clients execute it by the path of this descriptor.
    program: OwnedFd,
    commands: Arc<Mutex<Vec<CommandSpec>>>,
    clients: Arc<Mutex<Clients>>,
}

/// Connections of clients whose commands have started. A client closes its connection by exiting.
#[derive(Default)]
struct Clients(Vec<UnixStream>);

impl Clients {
    fn add(&mut self, client: UnixStream) {
        self.drop_exited();
        self.0.push(client);
    }

    fn are_running(&mut self) -> bool {
        self.drop_exited();
        !self.0.is_empty()
    }

    fn drop_exited(&mut self) {
        self.0.retain(|client| {
            let mut fds = [PollFd::new(client, PollFlags::empty())];
            let polled = rustix::event::poll(&mut fds, Some(&Timespec::default()));
            polled.is_ok() && fds[0].revents().is_empty()
        });
    }
}

impl Drop for WrappedCommands {
    fn drop(&mut self) {
        if let Some(listener) = lock(&self.0).take() {
            // Wakes the thread, which then exits.
            let _ = rustix::net::shutdown(&listener.socket, Shutdown::Both);
        }
    }
}

impl WrappedCommands {
    /// Returns whether a command is running.
    pub(super) fn are_running(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|listener| lock(&listener.clients).are_running())
    }

    /// Returns the shell string of a command. No shell expands any character of it.
    pub(super) fn wrap(
        &self,
        connection: &Arc<Connection>,
        mounts: &Arc<Mounts>,
        spec: &CommandSpec,
    ) -> Result<String, ExecError> {
        // Reports a command that could never run to the caller, not to a later client.
        request::encode(connection, spec, CommandText::Included)?;
        let mut listener = lock(&self.0);
        let listener = match &mut *listener {
            Some(listener) => listener,
            none => {
                let session = Session {
                    connection: Arc::downgrade(connection),
                    mounts: Arc::downgrade(mounts),
                };
                none.insert(listen(session).map_err(|source| ExecError::Host {
                    operation: "listen for wrapped commands",
                    source,
                })?)
            }
        };
        let mut commands = lock(&listener.commands);
        let number = commands.iter().position(|known| known == spec).unwrap_or_else(|| {
            commands.push(spec.clone());
            commands.len() - 1
        });
        let (process, program) = (std::process::id(), listener.program.as_raw_fd());
        Ok(format!("/proc/{process}/fd/{program} {} {number}", listener.name))
    }
}

/// The session of a listener. The listener does not keep it open.
struct Session {
    connection: Weak<Connection>,
    mounts: Weak<Mounts>,
}

fn listen(session: Session) -> io::Result<Listener> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let name = format!("sandbox-{:032x}", u128::from_le_bytes(random));
    let socket = Arc::new(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?);
    let program = memory_file("sandbox-client", PROGRAM, MemfdFlags::EXEC)?;
    let commands = Arc::<Mutex<Vec<CommandSpec>>>::default();
    let clients = Arc::<Mutex<Clients>>::default();
    let (listener, known) = (Arc::clone(&socket), Arc::clone(&commands));
    let started = Arc::clone(&clients);
    std::thread::Builder::new().name("sandbox-wrapped".to_owned()).stack_size(256 * 1024).spawn(
        move || {
            while let Ok((client, _)) = listener.accept() {
                // A client without an answer reports the failure itself.
                if serve(&client, &session, &known).is_ok() {
                    lock(&started).add(client);
                }
            }
        },
    )?;
    Ok(Listener { socket, name, program, commands, clients })
}

/// Starts the command of one client on the client's streams.
fn serve(
    client: &UnixStream,
    session: &Session,
    commands: &Mutex<Vec<CommandSpec>>,
) -> io::Result<()> {
    let owner = rustix::net::sockopt::socket_peercred(client)?.uid;
    if owner != geteuid() && !owner.is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    client.set_read_timeout(Some(TIMEOUT))?;
    let (number, streams) = receive(client)?;
    let spec = lock(commands).get(number).cloned().ok_or(io::ErrorKind::NotFound)?;
    let closed = || io::Error::from(io::ErrorKind::NotConnected);
    let connection = session.connection.upgrade().ok_or_else(closed)?;
    let mounts = session.mounts.upgrade().ok_or_else(closed)?;
    // The exit of a wrapped command is reported to its client, not to this process. So the paths
    // that earlier ones created are checked now.
    mounts.recover_unreported().map_err(io::Error::other)?;
    mounts.expect_unreported(SystemTime::now());
    let (channel, end) = UnixStream::pair()?;
    let body =
        request::encode(&connection, &spec, CommandText::Included).map_err(io::Error::other)?;
    let [stdin, stdout, stderr] = &streams;
    let ends = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), end.as_fd()];
    connection.send_blocking(&body, ends, TIMEOUT).map_err(io::Error::other)?;
    let timeout_ms = i32::try_from(spec.timeout.as_millis()).unwrap_or(i32::MAX);
    send(client, &timeout_ms.to_le_bytes(), channel.as_fd())
}

/// Receives the number of a command, in decimal digits, and the client's standard streams.
fn receive(client: &UnixStream) -> io::Result<(usize, [OwnedFd; 3])> {
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
