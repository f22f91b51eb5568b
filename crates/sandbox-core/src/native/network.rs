//! The listeners of a session's network, and connections into it.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::connection::Connection;
use super::exchange::{Answer, exchange};
use super::wire;
use crate::sandbox::{Capture, CaptureReport};

/// Ports that are captured without the packet filter, besides those that the caller names: SSH,
/// DNS, HTTP and HTTPS.
const USUAL_PORTS: [u16; 4] = [22, 53, 80, 443];
/// Maximum time of a connection into the session. A full queue of a listener is the only reason to
/// wait.
const DIAL_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The listeners of one session's network.
///
/// They belong to the session's network namespace, and every connection that they accept is one of
/// its commands. The namespace lives until they are dropped, even if the sandbox was closed before.
///
/// The sockets are in blocking mode.
#[derive(Debug)]
#[non_exhaustive]
pub struct NetworkListeners {
    /// Listener for programs that know of a proxy, on the session's `127.0.0.1`. The port is 3128,
    /// unless a command had taken it.
    pub proxy: TcpListener,
    /// Listener for captured connections, with [`Capture::EveryPort`]. The local address of an
    /// accepted socket is the destination that the command asked for. One of the loopback means
    /// that the command has found this listener itself.
    pub transparent: Option<TcpListener>,
    /// Listeners for captured connections, with [`Capture::Ports`], in the order of the ports.
    /// Accepted sockets are like those of `transparent`.
    pub ports: Vec<TcpListener>,
    /// Receiver of queries for names, unless the capture is [`Capture::Variables`].
    ///
    /// A plain answer reaches the command if it asked an IPv4 server. An answer for an IPv6 server
    /// must name that server's address as its source: the socket reports it with each query
    /// (`IPV6_RECVPKTINFO`), and accepts it with each answer (`IPV6_PKTINFO`).
    pub dns: Option<UdpSocket>,
    /// The capture that these listeners implement.
    pub capture: Capture,
    /// Connections to IPv6 addresses are captured too. Otherwise they fail at once.
    pub has_ipv6: bool,
    /// The reason for a capture other than [`Capture::EveryPort`], with a remedy.
    pub why: Option<String>,
}

/// Errors of a session's network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Sessions of this tier have no network namespace of their own, so no listener would belong to
    /// one session alone.
    #[error(
        "sessions without namespaces have no network; use the engine `native` (`Tier::Namespaces`)"
    )]
    NoNamespace,
    /// The network was opened before.
    #[error("the network of the session was opened before")]
    AlreadyOpen,
    /// The session has ended.
    #[error("the session has ended: {reason}")]
    Ended {
        /// The reason.
        reason: &'static str,
    },
    /// No connection to a port of the session is possible.
    #[error("cannot connect to port {port} of the session")]
    Dial {
        /// The port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// An operation failed, for example because descriptors ran out.
    #[error("cannot {operation} for the network")]
    Host {
        /// The failed operation.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Kinds of [`NetworkError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkErrorKind {
    /// The tier has no network.
    Unsupported,
    /// The network is open already.
    AlreadyOpen,
    /// The session has ended.
    Ended,
    /// No command listens on the port, or its queue is full.
    Dial,
    /// The host is short of a resource.
    Host,
}

impl NetworkError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> NetworkErrorKind {
        match self {
            Self::NoNamespace => NetworkErrorKind::Unsupported,
            Self::AlreadyOpen => NetworkErrorKind::AlreadyOpen,
            Self::Ended { .. } => NetworkErrorKind::Ended,
            Self::Dial { .. } => NetworkErrorKind::Dial,
            Self::Host { .. } => NetworkErrorKind::Host,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            // A command may begin to listen.
            Self::Dial { .. } => true,
            // Init hands the listeners over once.
            _ => false,
        }
    }

    pub(super) fn host(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host { operation, source }
    }
}

/// The best capture that a session may have. Tests select a lesser one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub enum BestCapture {
    /// The best that the kernel can do.
    #[default]
    EveryPort,
    /// The capture of a kernel without the packet filter.
    Ports,
    /// The capture of a kernel that denies the routes too.
    Variables,
}

impl BestCapture {
    fn number(self) -> u32 {
        match self {
            Self::EveryPort => wire::CAPTURE_EVERY_PORT,
            Self::Ports => wire::CAPTURE_PORTS,
            Self::Variables => wire::CAPTURE_VARIABLES,
        }
    }
}

