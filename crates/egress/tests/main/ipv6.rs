//! Ways around the policy through addresses of IPv6.

use std::net::UdpSocket;
use std::sync::Arc;

use egress::{Destinations, Gate, Limits, Listeners};
use policy::{Host, NetworkConfig, NetworkPolicy};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fixture::{Names, Origin, Session, head, policy, rest, usual_names};
use crate::transparent::has_network_of_its_own;

#[tokio::test]
async fn no_spelling_of_ipv6_reaches_loopback_or_is_taken_for_another_host() {
    let origin = Origin::hello().await;
    let port = origin.port;
    let session = Session::open();
    for host in [
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[127.0.0.1]",
        "[allowed.test]",
        "[::1%25lo]",
        "[::1%lo]",
        "[fe80::1%25lo]",
        "[::ffff:127.0.0.1%25lo]",
        "[[::1]]",
        "[::1",
        "::1]",
        "[::1]allowed.test",
        "allowed.test[::1]",
        "[::]",
    ] {
        for request in [
            format!("CONNECT {host}:{port} HTTP/1.0\r\n\r\n"),
            format!("GET http://{host}:{port}/ HTTP/1.0\r\n\r\n"),
            format!("GET http://allowed.test@{host}:{port}/ HTTP/1.0\r\n\r\n"),
        ] {
            let answer = session.send(&request).await;
            let is_refused = answer.contains(" 403 ") || answer.contains(" 400 ");
            assert!(is_refused, "{request}: {answer}");
        }
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_private_address_inside_one_of_ipv6_is_refused() {
    let mut network = NetworkConfig::default();
    network.allowed_domains = vec!["allowed.test".to_owned()];
    network.denied_resolved_addresses = Some(vec!["10.0.0.0/8".to_owned()]);
    let listed = NetworkPolicy::compile(&network).unwrap();
    for address in [
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1:fffe::10.0.0.1",
        "64:ff9b:1:7:a:0:100::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "2001:db8::5efe:10.0.0.1",
        "2001:db8::200:5efe:10.0.0.1",
        "2002:a00:1::",
        "2002:a00:1:1::1",
    ] {
        let names = Names::new(&[("allowed.test", &[&[address]])]);
        let session = Session::open_with(listed.clone(), names, Limits::default());
        let answer = session.send("GET http://allowed.test/ HTTP/1.0\r\n\r\n").await;
        let is_refused = answer.contains(" 403 ") && answer.contains("Rule: it leads to");
        assert!(is_refused, "{address}: {answer}");
    }
}

#[tokio::test]
async fn a_captured_address_of_ipv6_is_the_host_of_its_requests() {
    if !has_network_of_its_own("ipv6::a_captured_address_of_ipv6_is_the_host_of_its_requests") {
        return;
    }
    let origin = Origin::hello().await;
    let Ok(listener) = std::net::TcpListener::bind("[::]:80") else {
        return testkit::skipped("captured connections over IPv6", "a kernel with IPv6");
    };
    let gate = Gate::builder().resolver(usual_names()).build().unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listeners = Listeners::new().transparent(listener).dns(dns);
    let allowed = policy(&["[2001:db8::7]"], &[]);
    let network = gate.open(listeners, allowed, Arc::new(())).unwrap();
    let to = Host::parse("2001:db8::7").unwrap();
    let address = ([127, 0, 0, 1], origin.port).into();
    network.set_destinations(Destinations::new().resolve(to, 80, address));
    for (address, host, status) in [
        ("[2001:db8::7]:80", "[2001:db8::7]", 200),
        ("[2001:db8::7]:80", "[2001:DB8:0::0007]:80", 200),
        ("[2001:db8::7]:80", "[2001:db8::7]:81", 421),
        ("[2001:db8::7]:80", "[2001:db8::8]", 421),
        // A zone is no part of the address.
        ("[2001:db8::7]:80", "[2001:db8::7%25lo]", 200),
        ("[2001:db8::7]:80", "[2001:db8::8%25lo]", 421),
        ("[2001:db8::7]:80", "[[2001:db8::7]]", 421),
        ("[2001:db8::7]:80", "[2001:db8::7]x", 421),
        ("[2001:db8::7]:80", "denied.test", 421),
        ("[2001:db8::8]:80", "[2001:db8::8]", 403),
        ("[2001:db8::8]:80", "[2001:db8::7]", 421),
        ("203.0.113.7:80", "[::ffff:203.0.113.7]", 403),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{address} {host}: {answer}");
        rest(&mut client).await;
    }
    assert_eq!(origin.connections(), 3);
}
