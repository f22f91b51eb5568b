//! The network of a session: listeners of the host inside the session's namespace.

mod attacks;
mod datagrams;
mod fallbacks;
mod openings;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use policy::Policy;
use sandbox_core::internal::BestCapture;
use sandbox_core::{Capture, NativeSandbox, NetworkListeners, Sandbox};
use testkit::skipped;

use crate::fixture::{Fixture, fixture, spec, without_namespaces};

/// A session with a network.
struct WithNetwork {
    _fixture: Fixture,
    sandbox: NativeSandbox,
    listeners: NetworkListeners,
}

impl WithNetwork {
    async fn open(best: BestCapture, ports: &[u16]) -> Self {
        let (fixture, sandbox) = without_network(best);
        let listeners = sandbox.open_network(ports).await.unwrap();
        Self { _fixture: fixture, sandbox, listeners }
    }

    /// Opens a network that captures every port. Returns `None` on a tier or a kernel without.
    async fn captured() -> Option<Self> {
        if without_namespaces() {
            return None;
        }
        let opened = Self::open(BestCapture::EveryPort, &[]).await;
        if opened.listeners.capture == Capture::EveryPort {
            assert_eq!(opened.listeners.why, None);
            return Some(opened);
        }
        skipped("the capture of every port", &opened.listeners.why.unwrap_or_default());
        None
    }

    async fn text(&self, command: &str) -> String {
        text(&self.sandbox, command).await
    }

    fn transparent(&self) -> &TcpListener {
        self.listeners.transparent.as_ref().unwrap()
    }
}

/// Opens a session whose network is not open.
fn without_network(best: BestCapture) -> (Fixture, NativeSandbox) {
    let fixture = fixture();
    let policy = Policy::session(&fixture.dir).home(&fixture.root).build().unwrap();
    let sandbox = NativeSandbox::builder(&policy, &fixture.dir).best_capture(best).open().unwrap();
    (fixture, sandbox)
}

async fn text(sandbox: &NativeSandbox, command: &str) -> String {
    let output = sandbox.exec(spec(command)).await.unwrap();
    let text = [&output.stdout.bytes[..], &output.stderr.bytes].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Accepts connections in a thread, and answers each with the address that the command asked for.
fn answer_with_destination(listener: &TcpListener) {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut accepted, _)) = listener.accept() {
            let destination = accepted.local_addr().unwrap();
            let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
            let _ = accepted.write_all(format!("{destination}\n").as_bytes());
            let _ = accepted.shutdown(Shutdown::Write);
            // Data that is never read would make the kernel reset the connection.
            let _ = accepted.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = accepted.read(&mut [0; 64]);
        }
    });
}

fn perl(script: &str) -> String {
    format!("perl -e 'use Socket qw(:all); {script}'")
}

/// Returns the family of an address, and an expression of perl for the address with a port.
fn packed(address: &str, port: u16) -> (&'static str, String) {
    let (family, pack) = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(_) => ("AF_INET", "pack_sockaddr_in"),
        IpAddr::V6(_) => ("AF_INET6", "pack_sockaddr_in6"),
    };
    (family, format!("{pack}({port}, inet_pton({family}, \"{address}\"))"))
}

/// Connects, and prints what the other side says, or the error.
fn reach(address: &str, port: u16) -> String {
    let (family, to) = packed(address, port);
    perl(&format!(
        "socket(my $s, {family}, SOCK_STREAM, 0) or die $!; \
         print connect($s, {to}) ? <$s> : $!"
    ))
}

#[tokio::test]
async fn every_tcp_connection_reaches_the_listener_with_its_destination() {
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.transparent());
    let mut destinations = vec![
        ("93.184.216.34", 80),
        ("93.184.216.34", 5432),
        ("1.2.3.4", 65535),
        ("198.18.0.1", 1),
        ("198.18.0.1", 3128),
        ("198.18.0.7", 1),
        ("169.254.169.254", 80),
        ("240.0.0.1", 443),
        ("10.0.0.2", 22),
    ];
    if session.listeners.has_ipv6 {
        destinations.extend([("2606:2800:220:1::1", 8443), ("fd00::7", 22), ("::2", 80)]);
    }
    for (address, port) in destinations {
        let expected = SocketAddr::new(address.parse().unwrap(), port).to_string();
        assert_eq!(session.text(&reach(address, port)).await, expected);
    }
    let mapped = session.text(&reach("::ffff:93.184.216.34", 80)).await;
    assert_eq!(mapped, "93.184.216.34:80");
    for address in ["224.0.0.1", "255.255.255.255", "fe80::1"] {
        let found = session.text(&reach(address, 80)).await;
        assert!(!found.contains(address), "{found}");
    }
}

#[tokio::test]
async fn the_loopback_stays_inside() {
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.transparent());
    for (address, port) in [("127.0.0.1", 7777), ("127.5.5.5", 80), ("0.0.0.0", 80), ("::1", 80)] {
        assert_eq!(session.text(&reach(address, port)).await, "Connection refused", "{address}");
    }
    // A command that asks for the listener itself is seen by the address.
    assert_eq!(session.text(&reach("127.0.0.1", 1)).await, "127.0.0.1:1");
    // Servers of the session work.
    let server = "socket(my $l, AF_INET, SOCK_STREAM, 0); setsockopt($l, SOL_SOCKET, SO_REUSEADDR, \
                  1); bind($l, pack_sockaddr_in(8080, INADDR_ANY)) or die $!; listen($l, 5); \
                  socket(my $s, AF_INET, SOCK_STREAM, 0); \
                  connect($s, pack_sockaddr_in(8080, INADDR_LOOPBACK)) or die $!; \
                  accept(my $a, $l); syswrite($a, \"own\\n\"); print scalar(<$s>)";
    assert_eq!(session.text(&perl(server)).await, "own");
}

#[tokio::test]
async fn programs_reach_the_proxy_and_any_other_host() {
    let Some(session) = WithNetwork::captured().await else { return };
    let proxy = session.listeners.proxy.local_addr().unwrap();
    assert_eq!(proxy.to_string(), "127.0.0.1:3128");
    answer_with_destination(&session.listeners.proxy);
    answer_with_destination(session.transparent());
    assert_eq!(session.text(&reach("127.0.0.1", 3128)).await, "127.0.0.1:3128");
    // Bash, and a program that connects without waiting.
    let bash = "exec 3<>/dev/tcp/192.0.2.7/443; cat <&3";
    assert_eq!(session.text(bash).await, "192.0.2.7:443");
    let script = "use IO::Select; socket(my $s, AF_INET, SOCK_STREAM | 2048, 0); \
                  connect($s, pack_sockaddr_in(9, inet_aton(\"192.0.2.8\"))); \
                  IO::Select->new($s)->can_read(9) or die; sysread($s, my $got, 99); print $got";
    assert_eq!(session.text(&perl(script)).await, "192.0.2.8:9");
}
