//! The transparent listener, in a network namespace of its own. There the addresses that stand for
//! names are local, so connections to them arrive at the listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;

use egress::{Gate, GateBuilder, Limits, Listeners, Network, NetworkEvent, Outcome, Via};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use policy::NetworkPolicy;
use secrets::{Mask, Masks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::dns::resolve;
use crate::fixture::{
    ACCESS_DENIED, Origin, exactly, hello, policy, rest, soon, usual, usual_names,
};
use crate::secure::{BOTH, H1, SecureOrigin, TOKEN, get, send, tls};

/// Set in the rerun of a test in its own network namespace.
const OWN_NETWORK: &str = "EGRESS_OWN_NETWORK";

/// An address that is local in that namespace.
const LISTENING_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

fn has_own_network(test: &str) -> bool {
    has_network_of_its_own(&format!("transparent::{test}"))
}

/// Runs the named test again in a network namespace of its own. Returns whether this is the rerun.
pub(crate) fn has_network_of_its_own(test: &str) -> bool {
    if std::env::var_os(OWN_NETWORK).is_some() {
        return true;
    }
    let script = "ip link set lo up && ip route add local 198.18.0.0/15 dev lo || exit 77; \
                  ip route add local 203.0.113.0/24 dev lo || exit 77; \
                  ip -6 route add local 2001:db8::/32 dev lo; exec \"$@\"";
    let rerun = testkit::rerun(test);
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"])
        .arg(rerun.get_program())
        .args(rerun.get_args())
        .env(OWN_NETWORK, "1")
        .output();
    match ran {
        Ok(ran) if ran.status.code() != Some(77) => testkit::assert_passed(&ran),
        _ => testkit::skipped("captured connections", "packages util-linux and iproute2"),
    }
    false
}

/// A session that receives the connections to one port of all addresses, and a server on loopback
/// with the same port.
pub(crate) struct Captured {
    pub(crate) network: Network,
    dns: SocketAddr,
    port: u16,
    trust: String,
}

impl Captured {
    pub(crate) fn open(port: u16, policy: NetworkPolicy) -> Self {
        Self::open_at(port, policy, Gate::builder())
    }

    pub(crate) fn open_at(port: u16, policy: NetworkPolicy, gate: GateBuilder) -> Self {
        let gate = gate.resolver(usual_names()).build().unwrap();
        let trust = gate.trust().authority();
        let listener = listen(Ipv4Addr::UNSPECIFIED, port).into_std().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = dns.local_addr().unwrap();
        let listeners = Listeners::new().transparent(listener).dns(dns);
        let network = gate.open(listeners, policy, Arc::new(())).unwrap();
        Self { network, dns: address, port, trust }
    }

    pub(crate) async fn connect(&self, name: &str) -> TcpStream {
        let address = resolve(self.dns, name).await;
        TcpStream::connect((address, self.port)).await.unwrap()
    }

    /// Returns the only event so far, as text.
    #[track_caller]
    fn denial(&self) -> String {
        let events = self.network.events_since(egress::EventMark::default());
        let [event] = &events[..] else { panic!("{events:?}") };
        let Outcome::Denied(denial) = &event.outcome else { panic!("{events:?}") };
        assert_eq!(event.via, Via::Transparent);
        format!("{}:{}: {denial}", event.host, event.port.unwrap())
    }
}

/// Listens beside a listener of all addresses; the kernel prefers the more specific one.
pub(crate) fn listen(address: Ipv4Addr, port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind((address, port).into()).unwrap();
    socket.listen(64).unwrap()
}

fn echo(port: u16) -> Origin {
    Origin::on(listen(Ipv4Addr::LOCALHOST, port), |mut stream, received| async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            received(&buffer[..count]);
            stream.write_all(&buffer[..count]).await.unwrap();
        }
    })
}

