//! Commands as shell strings. A string starts the init program as a client (`init/client.rs`),
//! which brings its streams to a thread of the host, and the thread has the command run on them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown,
};
use rustix::process::geteuid;

use super::process::{PROGRAM, memory_file};
use super::{Inner, exec, wire};
use crate::sandbox::{CommandSpec, ExecError};

/// How long a client may take to say what it wants, and a session that is flooded with commands to
/// take one more.
const PATIENCE: Duration = Duration::from_secs(5);

/// The wrapped commands of one sandbox, and who listens for their clients. Both last as long as the
/// sandbox.
#[derive(Default)]
pub(super) struct Wrapped(Mutex<Option<Listening>>);

struct Listening {
    socket: Arc<UnixListener>,
    name: String,
    /// Opened by the path of this descriptor.
    program: OwnedFd,
    commands: Arc<Mutex<Vec<CommandSpec>>>,
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        if let Some(listening) = lock(&self.0).take() {
            // Wakes the thread.
            let _ = rustix::net::shutdown(&listening.socket, Shutdown::Both);
        }
    }
}

/// The shell string of a command; it holds nothing that a shell would look at twice.
pub(super) fn wrap(sandbox: &Arc<Inner>, spec: &CommandSpec) -> Result<String, ExecError> {
    // What cannot be run is refused here and now.
    exec::encode(sandbox, spec, wire::COMMAND_NOW)?;
    let mut listening = lock(&sandbox.wrapped.0);
    let listening = match &mut *listening {
        Some(listening) => listening,
        none => none.insert(listen(Arc::downgrade(sandbox)).map_err(|source| ExecError::Host {
            operation: "listen for wrapped commands",
            source,
        })?),
    };
    let mut commands = lock(&listening.commands);
    let number = commands.iter().position(|known| known == spec).unwrap_or_else(|| {
        commands.push(spec.clone());
        commands.len() - 1
    });
    let (process, program) = (std::process::id(), listening.program.as_raw_fd());
    Ok(format!("/proc/{process}/fd/{program} {} {number}", listening.name))
}

fn listen(sandbox: Weak<Inner>) -> io::Result<Listening> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let name = format!("sandbox-{:032x}", u128::from_le_bytes(random));
    let socket = Arc::new(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?);
    let program = memory_file("sandbox-client", PROGRAM, MemfdFlags::EXEC)?;
    let commands = Arc::<Mutex<Vec<CommandSpec>>>::default();
    let (listener, known) = (Arc::clone(&socket), Arc::clone(&commands));
    std::thread::Builder::new().name("sandbox-wrapped".to_owned()).stack_size(256 * 1024).spawn(
        move || {
            while let Ok((client, _)) = listener.accept() {
                // A client that gets no answer says so.
                let _ = serve(&client, &sandbox, &known);
            }
        },
    )?;
    Ok(Listening { socket, name, program, commands })
}

/// Has the command of one client run on the client's streams.
fn serve(
    client: &UnixStream,
    sandbox: &Weak<Inner>,
    commands: &Mutex<Vec<CommandSpec>>,
) -> io::Result<()> {
    let owner = rustix::net::sockopt::socket_peercred(client)?.uid;
    if owner != geteuid() && !owner.is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    client.set_read_timeout(Some(PATIENCE))?;
    let (number, streams) = receive(client)?;
    let spec = lock(commands).get(number).cloned().ok_or(io::ErrorKind::NotFound)?;
    let sandbox = sandbox.upgrade().ok_or(io::ErrorKind::NotConnected)?;
    // The client hears the end of its command, not this process: what came of earlier ones is seen
    // to now.
    sandbox.recover_unreported();
    sandbox.unchecked.begin(SystemTime::now());
    let (channel, end) = UnixStream::pair()?;
    let body = exec::encode(&sandbox, &spec, wire::COMMAND_NOW).map_err(io::Error::other)?;
    let [stdin, stdout, stderr] = &streams;
    let ends = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), end.as_fd()];
    exec::send_blocking(&sandbox, &body, ends, PATIENCE).map_err(io::Error::other)?;
    let timeout_ms = i32::try_from(spec.timeout.as_millis()).unwrap_or(i32::MAX);
    send(client, &timeout_ms.to_le_bytes(), channel.as_fd())
}

/// The number of a command, in decimal digits, and the client's standard streams.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
