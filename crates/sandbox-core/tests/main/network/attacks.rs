//! Attempts of a command to change its network, or to reach what only init and the host may have.

use sandbox_core::internal::BestCapture;
use sandbox_core::{CommandStatus, Sandbox};

use super::{WithNetwork, answer_with_destination, perl, reach, without_network};
use crate::calls::number;
use crate::fixture::spec;

#[tokio::test]
async fn a_command_gets_no_descriptor_of_the_network() {
    let Some(session) = WithNetwork::captured().await else { return };
    let list = "for fd in {0..200}; do [ -e /proc/self/fd/$fd ] && echo -n \"$fd \"; done; true";
    // A new worker, one that ran before, and workers at once.
    for _ in 0..3 {
        assert_eq!(session.text(list).await, "0 1 2");
    }
    let overlapping = (0..4).map(|_| session.text(list));
    for found in futures(overlapping).await {
        assert_eq!(found, "0 1 2");
    }
    // The first process of the namespace is the worker, which a command cannot trace.
    let worker = session.text("ls /proc/1/fd; cat /proc/1/environ").await;
    assert!(worker.contains("Permission denied"), "{worker}");
}

/// Runs all at the same time.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_command_opens_stream_and_datagram_sockets_only() {
    let Some(session) = WithNetwork::captured().await else { return };
    for (arguments, expected) in [
        ("AF_INET, SOCK_STREAM, 0", "open"),
        ("AF_INET, SOCK_DGRAM, 0", "open"),
        ("AF_INET6, SOCK_STREAM, 0", "open"),
        ("AF_INET6, SOCK_DGRAM, 0", "open"),
        // NETLINK_ROUTE, which lists interfaces.
        ("16, SOCK_RAW, 0", "open"),
        // ICMP
        ("AF_INET, SOCK_RAW, 1", "Operation not permitted"),
        ("AF_INET, SOCK_RAW, 255", "Operation not permitted"),
        ("AF_INET6, SOCK_RAW, 58", "Operation not permitted"),
        ("AF_INET, SOCK_DGRAM, 1", "Permission denied"),
        // AF_PACKET, AF_VSOCK, AF_XDP, AF_ALG, AF_KEY
        ("17, SOCK_RAW, 768", "Address family not supported by protocol"),
        ("17, SOCK_DGRAM, 768", "Address family not supported by protocol"),
        ("40, SOCK_STREAM, 0", "Address family not supported by protocol"),
        ("44, SOCK_RAW, 0", "Address family not supported by protocol"),
        ("38, SOCK_SEQPACKET, 0", "Address family not supported by protocol"),
        ("15, SOCK_RAW, 2", "Address family not supported by protocol"),
        // NETLINK_SOCK_DIAG, NETLINK_XFRM, NETLINK_NETFILTER, NETLINK_GENERIC
        ("16, SOCK_RAW, 4", "Operation not permitted"),
        ("16, SOCK_RAW, 6", "Operation not permitted"),
        ("16, SOCK_RAW, 12", "Operation not permitted"),
        ("16, SOCK_DGRAM, 16", "Operation not permitted"),
    ] {
        let script = format!("print socket(my $s, {arguments}) ? \"open\" : $!");
        assert_eq!(session.text(&perl(&script)).await, expected, "{arguments}");
    }
}

#[tokio::test]
async fn a_command_cannot_take_the_place_of_a_listener() {
    let Some(session) = WithNetwork::captured().await else { return };
    let Some(_) = session.listeners.dns.as_ref() else { return };
    for (kind, port, address) in [
        ("SOCK_STREAM", 1, "0.0.0.0"),
        ("SOCK_STREAM", 80, "93.184.216.34"),
        ("SOCK_STREAM", 3128, "0.0.0.0"),
        ("SOCK_STREAM", 3128, "127.0.0.1"),
        ("SOCK_DGRAM", 53, "0.0.0.0"),
        ("SOCK_DGRAM", 53, "8.8.8.8"),
    ] {
        // SO_REUSEPORT
        let script = format!(
            "socket(my $s, AF_INET, {kind}, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); \
             setsockopt($s, SOL_SOCKET, 15, 1); \
             print bind($s, pack_sockaddr_in({port}, inet_aton(\"{address}\"))) \
             && ({port} == 3128 ? listen($s, 5) : 1) ? \"bound\" : $!"
        );
        let found = session.text(&perl(&script)).await;
        assert!(
            found == "Permission denied" || found == "Address already in use",
            "{kind} {address}:{port}: {found}"
        );
    }
}

