//! Sockets as standard streams.
//!
//! A socket belongs to the network namespace that it was created in. A command that has one of the
//! host could send messages to every socket of the host, accept its connections, or connect it
//! again: `connect(2)` with `AF_UNSPEC` takes a peer away. So the data of a connection goes through
//! a pipe, and every other socket is refused.
//!
//! Other programs may read from the same connection after the command. So its data stays in the
//! socket until the command has read it. The pipe has room for one page, and is empty when the
//! kernel reports room.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sockopt};

use super::pump::{Input, is_ready, spawn, write_all};
use crate::sandbox::ExecError;

/// Size of one page on every machine. The kernel rounds the size of a pipe up to its pages.
const PAGE_BYTES: usize = 4096;
/// Size of the buffer for output.
const BUFFER_BYTES: usize = 64 * 1024;
/// Families whose connections carry data in order.
const FAMILIES: [AddressFamily; 4] =
    [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6, AddressFamily::VSOCK];

/// Returns a phrase that names a socket without a stream of data.
pub(super) fn check(socket: BorrowedFd<'_>) -> Result<(), &'static str> {
    let kind = sockopt::socket_type(socket).and_then(|kind| {
        Ok((sockopt::socket_domain(socket)?, kind, sockopt::socket_acceptconn(socket)?))
    });
    match kind {
        Ok((family, SocketType::STREAM, false)) if FAMILIES.contains(&family) => Ok(()),
        Ok((_, SocketType::STREAM, true)) => Err("a socket that accepts connections"),
        Ok(_) => Err("a socket of messages"),
        Err(_) => Err("a socket of an unknown kind"),
    }
}

/// Sends what arrives at a socket into a pipe, in a thread.
pub(super) fn feed(socket: OwnedFd, reader: &OwnedFd, writer: OwnedFd) -> Result<Input, ExecError> {
    let failed = |errno: Errno| ExecError::Host { operation: "use a pipe", source: errno.into() };
    rustix::pipe::fcntl_setpipe_size(&writer, PAGE_BYTES).map_err(failed)?;
    rustix::io::ioctl_fionbio(&writer, true).map_err(failed)?;
    let reader = rustix::io::fcntl_dupfd_cloexec(reader, 0).map_err(failed)?;
    Input::start_with(move |stop| {
        let mut buffer = [0; PAGE_BYTES];
        while is_ready(&socket, PollFlags::IN, Some(stop)) {
            let count = match receive(&socket, &mut buffer, RecvFlags::PEEK) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return,
            };
            if rustix::io::write(&writer, &buffer[..count]) != Ok(count) {
                return;
            }
            let is_read = is_ready(&writer, PollFlags::OUT, Some(stop));
            let unread = if is_read { Ok(0) } else { rustix::io::ioctl_fionread(&reader) };
            let read = count.saturating_sub(unread.unwrap_or(0) as usize);
            if !discard(&socket, &mut buffer[..read]) || !is_read {
                return;
            }
        }
    })
}

/// Removes the bytes that the command has read from a socket.
fn discard(socket: &OwnedFd, mut rest: &mut [u8]) -> bool {
    while !rest.is_empty() {
        match receive(socket, rest, RecvFlags::empty()) {
            Ok(0) => return false,
            Ok(count) => rest = &mut rest[count..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn receive(socket: &OwnedFd, buffer: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
    recv(socket, buffer, flags | RecvFlags::DONTWAIT).map(|(count, _)| count)
}

/// Sends what a command writes into a pipe to a socket, in a thread.
pub(super) fn send(from: OwnedFd, socket: OwnedFd) -> Result<JoinHandle<()>, ExecError> {
    spawn(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        // A host may not ignore SIGPIPE.
        let send = |rest: &[u8]| rustix::net::send(&socket, rest, SendFlags::NOSIGNAL);
        loop {
            let count = match rustix::io::read(&from, &mut *buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            if !write_all(&buffer[..count], &socket, send) {
                return;
            }
        }
    })
}
