//! Internet sockets of the session's network namespace (`ip(7)`, `ipv6(7)`).

use super::{Errno, Fd, O_CLOEXEC, O_NONBLOCK, Result, close};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: usize = 1;
const SOCK_DGRAM: usize = 2;
const SOL_SOCKET: usize = 1;
const SOL_IP: usize = 0;
const SOL_IPV6: usize = 41;

/// Maximum number of captured connections that wait for the host. The kernel keeps what a command
/// has sent on each, so more would let it take more memory of the machine.
const BACKLOG: usize = 512;

/// The addresses on which a socket receives.
#[derive(Clone, Copy)]
pub enum Local {
    /// `127.0.0.1`.
    Loopback,
    /// `::1`.
    Loopback6,
    /// Every address.
    Any,
}

/// An open socket that is closed unless it is taken.
pub struct Socket(Fd);

impl Socket {
    fn new(family: u16, kind: usize) -> Result<Self> {
        sys!(socket, family, kind | O_CLOEXEC, 0).map(|fd| Self(fd as Fd))
    }

    pub fn fd(&self) -> Fd {
        self.0
    }

    fn enable(&self, level: usize, option: usize) -> Result<()> {
        self.set(level, option, 1)
    }

    fn set(&self, level: usize, option: usize, value: u32) -> Result<()> {
        sys!(setsockopt, self.0, level, option, &raw const value, 4).map(drop)
    }

    fn bind(&self, address: &Address) -> Result<()> {
        sys!(bind, self.0, address.bytes.as_ptr(), address.len).map(drop)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
struct Address {
    bytes: [u8; 28],
    len: usize,
}

impl Address {
    fn new(family: u16, local: Local, port: u16) -> Self {
        let mut bytes = [0; 28];
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        match local {
            Local::Loopback => bytes[4..8].copy_from_slice(&[127, 0, 0, 1]),
            Local::Loopback6 => bytes[23] = 1,
            Local::Any => {}
        }
        Self { bytes, len: if family == AF_INET { 16 } else { 28 } }
    }
}

/// Kind of a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// On its own address.
    Plain,
    /// On every address to which a rule of the packet filter assigns it. This needs
    /// `CAP_NET_ADMIN`.
    Transparent,
}

/// Opens a TCP listener. The secret lets the call through the filter of this process.
///
/// No other process can share the port: `SO_REUSEADDR` permits that only between sockets that do
/// not listen.
pub fn listen(
    local: Local,
    port: u16,
    listening: Listening,
    [first, second]: [u64; 2],
) -> Result<Socket> {
    let (socket, family) = open_wide(local, SOCK_STREAM)?;
    // SO_REUSEADDR
    socket.enable(SOL_SOCKET, 2)?;
    if listening == Listening::Transparent {
        // IP_TRANSPARENT, IPV6_TRANSPARENT
        socket.enable(SOL_IP, 19)?;
        if family == AF_INET6 {
            socket.enable(SOL_IPV6, 75)?;
        }
    }
    socket.bind(&Address::new(family, local, port))?;
    sys!(listen, socket.0, BACKLOG, 0, first, second)?;
    Ok(socket)
}

/// Opens a UDP socket on a port of every address, from each of which it can answer.
///
/// It does not have `SO_REUSEADDR`, with which another process could share the port.
pub fn receive_datagrams(port: u16) -> Result<Socket> {
    let (socket, family) = open_wide(Local::Any, SOCK_DGRAM)?;
    // IP_PKTINFO
    socket.enable(SOL_IP, 8)?;
    if family == AF_INET6 {
        // IPV6_RECVPKTINFO, and IPV6_FREEBIND: the kernel knows IPv6 addresses by a route only, and
        // requires the option in order to answer from one of them.
        socket.enable(SOL_IPV6, 49)?;
        socket.enable(SOL_IPV6, 78)?;
    }
    socket.bind(&Address::new(family, Local::Any, port))?;
    Ok(socket)
}

/// Opens a socket for both versions of the protocol. On a machine without IPv6 it has the older
/// one.
fn open_wide(local: Local, kind: usize) -> Result<(Socket, u16)> {
    if let Local::Loopback = local {
        return Socket::new(AF_INET, kind).map(|socket| (socket, AF_INET));
    }
    match Socket::new(AF_INET6, kind) {
        Ok(socket) => {
            // IPV6_V6ONLY
            socket.set(SOL_IPV6, 26, 0)?;
            Ok((socket, AF_INET6))
        }
        Err(Errno::AFNOSUPPORT) => Socket::new(AF_INET, kind).map(|socket| (socket, AF_INET)),
        Err(errno) => Err(errno),
    }
}

/// Begins to connect to a port of the loopback, without waiting. The secret lets the call through
/// the filter of this process.
pub fn connect_loopback(local: Local, port: u16, [first, second]: [u64; 2]) -> Result<Socket> {
    let family = if let Local::Loopback6 = local { AF_INET6 } else { AF_INET };
    let socket = Socket::new(family, SOCK_STREAM | O_NONBLOCK)?;
    let address = Address::new(family, local, port);
    match sys!(connect, socket.0, address.bytes.as_ptr(), address.len, first, second) {
        Ok(_) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}
