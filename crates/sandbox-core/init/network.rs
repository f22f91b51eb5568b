//! The session's network: listeners of the host inside the session's network namespace.
//!
//! The namespace has a loopback device and nothing else, which is the boundary. What follows only
//! brings connections to the host; a packet that it misses goes nowhere.
//!
//! 1. A local route makes every address one of the loopback device. Packets to it come back into
//!    the namespace.
//! 2. A rule of the packet filter assigns each new TCP connection to one listener, except those to
//!    the loopback's own addresses. The local address of an accepted socket is the destination.
//! 3. A socket receives queries for names, whichever server they are for.
//!
//! The listeners go to the host, and init closes its copies before it can fork. So no process of
//! the session ever has one.
//!
//! # An attacker inside
//! Commands have no capability, so they cannot change routes and rules. They cannot set
//! `IP_TRANSPARENT`, open a raw socket, or bind a port below 1024. With the route they can bind any
//! address, and so deceive their own session, and no other. The socket to the packet filter is the
//! only one of its kind. Commands cannot open another, because init's filter denies that, and
//! workers close it. Init closes it when the network opens, and drops the capabilities for
//! privileged ports and raw sockets. It keeps `CAP_NET_ADMIN`, without which it cannot tell the
//! Unix sockets of the session from those of the host (see `sockets`).

mod packet_filter;

use crate::reader::Reader;
use crate::sys::{
    self, Errno, Fd, Listening, Local, MAX_SENT_FDS, NetlinkMessages, Result, Socket,
};
use crate::tier::Tier;
use crate::wire;

/// Address beside that of the loopback. Without it `getaddrinfo(3)` with `AI_ADDRCONFIG` finds no
/// IPv4 in the namespace. The range is for tests of network devices (RFC 2544).
const OWN_ADDRESS: [u8; 4] = [198, 18, 0, 1];
const DNS_PORT: u16 = 53;
/// Index of the loopback device in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The network of a session that is not open yet, or was opened.
pub struct Network {
    /// Socket to the packet filter; an error if the kernel has none, or if it is closed.
    filter: Result<Fd>,
    /// The network can still be opened.
    is_available: bool,
}

/// A failed step of the capture.
type Failed = (u32, Errno);

impl Network {
    /// Opens the socket that a later request needs.
    pub fn prepare(tier: &Tier) -> Self {
        match tier {
            Tier::Namespaces { .. } => Self { filter: sys::netfilter_socket(), is_available: true },
            Tier::Landlock(_) => Self { filter: Err(Errno::INVAL), is_available: false },
        }
    }

    /// Closes what only init needs.
    pub fn close_in_worker(&self) {
        if let Ok(filter) = self.filter {
            sys::close(filter);
        }
    }

    /// Opens the listeners, and answers with them.
    pub fn open(&mut self, host: Fd, mut request: Reader<'_>, secret: [u64; 2]) {
        let errno = match self.try_open(&mut request, secret) {
            Ok(opened) => match opened.send(host) {
                Ok(()) => return,
                Err(errno) => errno,
            },
            Err(errno) => errno,
        };
        let _ = sys::send(host, &errno.0.to_le_bytes());
    }

    fn try_open(&mut self, request: &mut Reader<'_>, secret: [u64; 2]) -> Result<HandedOver> {
        let best = request.u32()?;
        if !self.is_available {
            return Err(Errno::ALREADY);
        }
        let mut opened = HandedOver::new(open_proxy(secret)?);
        let filter = core::mem::replace(&mut self.filter, Err(Errno::ALREADY));
        self.is_available = false;
        let captured = opened.capture(best, filter, request, secret);
        if let Err(failed) = captured {
            opened.failed = Some(failed);
        }
        if let Ok(filter) = filter {
            sys::close(filter);
        }
        sys::drop_network_capabilities()?;
        Ok(opened)
    }
}

/// Opens the listener of the proxy. A command may have taken the usual port.
fn open_proxy(secret: [u64; 2]) -> Result<Socket> {
    let open = |port| sys::listen(Local::Loopback, port, Listening::Plain, secret);
    match open(wire::PROXY_PORT) {
        Err(Errno::ADDRINUSE) => open(0),
        other => other,
    }
}

