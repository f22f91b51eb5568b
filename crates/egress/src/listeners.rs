//! Listeners that a session's sandbox hands over.

use std::io;
use std::net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::error::GateError;
use crate::flow::Cut;
use crate::session::Session;
use crate::{proxy, transparent};

/// Congestion control of connections within the machine, where no packet is lost. That of the host
/// may be made for networks: BBR paces its packets, so it passes on a quarter as much. The kernel
/// always has Reno, and allows it to every user (`tcp(7)`, `tcp_allowed_congestion_control`).
const OF_THIS_MACHINE: &str = "reno";

/// The listeners of one session. Each is optional.
///
/// The sockets may belong to another network namespace. The gate makes them non-blocking.
///
/// ```
/// use std::net::{TcpListener, UdpSocket};
/// use egress::Listeners;
///
/// let listeners = Listeners::new()
///     .proxy(TcpListener::bind("127.0.0.1:0")?)
///     .dns(UdpSocket::bind("127.0.0.1:0")?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Listeners {
    proxy: Option<OwnedFd>,
    transparent: Vec<OwnedFd>,
    dns: Option<OwnedFd>,
}

impl Listeners {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a TCP listener for HTTP proxy requests and SOCKS5.
    #[must_use]
    pub fn proxy(mut self, listener: impl Into<OwnedFd>) -> Self {
        self.proxy = Some(listener.into());
        self
    }

    /// Adds a TCP listener for connections that the kernel captured, for example with `tproxy`. The
    /// local address of an accepted socket is the destination of the connection. Several calls add
    /// several listeners.
    #[must_use]
    pub fn transparent(mut self, listener: impl Into<OwnedFd>) -> Self {
        self.transparent.push(listener.into());
        self
    }

    /// Adds a UDP socket that receives DNS queries. If it reports the IPv6 address that was asked
    /// (`IPV6_RECVPKTINFO`), the answer comes from there.
    #[must_use]
    pub fn dns(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.dns = Some(socket.into());
        self
    }

    /// Registers the sockets with the runtime.
    pub(crate) fn open(self) -> Result<OpenListeners, GateError> {
        let named = |name| move |source| GateError::Listener { name, source };
        let tcp = |kind: Kind| {
            move |descriptor: OwnedFd| {
                check(&descriptor, SocketType::STREAM)?;
                let listener = StdTcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                // Connections are captured on this machine only.
                if kind == Kind::Transparent || listener.local_addr()?.ip().is_loopback() {
                    // Slower is not wrong. Accepted sockets inherit it.
                    let _ = sockopt::set_tcp_congestion(&listener, OF_THIS_MACHINE);
                }
                TcpListener::from_std(listener)
            }
        };
        let udp = |descriptor: OwnedFd| {
            check(&descriptor, SocketType::DGRAM)?;
            let socket = StdUdpSocket::from(descriptor);
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        Ok(OpenListeners {
            proxy: self.proxy.map(tcp(Kind::Proxy)).transpose().map_err(named("proxy"))?,
            transparent: self
                .transparent
                .into_iter()
                .map(tcp(Kind::Transparent))
                .collect::<Result<_, _>>()
                .map_err(named("transparent"))?,
            dns: self.dns.map(udp).transpose().map_err(named("dns"))?,
        })
    }
}

fn check(descriptor: &OwnedFd, expected: SocketType) -> io::Result<()> {
    let is_stream = expected == SocketType::STREAM;
    let actual = sockopt::socket_type(descriptor.as_fd())?;
    if actual != expected || is_stream != sockopt::socket_acceptconn(descriptor.as_fd())? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket has another kind"));
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct OpenListeners {
    pub(crate) proxy: Option<TcpListener>,
    pub(crate) transparent: Vec<TcpListener>,
    pub(crate) dns: Option<UdpSocket>,
}

/// Time between attempts to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Kind of a TCP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Proxy,
    Transparent,
}

/// Accepts connections until the future is dropped, and closes them then. Beyond the limits, one
/// accepted connection waits, and further ones stay in the backlog of the kernel.
pub(crate) async fn accept(session: Arc<Session>, listener: TcpListener, kind: Kind) {
    let mut tasks = JoinSet::new();
    let of_session = Arc::clone(&session.connections);
    let of_process = Arc::clone(&session.shared.connections);
    let max = session.shared.limits.max_connections;
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(target: "egress", %error, "a connection cannot be accepted");
                // The process may be out of descriptors, which only time changes.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // An idle listener holds no permit, because a process may have more listeners than permits.
        let Ok(of_session) = Arc::clone(&of_session).acquire_owned().await else { return };
        // Its own permit is not yet one of a connection.
        let own = || max.saturating_sub(session.connections.available_permits() + 1);
        let of_process = of_process.acquire(own).await;
        while tasks.try_join_next().is_some() {}
        let session = Arc::clone(&session);
        let served = async move {
            serve(&session, client, kind).await;
            drop((of_session, of_process));
        };
        tasks.spawn(served.in_current_span());
    }
}

/// Serves a connection until it ends, is cut, or is idle for too long.
async fn serve(session: &Arc<Session>, client: TcpStream, kind: Kind) {
    let cut = Arc::new(Cut::new());
    let _ = client.set_nodelay(true);
    let served = async {
        match (kind, client.local_addr()) {
            (Kind::Proxy, _) => proxy::serve(session, &cut, client).await,
            (Kind::Transparent, Ok(original)) => {
                transparent::serve(session, &cut, client, original).await;
            }
            (Kind::Transparent, Err(_)) => {}
        }
    };
    tokio::select! {
        // A tunnel that is cut resets both ends itself.
        biased;
        () = served => {}
        () = cut.ordered() => {}
        () = cut.idle(session.shared.limits.idle_timeout) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_of_this_machine_have_their_own_congestion_control() {
        let congestion = |socket: &TcpStream| sockopt::tcp_congestion(socket).unwrap();
        for listeners in [
            Listeners::new().proxy(StdTcpListener::bind("127.0.0.1:0").unwrap()),
            Listeners::new().transparent(StdTcpListener::bind("0.0.0.0:0").unwrap()),
        ] {
            let OpenListeners { proxy, transparent, .. } = listeners.open().unwrap();
            let listener = proxy.or_else(|| transparent.into_iter().next()).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert_eq!(congestion(&accepted), OF_THIS_MACHINE);
            drop(client);
        }
        let of_network = StdTcpListener::bind("0.0.0.0:0").unwrap();
        let of_host = sockopt::tcp_congestion(&of_network).unwrap();
        let open = Listeners::new().proxy(of_network).open().unwrap();
        assert_eq!(sockopt::tcp_congestion(open.proxy.unwrap()).unwrap(), of_host);
    }
}