#[tokio::test]
async fn captured_tls_passes_or_is_refused_inside_tls() {
    if !has_own_network("captured_tls_passes_or_is_refused_inside_tls") {
        return;
    }
    let mut limits = Limits::default();
    limits.max_refused_leaves = 1;
    let session = Captured::open_at(443, usual(), Gate::builder().limits(limits));
    let origin = echo(443);
    let mut client = session.connect("allowed.test").await;
    let hello_bytes = hello("allowed.test");
    client.write_all(&hello_bytes).await.unwrap();
    assert_eq!(exactly(&mut client, hello_bytes.len()).await, hello_bytes);
    drop(client);
    let before = origin.received();
    for protocols in [H1, BOTH] {
        let client = session.connect("denied.test").await;
        let mark = session.network.mark();
        let client = tls(client, &session.trust, "denied.test", protocols).await.unwrap();
        // The event is there as soon as the client has an answer.
        let events = session.network.events_since(mark);
        assert!(matches!(events[..], [NetworkEvent { outcome: Outcome::Denied(_), .. }]));
        let answer = send(client, "denied.test", get("/", &[])).await;
        assert_eq!(answer.status(), 403);
        let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
        assert!(text.contains("Remedy: add denied.test to network.allowedDomains"), "{text}");
    }
    // What is no request is refused in the same way.
    let client = session.connect("denied.test").await;
    let mut client = tls(client, &session.trust, "denied.test", H1).await.unwrap();
    client.write_all(b"GET / HTTP/9.9\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon(client.read_to_string(&mut text)).await.unwrap();
    assert!(text.ends_with("Remedy: add denied.test to network.allowedDomains\n"), "{text}");
    // Another name in the hello, no name, and a name beyond the limit.
    for (name, named) in [
        ("denied.test", "allowed.test"),
        ("allowed.test", "denied.test"),
        ("denied.test", "192.0.2.1"),
        ("x.denied.test", "x.denied.test"),
    ] {
        let mut client = session.connect(name).await;
        client.write_all(&hello(named)).await.unwrap();
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED, "{name}");
        assert_eq!(rest(&mut client).await, "");
    }
    assert_eq!(origin.received(), before);
}