/// Listeners for the host, and a report of their capture.
struct HandedOver {
    capture: u32,
    flags: u32,
    /// The first step that failed, for which the capture is not the best one.
    failed: Option<Failed>,
    proxy: Socket,
    dns: Option<Socket>,
    /// One for all ports, or one for each of `ports`.
    listeners: [Option<Socket>; wire::MAX_PORTS],
    ports: [u32; wire::MAX_PORTS],
    count: usize,
}

impl HandedOver {
    fn new(proxy: Socket) -> Self {
        Self {
            capture: wire::CAPTURE_VARIABLES,
            flags: 0,
            failed: None,
            proxy,
            dns: None,
            listeners: [const { None }; wire::MAX_PORTS],
            ports: [0; wire::MAX_PORTS],
            count: 0,
        }
    }

    /// Adds listeners for the best capture that the host wants and the kernel can do. Returns the
    /// reason for a lesser one that the host would take too.
    fn capture(
        &mut self,
        best: u32,
        filter: Result<Fd>,
        ports: &mut Reader<'_>,
        secret: [u64; 2],
    ) -> core::result::Result<(), Failed> {
        if best <= wire::CAPTURE_VARIABLES {
            return Ok(());
        }
        let at = |step| move |errno| (step, errno);
        add_address().map_err(at(wire::CAPTURE_STEP_ADDRESS))?;
        add_route(AF_INET).map_err(at(wire::CAPTURE_STEP_ROUTES))?;
        let _ = remove_loopback_source();
        let has_ipv6 = add_route(AF_INET6).is_ok();
        self.flags = if has_ipv6 { wire::NETWORK_HAS_IPV6 } else { 0 };
        let dns = sys::receive_datagrams(DNS_PORT).map_err(at(wire::CAPTURE_STEP_DNS))?;
        let mut captured = Ok(());
        if best == wire::CAPTURE_EVERY_PORT {
            match listen_to_all(filter, has_ipv6, secret) {
                Ok(listener) => {
                    (self.capture, self.dns) = (wire::CAPTURE_EVERY_PORT, Some(dns));
                    self.listeners[0] = Some(listener);
                    return Ok(());
                }
                Err(failed) => captured = Err(failed),
            }
        }
        while let Ok(port) = ports.u32() {
            let listener = sys::listen(Local::Any, port as u16, Listening::Plain, secret);
            match (listener, self.listeners.get_mut(self.count)) {
                (Ok(listener), Some(place)) => {
                    *place = Some(listener);
                    self.ports[self.count] = port;
                    self.count += 1;
                }
                // A command listens on the port. The host sees that it is not captured.
                (Err(Errno::ADDRINUSE), _) => {}
                (Err(errno), _) => {
                    captured = captured.and(Err((wire::CAPTURE_STEP_LISTENER, errno)));
                    break;
                }
                (_, None) => break,
            }
        }
        if self.count > 0 {
            (self.capture, self.dns) = (wire::CAPTURE_PORTS, Some(dns));
        }
        captured
    }

