//! Polling of descriptors, and messages between processes.

use super::{Errno, Fd, IoVec, O_CLOEXEC, Result, close};

/// Brings the loopback device of the network namespace up (`netdevice(7)`).
pub fn loopback_up() -> Result<()> {
    // AF_INET, SOCK_DGRAM | SOCK_CLOEXEC
    let socket = sys!(socket, 2, 2 | O_CLOEXEC, 0)? as Fd;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    // IFF_UP | IFF_RUNNING
    request[16..18].copy_from_slice(&0x41u16.to_le_bytes());
    let up = sys!(ioctl, socket, 0x8914, request.as_ptr()).map(drop);
    close(socket);
    up
}

pub fn event_counter() -> Result<Fd> {
    // EFD_NONBLOCK | EFD_CLOEXEC
    sys!(eventfd2, 0, 0o4000 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// `struct pollfd`.
#[repr(C)]
pub struct Poll {
    pub fd: Fd,
    pub events: i16,
    pub found: i16,
}

pub const POLL_IN: i16 = 1;
pub const POLL_PRI: i16 = 2;
pub const POLL_RDHUP: i16 = 0x2000;

/// Waits until one of `fds` is ready, or for `timeout_ms`; -1 waits without a limit.
pub fn poll(fds: &mut [Poll], timeout_ms: i32) -> Result<usize> {
    // struct timespec. The kernel writes the remaining time into it.
    let mut time = [i64::from(timeout_ms / 1000), i64::from(timeout_ms % 1000) * 1_000_000];
    let time = if timeout_ms < 0 { core::ptr::null_mut() } else { time.as_mut_ptr() };
    loop {
        match sys!(ppoll, fds.as_mut_ptr(), fds.len(), time, 0, 0) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// `struct msghdr`.
#[repr(C)]
struct MessageHeader {
    name: usize,
    name_len: usize,
    iov: *mut IoVec,
    iov_len: usize,
    control: *mut u8,
    control_len: usize,
    flags: u32,
}

/// Connects to a Unix stream socket by its name in the abstract namespace (`unix(7)`).
pub fn connect_abstract(name: &[u8]) -> Result<Fd> {
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&1u16.to_ne_bytes());
    address.get_mut(3..3 + name.len()).ok_or(Errno::INVAL)?.copy_from_slice(name);
    // AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
    let socket = sys!(socket, 1, 1 | O_CLOEXEC, 0)? as Fd;
    sys!(connect, socket, address.as_ptr(), 3 + name.len())?;
    Ok(socket)
}

/// Closes a connection, also for other processes that have it open.
pub fn shut_down(socket: Fd) {
    // SHUT_RDWR
    let _ = sys!(shutdown, socket, 2);
}

pub fn shut_down_sending(socket: Fd) {
    // SHUT_WR
    let _ = sys!(shutdown, socket, 1);
}

/// Maximum number of descriptors in one message that init sends.
pub const MAX_SENT_FDS: usize = 3 + crate::wire::MAX_PORTS;

/// Sends one message with descriptors.
pub fn send_with(socket: Fd, message: &[u8], fds: &[Fd]) -> Result<()> {
    // One struct cmsghdr: length (8), SOL_SOCKET = 1 (4), SCM_RIGHTS = 1 (4), the descriptors;
    // padded to 8.
    let mut control = [0; 4 + MAX_SENT_FDS.next_multiple_of(2)];
    control[..4].copy_from_slice(&[16 + 4 * fds.len() as u32, 0, 1, 1]);
    let words = 4 + fds.len().next_multiple_of(2);
    let control = control.get_mut(..words).ok_or(Errno::TOO_BIG)?;
    for (word, fd) in control[4..].iter_mut().zip(fds) {
        *word = *fd as u32;
    }
    send_control(socket, message, control)
}

/// Sends one message with one descriptor.
pub fn send_one(socket: Fd, message: &[u8], fd: Fd) -> Result<()> {
    // One struct cmsghdr with one descriptor; see `send_with`.
    let mut control = [20u32, 0, 1, 1, fd as u32, 0];
    send_control(socket, message, &mut control)
}

/// Sends one message without descriptors.
pub fn send(socket: Fd, message: &[u8]) -> Result<()> {
    send_control(socket, message, &mut [])
}

/// Like [`send`], without waiting for room.
pub fn try_send(socket: Fd, message: &[u8]) -> Result<()> {
    send_flagged(socket, message, &mut [], MSG_DONTWAIT)
}

const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;

fn send_control(socket: Fd, message: &[u8], control: &mut [u32]) -> Result<()> {
    send_flagged(socket, message, control, 0)
}

fn send_flagged(socket: Fd, message: &[u8], control: &mut [u32], flags: usize) -> Result<()> {
    let mut iov = IoVec { base: message.as_ptr().cast_mut(), len: message.len() };
    let header = MessageHeader {
        name: 0,
        name_len: 0,
        iov: &raw mut iov,
        iov_len: 1,
        control: control.as_mut_ptr().cast(),
        control_len: size_of_val(control),
        flags: 0,
    };
    sys!(sendmsg, socket, &raw const header, MSG_NOSIGNAL | flags).map(drop)
}

/// Limits the time that a process waits for a message. The limit belongs to the socket, so it
/// applies to all processes that share it.
pub fn set_receive_timeout(socket: Fd, seconds: u64) -> Result<()> {
    let timeout = [seconds, 0];
    // SOL_SOCKET, SO_RCVTIMEO
    sys!(setsockopt, socket, 1, 20, timeout.as_ptr(), 16).map(drop)
}

/// Maximum number of descriptors in one message.
pub const MAX_FDS: usize = 5;

/// Receives one message with its descriptors. Returns its length and their count.
///
/// An empty message means that the other side has closed the socket, and `AGAIN` that none arrived
/// in time. The kernel wakes one of the processes that wait for a message.
pub fn receive(socket: Fd, buffer: &mut [u8], fds: &mut [Fd; MAX_FDS]) -> Result<(usize, usize)> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut iov = IoVec { base: buffer.as_mut_ptr(), len: buffer.len() };
    let mut header = MessageHeader {
        name: 0,
        name_len: 0,
        iov: &raw mut iov,
        iov_len: 1,
        control: control.0.as_mut_ptr(),
        control_len: 64,
        flags: 0,
    };
    // MSG_CMSG_CLOEXEC
    let len = loop {
        match sys!(recvmsg, socket, &raw mut header, 0x4000_0000) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    // One struct cmsghdr: length (8), SOL_SOCKET = 1 (4), SCM_RIGHTS = 1 (4), the descriptors.
    let word = |at: usize| {
        u32::from_le_bytes([control.0[at], control.0[at + 1], control.0[at + 2], control.0[at + 3]])
    };
    let mut count = 0;
    if header.control_len >= 16 && word(8) == 1 && word(12) == 1 {
        count = ((word(0) as usize).saturating_sub(16) / 4).min(MAX_FDS);
        for (at, fd) in fds.iter_mut().enumerate().take(count) {
            *fd = word(16 + at * 4) as Fd;
        }
    }
    // MSG_TRUNC | MSG_CTRUNC
    if header.flags & 0x28 != 0 {
        return Err(Errno::TOO_BIG);
    }
    Ok((len, count))
}