#[tokio::test]
async fn captured_tls_to_the_host_of_a_secret_is_terminated() {
    if !has_own_network("captured_tls_to_the_host_of_a_secret_is_terminated") {
        return;
    }
    let origin = SecureOrigin::echo(BOTH).await;
    let session = Captured::open_at(origin.port, usual(), origin.gate());
    let masks = origin.masks(|mask| mask);
    session.network.set_masks(&masks).unwrap();
    for protocols in [H1, BOTH] {
        let client = session.connect("allowed.test").await;
        let client = tls(client, &session.trust, "allowed.test", protocols).await.unwrap();
        let request = get("/", &[("x-key", masks.placeholder("TOKEN").unwrap())]);
        let answer = send(client, &format!("allowed.test:{}", origin.port), request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(origin.received().header("x-key"), TOKEN);
    }
}

#[tokio::test]
async fn captured_connections_of_other_protocols_pass_or_are_reset() {
    if !has_own_network("captured_connections_of_other_protocols_pass_or_are_reset") {
        return;
    }
    let session = Captured::open(5432, usual());
    let _origin = echo(5432);
    let mut client = session.connect("allowed.test").await;
    client.write_all(b"\0\0\0\x08").await.unwrap();
    assert_eq!(exactly(&mut client, 4).await, b"\0\0\0\x08");
    let mut client = session.connect("denied.test").await;
    client.write_all(b"\0\0\0\x08").await.unwrap();
    let error = soon(client.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let expected = "denied.test:5432: no entry of allowedDomains covers it";
    assert_eq!(session.denial(), expected);
}

#[tokio::test]
async fn captured_addresses_are_judged_as_addresses() {
    if !has_own_network("captured_addresses_are_judged_as_addresses") {
        return;
    }
    let session = Captured::open(5432, policy(&["127.0.0.1"], &[]));
    for (address, expected) in [
        ("203.0.113.7", "203.0.113.7:5432: no entry of allowedDomains covers it"),
        ("127.0.0.2", "127.0.0.2:5432: each session has a loopback interface of its own"),
        ("198.18.7.7", "198.18.7.7:5432: no name of the session has this address"),
    ] {
        let mark = session.network.mark();
        let mut client = TcpStream::connect((address, 5432)).await.unwrap();
        client.write_all(b"\0").await.unwrap();
        soon(client.read(&mut [0])).await.unwrap_err();
        let events = session.network.events_since(mark);
        let Outcome::Denied(denial) = &events[0].outcome else { panic!("{events:?}") };
        assert_eq!(format!("{}:5432: {denial}", events[0].host), expected);
    }
}

#[tokio::test]
async fn a_client_of_ssh_gets_the_reason_of_a_refusal() {
    if !has_own_network("a_client_of_ssh_gets_the_reason_of_a_refusal") {
        return;
    }
    // The address of the allowed name is refused too, which shows only when it is dialled.
    let session = Captured::open(22, policy(&["allowed.test"], &[]));
    for (name, reason) in [
        ("denied.test", "no entry of allowedDomains covers it; add denied.test to network.allowed"),
        ("allowed.test", "it leads to 127.0.0.1, a loopback address; add 127.0.0.1 to network."),
    ] {
        let mut client = session.connect(name).await;
        client.write_all(b"SSH-2.0-test 1\r\n").await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("SSH-2.0-egress\r\n\0\0"), "{answer:?}");
        let text = format!("Blocked by allowedDomains: {name}:22: {reason}");
        assert!(answer.contains(&text), "{answer:?}");
    }
    // A mask without a port makes every connection to its host one that the gate must read.
    let mask = Mask::new("KEY", "a long secret value".into(), ["allowed.test"]);
    session.network.set_masks(&Masks::new([mask]).unwrap()).unwrap();
    let mut client = session.connect("allowed.test").await;
    client.write_all(b"SSH-2.0-test 1\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.contains("or give the hosts of masked secrets their port"), "{answer:?}");
}

#[tokio::test]
async fn captured_queries_over_tcp_get_the_answers_of_udp() {
    if !has_own_network("captured_queries_over_tcp_get_the_answers_of_udp") {
        return;
    }
    let session = Captured::open(53, usual());
    let mut client = TcpStream::connect(("203.0.113.53", 53)).await.unwrap();
    for name in ["allowed.test", "denied.test"] {
        let query = crate::dns::query(name, RecordType::A).to_vec().unwrap();
        let length = u16::try_from(query.len()).unwrap();
        client.write_u16(length).await.unwrap();
        client.write_all(&query).await.unwrap();
        let length = soon(client.read_u16()).await.unwrap();
        let answer = exactly(&mut client, usize::from(length)).await;
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(crate::dns::address(&answer).0, resolve(session.dns, name).await);
    }
    assert!(session.network.events_since(egress::EventMark::default()).is_empty());

    // Queries need not wait for answers (RFC 7766). One that is malformed ends no connection.
    let names = ["allowed.test", "denied.test", "b.allowed.test"];
    let query = |name: &&str| crate::dns::query(name, RecordType::A).to_vec().unwrap();
    let mut queries: Vec<Vec<u8>> = names.iter().map(query).collect();
    queries.insert(1, vec![7; 12]);
    queries[1][2] = 0;
    let length = |query: &Vec<u8>| u16::try_from(query.len()).unwrap().to_be_bytes();
    let bytes: Vec<u8> =
        queries.iter().flat_map(|query| [&length(query)[..], query].concat()).collect();
    client.write_all(&bytes).await.unwrap();
    let mut answers = Vec::new();
    for _ in &queries {
        let length = soon(client.read_u16()).await.unwrap();
        let answer = exactly(&mut client, usize::from(length)).await;
        answers.push(Message::from_vec(&answer).unwrap());
    }
    assert_eq!(answers.remove(1).metadata.response_code, ResponseCode::FormErr);
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(crate::dns::address(answer).0, resolve(session.dns, name).await);
    }
}

#[tokio::test]
async fn a_listener_for_both_versions_of_ip_knows_the_destination() {
    if !has_own_network("a_listener_for_both_versions_of_ip_knows_the_destination") {
        return;
    }
    let gate = Gate::builder().resolver(usual_names()).build().unwrap();
    let Ok(listener) = std::net::TcpListener::bind("[::]:5432") else {
        return testkit::skipped("captured connections over IPv6", "a kernel with IPv6");
    };
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = dns.local_addr().unwrap();
    let listeners = Listeners::new().transparent(listener).dns(dns);
    let network = gate.open(listeners, usual(), Arc::new(())).unwrap();
    let named = resolve(server, "denied.test").await;
    for (address, host) in [(named.into(), "denied.test"), (LISTENING_V6, "2001:db8::7")] {
        let mark = network.mark();
        let mut client = TcpStream::connect((address, 5432)).await.unwrap();
        client.write_all(b"\0").await.unwrap();
        soon(client.read(&mut [0])).await.unwrap_err();
        let events = network.events_since(mark);
        assert_eq!(events[0].host.to_string(), host);
        assert_eq!(events[0].port, Some(5432));
    }
}