    /// Sends the listeners. They are closed here afterwards.
    fn send(self, host: Fd) -> Result<()> {
        let mut message = [0; wire::NETWORK_ANSWER_BYTES + 4 * wire::MAX_PORTS];
        let (step, Errno(errno)) = self.failed.unwrap_or((0, Errno(0)));
        let ports = if self.capture == wire::CAPTURE_PORTS { self.count } else { 0 };
        let words = [0, self.capture, self.flags, step, errno as u32].into_iter();
        for (place, word) in message.chunks_exact_mut(4).zip(words.chain(self.ports)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut fds = [-1; MAX_SENT_FDS];
        let dns = self.dns.iter();
        // After a failure there may be listeners without a capture.
        let is_captured = self.capture != wire::CAPTURE_VARIABLES;
        let listeners = self.listeners.iter().flatten().filter(|_| is_captured);
        let mut count = 0;
        let sockets = core::iter::once(&self.proxy).chain(dns).chain(listeners);
        for (place, socket) in fds.iter_mut().zip(sockets) {
            *place = socket.fd();
            count += 1;
        }
        let length = wire::NETWORK_ANSWER_BYTES + 4 * ports;
        sys::send_with(host, &message[..length], &fds[..count])
    }
}

/// Opens a listener for all ports, and assigns every connection to it.
fn listen_to_all(
    filter: Result<Fd>,
    has_ipv6: bool,
    secret: [u64; 2],
) -> core::result::Result<Socket, Failed> {
    let rules_failed = |errno| (wire::CAPTURE_STEP_RULES, errno);
    let filter = filter.map_err(rules_failed)?;
    let port = wire::TRANSPARENT_PORT;
    let listener = sys::listen(Local::Any, port, Listening::Transparent, secret)
        .map_err(|errno| (wire::CAPTURE_STEP_LISTENER, errno))?;
    let family = if has_ipv6 { packet_filter::INET } else { packet_filter::IPV4 };
    packet_filter::batch(family, port).send(filter).map_err(rules_failed)?;
    Ok(listener)
}

/// Begins to connect to a port of the session's loopback, and answers with the socket. The host
/// waits for the connection, so init never does.
pub fn dial(host: Fd, mut request: Reader<'_>, secret: [u64; 2]) {
    let mut dial = || {
        let port = u16::try_from(request.u32()?).map_err(|_| Errno::INVAL)?;
        let local = match request.u32()? {
            wire::DIAL_IPV4 => Local::Loopback,
            wire::DIAL_IPV6 => Local::Loopback6,
            _ => return Err(Errno::INVAL),
        };
        sys::connect_loopback(local, port, secret)
    };
    let _ = match dial() {
        Ok(socket) => sys::send_with(host, &[0; 4], &[socket.fd()]),
        Err(errno) => sys::send(host, &errno.0.to_le_bytes()),
    };
}

/// Adds an address to the loopback device (`rtnetlink(7)`).
fn add_address() -> Result<()> {
    const RTM_NEWADDR: u16 = 20;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let [a, b, c, d] = LOOPBACK_INDEX.to_ne_bytes();
    // struct ifaddrmsg: family, length of the prefix, flags, scope, index
    let fixed = [AF_INET, 32, 0, 0, a, b, c, d];
    let mut messages = NetlinkMessages::new();
    messages.create(RTM_NEWADDR, &fixed, |message| {
        message.attribute(IFA_LOCAL, &OWN_ADDRESS);
        message.attribute(IFA_ADDRESS, &OWN_ADDRESS);
    });
    sys::change_routes(&messages)
}

/// Removes the route that gives every connection to `127.0.0.0/8` the source `127.0.0.1`. The local
/// route for every address then gives it its destination as the source. So a plain answer of the
/// socket for DNS comes from `127.0.0.53`, if that was asked.
fn remove_loopback_source() -> Result<()> {
    const RTA_DST: u16 = 1;
    let fixed = route(AF_INET, 8, RTPROT_KERNEL);
    let mut messages = NetlinkMessages::new();
    messages.create(RTM_DELROUTE, &fixed, |message| {
        message.attribute(RTA_DST, &[127, 0, 0, 0]);
        message.attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    });
    sys::change_routes(&messages)
}

/// Makes every address one of the loopback device (`rtnetlink(7)`).
fn add_route(family: u8) -> Result<()> {
    let mut messages = NetlinkMessages::new();
    messages.create(RTM_NEWROUTE, &route(family, 0, RTPROT_BOOT), |message| {
        message.attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    });
    sys::change_routes(&messages)
}

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTA_OIF: u16 = 4;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_BOOT: u8 = 3;

/// Returns the `struct rtmsg` of a local route.
fn route(family: u8, prefix: u8, protocol: u8) -> [u8; 12] {
    // RT_TABLE_LOCAL, RT_SCOPE_HOST, RTN_LOCAL
    let (table, scope, kind) = (255, 254, 2);
    // family, lengths of two prefixes, service, table, protocol, scope, type, flags
    [family, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}
