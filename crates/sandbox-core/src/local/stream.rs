//! Connections between two processes, which carry bytes and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::unix::UCred;

use super::path;

/// Maximum number of descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 4;

/// A connection to another process, or to this one.
#[derive(Debug)]
pub struct LocalStream {
    stream: tokio::net::UnixStream,
}

impl LocalStream {
    pub(super) fn new(stream: tokio::net::UnixStream) -> Self {
        Self { stream }
    }

    /// Returns the ids of the process that connected or listened.
    pub(super) fn credentials(&self) -> io::Result<UCred> {
        self.stream.peer_cred()
    }

    /// Connects to the socket `name` in a directory. Never waits.
    ///
    /// # Errors
    /// Returns `NotFound` without a socket, `ConnectionRefused` without a listener, and
    /// `WouldBlock` if too many connections wait for the listener.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime with I/O.
    pub fn connect(dir: impl AsFd, name: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path(&dir, name))?)?;
        Ok(Self::new(tokio::net::UnixStream::from_std(UnixStream::from(socket))?))
    }

    /// Sends bytes, and descriptors with the first of them. Returns the number of sent bytes, which
    /// is at least 1 unless `bytes` is empty.
    ///
    /// # Errors
    /// Returns the error of the system call; `BrokenPipe` if the peer has closed.
    ///
    /// # Cancel safety
    /// Nothing is sent if the caller drops the future.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let send = || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty()
                && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let message = [IoSlice::new(bytes)];
            Ok(rustix::net::sendmsg(&self.stream, &message, &mut ancillary, flags)?)
        };
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    /// Receives bytes, and appends the descriptors that came with them. Returns 0 after the peer
    /// has closed.
    ///
    /// # Errors
    /// Returns the error of the system call, and `InvalidData` for more than [`MAX_DESCRIPTORS`]
    /// descriptors.
    ///
    /// # Cancel safety
    /// Nothing is received if the caller drops the future.
    pub async fn receive(
        &self,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let receive = || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let mut message = [IoSliceMut::new(buffer)];
            let received = rustix::net::recvmsg(&self.stream, &mut message, &mut ancillary, flags)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    descriptors.extend(fds);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            Ok(received.bytes)
        };
        self.stream.async_io(Interest::READABLE, receive).await
    }
}

impl AsFd for LocalStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
