//! The transparent listener on the port of HTTP, in a network namespace of its own.

use std::net::Ipv4Addr;
use std::time::Duration;

use egress::{Gate, Limits, NetworkEvent, Outcome};
use tokio::io::AsyncWriteExt as _;

use crate::fixture::{Origin, head, rest, usual};
use crate::transparent::{Captured, has_network_of_its_own, listen};

#[tokio::test]
async fn captured_requests_are_forwarded_or_refused_in_http() {
    if !has_network_of_its_own("captured_http::captured_requests_are_forwarded_or_refused_in_http")
    {
        return;
    }
    let session = Captured::open(80, usual());
    let origin = Origin::on(listen(Ipv4Addr::LOCALHOST, 80), |mut stream, received| async move {
        received(head(&mut stream).await.as_bytes());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
    });
    for (name, host, expected) in [
        ("allowed.test", "allowed.test", "HTTP/1.1 200 OK\r\n"),
        ("allowed.test", "Allowed.Test.:80", "HTTP/1.1 200 OK\r\n"),
        ("allowed.test", "denied.test", "HTTP/1.1 421 "),
        ("allowed.test", "allowed.test:81", "HTTP/1.1 421 "),
        ("denied.test", "allowed.test", "HTTP/1.1 421 "),
        ("denied.test", "denied.test", "HTTP/1.1 403 Blocked by allowedDomains\r\n"),
    ] {
        let mut client = session.connect(name).await;
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with(expected), "{name} {host}: {answer}");
    }
    assert_eq!(origin.connections(), 2);
    assert!(!origin.received().contains("denied"));
    // Some servers take these for requests.
    for line in ["GET x", "\x01 /x HTTP/1.1", "003bgit-x /x HTTP/1.1 \0", "QUIT", "\0"] {
        let mark = session.network.mark();
        let mut client = session.connect("allowed.test").await;
        let request = format!("{line}\r\nHost: denied.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{line:?}: {answer}");
        let reason = "Bad request: allowed.test:80\nRule: the request is not valid HTTP: invalid ";
        assert!(answer.contains(reason), "{line:?}: {answer}");
        let remedy = "\nRemedy: send valid HTTP or use TLS; other protocols need another port\n";
        assert!(answer.ends_with(remedy), "{line:?}: {answer}");
        let outcomes = session.network.events_since(mark);
        let [NetworkEvent { outcome: Outcome::Denied(denial), .. }] = &outcomes[..] else {
            panic!("{line:?}: {outcomes:?}")
        };
        assert!(answer.contains(&format!("Rule: {denial}\n")), "{denial}: {answer}");
    }
    // No valid request would reach a denied host either.
    let mut client = session.connect("denied.test").await;
    client.write_all(b"QUIT\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    let expected = "HTTP/1.1 403 Forbidden\r\n";
    assert!(answer.starts_with(expected) && answer.contains("allowedDomains"), "{answer}");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_captured_client_without_a_request_is_refused_on_the_port_of_http() {
    if !has_network_of_its_own(
        "captured_http::a_captured_client_without_a_request_is_refused_on_the_port_of_http",
    ) {
        return;
    }
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(300);
    let session = Captured::open_at(80, usual(), Gate::builder().limits(limits));
    let origin = Origin::on(listen(Ipv4Addr::LOCALHOST, 80), |mut stream, _| async move {
        let _ = stream.write_all(b"220 ready\r\n").await;
    });
    for (sent, rule) in [
        ("", "port 80 is for HTTP and TLS, and the client has sent nothing"),
        ("EHLO", "the first message of the client has no end, so it cannot be judged"),
        (
            "GET / HTTP/1.1\r\n",
            "the first message of the client has no end, so it cannot be judged",
        ),
    ] {
        let mark = session.network.mark();
        let mut client = session.connect("allowed.test").await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{sent:?}: {answer}");
        let text = format!("No request: allowed.test:80\nRule: {rule}\nRemedy: ");
        assert!(answer.contains(&text), "{sent:?}: {answer}");
        let events = session.network.events_since(mark);
        let [NetworkEvent { outcome: Outcome::Denied(denial), .. }] = &events[..] else {
            panic!("{sent:?}: {events:?}")
        };
        assert_eq!(denial.to_string(), rule);
        assert!(denial.remedy().is_some());
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_captured_client_that_leaves_without_a_request_is_not_recorded() {
    let test = "captured_http::a_captured_client_that_leaves_without_a_request_is_not_recorded";
    if !has_network_of_its_own(test) {
        return;
    }
    let session = Captured::open(80, usual());
    let origin = Origin::on(listen(Ipv4Addr::LOCALHOST, 80), |mut stream, _| async move {
        let _ = stream.write_all(b"220 ready\r\n").await;
    });
    let mut client = session.connect("allowed.test").await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(origin.connections(), 0);
    let mark = session.network.mark();
    assert_eq!(session.network.events_since(egress::EventMark::default()), []);
    // The host of the connection is refused in any case.
    let mut client = session.connect("denied.test").await;
    client.shutdown().await.unwrap();
    rest(&mut client).await;
    let events = session.network.events_since(mark);
    assert!(matches!(&events[..], [NetworkEvent { outcome: Outcome::Denied(_), .. }]));
}