#[tokio::test]
async fn a_command_deceives_no_session_with_a_foreign_address() {
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.transparent());
    // IP_TRANSPARENT, IP_FREEBIND is allowed, IPV6_TRANSPARENT, SO_MARK, SO_BINDTODEVICE to itself.
    let script = "socket(my $s, AF_INET, SOCK_STREAM, 0); socket(my $t, AF_INET6, SOCK_STREAM, 0); \
                  print setsockopt($s, 0, 19, 1) ? \"set\" : \"$!\"; \
                  print setsockopt($t, 41, 75, 1) ? \"set\" : \" $!\"; \
                  print setsockopt($s, SOL_SOCKET, 36, 1) ? \"set\" : \" $!\"";
    let denied = "Operation not permitted Operation not permitted Operation not permitted";
    assert_eq!(session.text(&perl(script)).await, denied);
    // A server on an address of the outside gets no connection.
    let server = "socket(my $l, AF_INET, SOCK_STREAM, 0); \
                  bind($l, pack_sockaddr_in(8080, inet_aton(\"93.184.216.34\"))) or die $!; \
                  listen($l, 5); socket(my $s, AF_INET, SOCK_STREAM, 0); \
                  connect($s, pack_sockaddr_in(8080, inet_aton(\"93.184.216.34\"))) or die $!; \
                  print scalar(<$s>)";
    assert_eq!(session.text(&perl(server)).await, "93.184.216.34:8080");
    // A connection that is broken off, and one by an address of another kind.
    let script = "socket(my $s, AF_INET, SOCK_STREAM, 0); \
                  connect($s, pack_sockaddr_in(80, inet_aton(\"192.0.2.1\"))) or die $!; \
                  connect($s, pack(\"S x14\", 0)); \
                  print connect($s, pack_sockaddr_in(81, inet_aton(\"192.0.2.2\"))) \
                  ? scalar(<$s>) : $!";
    let found = session.text(&perl(script)).await;
    assert!(found == "192.0.2.2:81" || found.contains("already connected"), "{found}");
}

#[tokio::test]
async fn a_command_cannot_change_addresses_routes_and_rules() {
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.transparent());
    // RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE and RTM_DELROUTE of IPv4, as init sends them.
    for (kind, fixed) in [
        (20, "2, 32, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 10, 9, 8, 7"),
        (21, "2, 32, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 198, 18, 0, 1"),
        (24, "2, 0, 0, 0, 254, 3, 254, 2, 0, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0, 0"),
        (25, "2, 0, 0, 0, 255, 3, 254, 2, 0, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0, 0"),
    ] {
        // The answer has the errno after a header of 16 bytes.
        let script = format!(
            "my $body = pack(\"C*\", {fixed}); socket(my $s, 16, SOCK_RAW, 0) or die $!; \
             syswrite($s, pack(\"LSSLL\", 16 + length $body, {kind}, 0x605, 1, 0) . $body); \
             sysread($s, my $answer, 4096); $! = -unpack(\"x16 l\", $answer); print $!"
        );
        assert_eq!(session.text(&perl(&script)).await, "Operation not permitted", "{kind}");
    }
    let more = "ip link set lo down; ip route flush table local; ip addr flush dev lo; \
                ip link add d type dummy; echo 1 > /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                nft flush ruleset; iptables -F; true";
    session.text(more).await;
    assert_eq!(session.text(&reach("93.184.216.34", 80)).await, "93.184.216.34:80");
    // A new namespace would have no listeners, and only lose the network.
    let script = format!("print syscall({}, 0x40000000) == 0 ? \"new\" : $!", number("unshare"));
    assert_eq!(session.text(&perl(&script)).await, "Operation not permitted");
}

#[tokio::test]
async fn other_ways_to_connect_are_captured_or_fail() {
    let Some(session) = WithNetwork::captured().await else { return };
    answer_with_destination(session.transparent());
    let to = "pack_sockaddr_in(80, inet_aton(\"192.0.2.1\"))";
    for (way, script) in [
        (
            "a first segment with data (MSG_FASTOPEN)",
            format!(
                "socket(my $s, AF_INET, SOCK_STREAM, 0); \
                 print defined send($s, \"x\", 0x20000000, {to}) ? scalar(<$s>) : \"failed\""
            ),
        ),
        (
            "TCP with several paths",
            format!(
                "my $s; socket($s, AF_INET, SOCK_STREAM, 262) && connect($s, {to}) \
                 or print(\"failed\"), exit; print scalar(<$s>)"
            ),
        ),
        (
            "SCTP, DCCP and UDP-Lite",
            "for ([SOCK_STREAM, 132], [6, 33], [SOCK_DGRAM, 136]) { \
             my ($s, $got); socket($s, AF_INET, $$_[0], $$_[1]) && connect($s, TO) \
             && send($s, \"x\", 0) && sysread($s, $got, 99) and print \"reached\" } \
             print \"failed\""
                .replace("TO", to),
        ),
        (
            "from an address of the outside",
            format!(
                "socket(my $s, AF_INET, SOCK_STREAM, 0); \
                 bind($s, pack_sockaddr_in(4000, inet_aton(\"8.8.8.8\"))); \
                 print connect($s, {to}) ? scalar(<$s>) : \"failed\""
            ),
        ),
    ] {
        let found = session.text(&perl(&script)).await;
        assert!(found == "192.0.2.1:80" || found == "failed", "{way}: {found}");
    }
}

#[tokio::test]
async fn a_flood_of_connections_does_not_stop_other_commands() {
    if crate::fixture::without_namespaces() {
        return;
    }
    let (_fixture, sandbox) = without_network(BestCapture::EveryPort);
    let _listeners = sandbox.open_network(&[]).await.unwrap();
    // The host accepts none of them.
    let flood = "for (1..900) { socket(my $s, AF_INET, SOCK_STREAM | 2048, 0) or last; \
                 connect($s, pack_sockaddr_in(80, pack(\"C4\", 9, 9, $_ / 250, 1 + $_ % 250))); \
                 push @all, $s } print scalar(@all)";
    let (flood, other) =
        tokio::join!(sandbox.exec(spec(&perl(flood))), sandbox.exec(spec("echo works")));
    assert_eq!(other.unwrap().stdout.bytes, b"works\n");
    assert_eq!(flood.unwrap().status, CommandStatus::Exited(0));
}