/// Asks init for the listeners. `ports` are captured if not every port can be.
pub(super) fn open(
    updates: &OwnedFd,
    best: BestCapture,
    ports: &[u16],
) -> io::Result<NetworkListeners> {
    let mut request = wire::REQUEST_NETWORK.to_le_bytes().to_vec();
    request.extend(best.number().to_le_bytes());
    let mut wanted = USUAL_PORTS.to_vec();
    for port in ports {
        if *port != 0 && !wanted.contains(port) {
            wanted.push(*port);
        }
    }
    wanted.truncate(wire::MAX_PORTS);
    request.extend(wanted.iter().flat_map(|port| u32::from(*port).to_le_bytes()));
    parse(exchange(updates, &request, &[])?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(Answer { words, fds }: Answer) -> Option<NetworkListeners> {
    let [capture, flags, step, errno, ports @ ..] = &words[..] else { return None };
    let mut fds = fds.into_iter();
    let proxy = TcpListener::from(fds.next()?);
    let ports: Vec<u16> = ports.iter().map_while(|port| u16::try_from(*port).ok()).collect();
    let is_captured = *capture != wire::CAPTURE_VARIABLES;
    let dns = if is_captured { Some(UdpSocket::from(fds.next()?)) } else { None };
    let mut listeners: Vec<_> = fds.map(TcpListener::from).collect();
    let (capture, transparent) = match *capture {
        wire::CAPTURE_EVERY_PORT => (Capture::EveryPort, Some(listeners.pop()?)),
        wire::CAPTURE_PORTS if ports.len() == listeners.len() => (Capture::Ports(ports), None),
        wire::CAPTURE_VARIABLES => (Capture::Variables, None),
        _ => return None,
    };
    let has_ipv6 = is_captured && flags & wire::NETWORK_HAS_IPV6 != 0;
    let why = (capture != Capture::EveryPort).then(|| reason(*step, errno.cast_signed()));
    Some(NetworkListeners { proxy, transparent, ports: listeners, dns, capture, has_ipv6, why })
}

impl NetworkListeners {
    /// Returns the report on the capture.
    pub fn report(&self) -> CaptureReport {
        CaptureReport { capture: Some(self.capture.clone()), why: self.why.clone() }
    }
}

/// Returns the reason for a lesser capture, with a remedy.
fn reason(step: u32, errno: i32) -> String {
    let (step, remedy) = match step {
        wire::CAPTURE_STEP_ADDRESS => ("add an address", KERNEL),
        wire::CAPTURE_STEP_ROUTES => ("route addresses to the loopback", KERNEL),
        wire::CAPTURE_STEP_DNS => ("open the socket for DNS", KERNEL),
        wire::CAPTURE_STEP_LISTENER => ("listen for captured connections", KERNEL),
        wire::CAPTURE_STEP_RULES => (
            "add rules to the packet filter",
            "load its modules with `modprobe -a nf_tables nft_tproxy`, or use a kernel with \
             CONFIG_NFT_TPROXY",
        ),
        _ => return "the caller wanted no more".to_owned(),
    };
    format!("cannot {step}: {}; {remedy}", io::Error::from_raw_os_error(errno))
}

const KERNEL: &str = "check that no security module of the host denies that";

/// Connects to a port of the session's loopback.
pub(super) fn dial(connection: &Connection, port: u16) -> Result<TcpStream, NetworkError> {
    let dial = |version| {
        let asked = connection.ask(|updates| begin_to_dial(updates, port, version))?;
        asked.and_then(finish).map_err(|source| NetworkError::Dial { port, source })
    };
    match dial(wire::DIAL_IPV4) {
        Err(NetworkError::Dial { source, .. })
            if source.kind() == io::ErrorKind::ConnectionRefused =>
        {
            dial(wire::DIAL_IPV6).map_err(|error| match error {
                // The first error says more than that of a machine without IPv6.
                NetworkError::Dial { port, .. } => NetworkError::Dial { port, source },
                other => other,
            })
        }
        other => other,
    }
}

/// Asks init for a socket that it has begun to connect.
fn begin_to_dial(updates: &OwnedFd, port: u16, version: u32) -> io::Result<OwnedFd> {
    let request = [wire::REQUEST_DIAL, port.into(), version].map(u32::to_le_bytes);
    let answer = exchange(updates, request.as_flattened(), &[])?;
    answer.fds.into_iter().next().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Waits until such a socket is connected.
fn finish(socket: OwnedFd) -> io::Result<TcpStream> {
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&DIAL_TIMEOUT)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
