//! The network of a session: listeners of the host inside the session's namespace.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};

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
        let fixture = fixture();
        let policy = Policy::session(&fixture.dir).home(&fixture.root).build().unwrap();
        let sandbox =
            NativeSandbox::builder(&policy, &fixture.dir).best_capture(best).open().unwrap();
        let listeners = sandbox.open_network(ports).await.unwrap();
        Self { _fixture: fixture, sandbox, listeners }
    }

    /// Opens a network that captures every port, or prints the reason why it does not.
    async fn captured() -> Option<Self> {
        let opened = Self::open(BestCapture::EveryPort, &[]).await;
        if opened.listeners.capture == Capture::EveryPort {
            return Some(opened);
        }
        let why = opened.listeners.why.unwrap_or_default();
        skipped("the capture of every port", &why);
        None
    }

    async fn text(&self, command: &str) -> String {
        let output = self.sandbox.exec(spec(command)).await.unwrap();
        String::from_utf8_lossy(&output.stdout.bytes).into_owned()
            + &String::from_utf8_lossy(&output.stderr.bytes)
    }
}

/// Accepts connections in a thread, and answers each with the address that the command asked for.
fn answer_with_destination(listener: &TcpListener) {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut accepted, _)) = listener.accept() {
            let destination = accepted.local_addr().unwrap();
            let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
            let _ = writeln!(accepted, "{destination}");
        }
    });
}

/// Connects with perl, and prints what the other side says, or the error.
fn reach(address: &str, port: u16) -> String {
    let (family, pack) = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(_) => ("AF_INET", "pack_sockaddr_in"),
        IpAddr::V6(_) => ("AF_INET6", "pack_sockaddr_in6"),
    };
    format!(
        "perl -e 'use Socket qw(:all); socket(my $s, {family}, SOCK_STREAM, 0) or die $!; \
         connect($s, {pack}({port}, inet_pton({family}, \"{address}\"))) \
         ? print(<$s>) : print \"$!\\n\"'"
    )
}

#[tokio::test]
async fn every_tcp_connection_reaches_the_listener_with_its_destination() {
    if without_namespaces() {
        return;
    }
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.listeners.transparent.as_ref().unwrap());
    let mut destinations = vec![
        ("93.184.216.34", 80),
        ("93.184.216.34", 5432),
        ("1.2.3.4", 65535),
        ("198.18.0.1", 1),
        ("198.18.0.7", 1),
        ("169.254.169.254", 80),
        ("240.0.0.1", 443),
        ("10.0.0.2", 22),
    ];
    if session.listeners.has_ipv6 {
        destinations.extend([("2606:2800:220:1::1", 8443), ("fd00::7", 22)]);
    }
    for (address, port) in destinations {
        let expected = SocketAddr::new(address.parse().unwrap(), port).to_string();
        assert_eq!(session.text(&reach(address, port)).await.trim(), expected);
    }
    // The loopback stays inside.
    for (address, port) in [("127.0.0.1", 7777), ("127.5.5.5", 80), ("0.0.0.0", 80), ("::1", 80)] {
        assert_eq!(session.text(&reach(address, port)).await.trim(), "Connection refused");
    }
    for address in ["224.0.0.1", "255.255.255.255", "fe80::1"] {
        let found = session.text(&reach(address, 80)).await;
        assert!(!found.contains(address), "{found}");
    }
}
