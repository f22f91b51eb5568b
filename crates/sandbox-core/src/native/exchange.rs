//! Requests to a session's init over the socket for updates.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::process::SETUP_TIMEOUT;
use super::wire;

/// Maximum number of descriptors in an answer.
const MAX_FDS: usize = 3 + wire::MAX_PORTS;
const MAX_BYTES: usize = wire::NETWORK_ANSWER_BYTES + 4 * wire::MAX_PORTS;

/// An answer of init without an error.
#[derive(Debug)]
pub(super) struct Answer {
    /// The words after the errno.
    pub(super) words: Vec<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

/// Sends a request, and waits for the answer. Returns init's errno as an error.
///
/// The caller must not let two requests overlap. After an error of the kind
/// [`io::ErrorKind::TimedOut`] the socket is useless, because the answer may arrive later.
pub(super) fn exchange(
    updates: &OwnedFd,
    request: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<Answer> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let request = [IoSlice::new(request)];
    rustix::net::sendmsg(updates, &request, &mut ancillary, SendFlags::NOSIGNAL)?;
    loop {
        match poll(&mut [PollFd::new(updates, PollFlags::IN)], Some(&SETUP_TIMEOUT)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    let mut buffer = [0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received =
        rustix::net::recvmsg(updates, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    // The kernel drops descriptors for which this process has no room.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    let (words, rest) = buffer[..received.bytes].as_chunks();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    match (words.next(), rest) {
        (Some(0), []) => Ok(Answer { words: words.collect(), fds }),
        (Some(errno), []) => Err(io::Error::from_raw_os_error(errno.cast_signed())),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
