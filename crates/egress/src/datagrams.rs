//! Datagrams of the DNS listener. An answer comes from the address that was asked.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The way back of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturnPath {
    client: SockaddrStorage,
    /// The IPv6 address that was asked, if the socket reports it. The kernel would choose another
    /// source, and the client would not accept its answer.
    asked: Option<libc::in6_pktinfo>,
}

/// Receives a datagram.
pub(crate) async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, ReturnPath)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                flags,
            )?;
            let client = received.address.ok_or(io::ErrorKind::InvalidData)?;
            let asked = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
                _ => None,
            });
            Ok((received.bytes, ReturnPath { client, asked }))
        })
        .await
}

/// Sends an answer.
pub(crate) async fn send(socket: &UdpSocket, answer: &[u8], to: &ReturnPath) -> io::Result<()> {
    socket
        .async_io(Interest::WRITABLE, || {
            let asked = to.asked.as_ref().map(ControlMessage::Ipv6PacketInfo);
            let slices = [IoSlice::new(answer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            sendmsg(socket.as_raw_fd(), &slices, asked.as_slice(), flags, Some(&to.client))?;
            Ok(())
        })
        .await
}
