//! Requests to the proxy listener.

use egress::{Failure, Limits, Outcome, Via};
use tokio::io::AsyncWriteExt as _;

use crate::fixture::{Names, Origin, Session, exactly, head, policy, rest, usual, usual_names};

#[tokio::test]
async fn an_allowed_request_passes_with_the_judged_host() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let port = origin.port;
    let answer = session
        .send(format!(
            "GET http://Allowed.TEST.:{port}/a?b=c HTTP/1.1\r\nHost: denied.test\r\n\
             Proxy-Authorization: Basic YQ==\r\nConnection: close, x-secret\r\nX-Secret: 1\r\n\
             Accept: */*\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    let received = origin.received();
    assert!(received.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{received}");
    assert!(received.to_lowercase().contains(&format!("\r\nhost: allowed.test:{port}\r\n")));
    assert!(!received.contains("denied.test") && !received.to_lowercase().contains("secret"));
    assert!(!received.to_lowercase().contains("proxy-"), "{received}");

    let events = session.wait_for_events(1).await;
    let event = &events[0];
    assert!(matches!(event.outcome, Outcome::Allowed(_)), "{event:?}");
    assert_eq!((event.host.to_string(), event.port), ("allowed.test".to_owned(), Some(port)));
    assert_eq!(event.via, Via::Proxy);
    assert_eq!(event.sent, u64::try_from(received.len()).unwrap());
    assert!(event.received > 5 && !event.took.is_zero());
}

#[tokio::test]
async fn a_refusal_names_host_rule_and_remedy_after_its_event() {
    let session = Session::open();
    for request in [
        "GET http://denied.test:8080/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "CONNECT denied.test:8080 HTTP/1.1\r\nHost: denied.test:8080\r\nConnection: close\r\n\r\n",
    ] {
        let mark = session.network.mark();
        let mut client = session.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        // The event is there when the first bytes of the answer are.
        let events = session.network.events_since(mark);
        assert!(matches!(&events[..], [event] if event.port == Some(8080)), "{events:?}");
        assert!(answer.starts_with("HTTP/1.1 403 Blocked by allowedDomains\r\n"), "{answer}");
        assert!(answer.contains("x-proxy-error: blocked-by-allowlist\r\n"), "{answer}");
        assert_eq!(
            rest(&mut client).await,
            "Blocked by allowedDomains: denied.test:8080\n\
             Rule: no entry of allowedDomains covers it\n\
             Remedy: add denied.test to network.allowedDomains\n"
        );
    }
    assert!(session.names.asked().is_empty(), "a denied name must not be resolved");
}

#[tokio::test]
async fn a_denied_upload_still_receives_its_answer() {
    let session = Session::open();
    let body = vec![b'a'; 8 << 20];
    for method in ["POST", "PUT"] {
        let mut client = session.connect().await;
        let request = format!(
            "{method} http://denied.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(request.as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 403 "), "{method}");
        assert!(rest(&mut client).await.starts_with("Blocked by"), "{method}");
    }
}

#[tokio::test]
async fn a_denied_upgrade_still_receives_its_answer() {
    let session = Session::open();
    let upload = |line: &str, headers: &str| {
        let length = 8 << 20;
        let head = format!("{line}\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
        head + &"a".repeat(length)
    };
    // Clients of Java offer h2c with every first request.
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
    for request in [
        upload("POST http://denied.test/ HTTP/1.1", h2c),
        upload("CONNECT denied.test:443 HTTP/1.0", ""),
        upload("CONNECT denied.test:443 HTTP/1.1", "Connection: close\r\n"),
    ] {
        let mut client = session.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.contains("Remedy: add denied.test to"), "{}: {answer}", &request[..40]);
    }
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").await;
    let session = Session::open();
    let answer = session
        .send(format!(
            "HEAD http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            origin.port
        ))
        .await;
    assert!(answer.to_lowercase().contains("content-length: 5000\r\n"), "{answer}");
}

#[tokio::test]
async fn the_text_of_a_denied_domain_is_in_the_refusal() {
    let mut network = policy::NetworkConfig::default();
    network.denied_domains = vec!["bad.test".to_owned()];
    let reasons = [("bad.test".to_owned(), "ask the platform team".to_owned())];
    network.denied_domain_reasons = Some(reasons.into());
    let policy = policy::NetworkPolicy::compile(&network).unwrap();
    let session = Session::open_with(policy, usual_names(), Limits::default());
    let answer = session.send("GET http://bad.test/ HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("deniedDomains has bad.test: ask the platform team\n"), "{answer}");
}

#[tokio::test]
async fn failures_say_their_cause() {
    let names = Names::new(&[("down.test", &[&["127.0.0.1"]]), ("gone.test", &[&[]])]);
    let policy = policy(&["down.test", "gone.test", "127.0.0.1"], &[]);
    let session = Session::open_with(policy, names, Limits::default());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let answer = session.send(format!("GET http://down.test:{closed}/ HTTP/1.0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.0 502 ") || answer.starts_with("HTTP/1.1 502 "));
    assert!(answer.contains("the host cannot be reached: connection refused"), "{answer}");
    let answer = session.send("GET http://gone.test/ HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("the name does not exist"), "{answer}");
    let outcomes: Vec<_> = session.events().into_iter().map(|event| event.outcome).collect();
    assert!(matches!(outcomes[0], Outcome::Failed(Failure::Unreachable { .. })), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Failed(Failure::NoSuchName));
}

#[tokio::test]
async fn one_connection_serves_many_requests_over_one_to_the_server() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let mut client = session.connect().await;
    let request = format!("GET http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port);
    for _ in 0..3 {
        client.write_all(request.as_bytes()).await.unwrap();
        head(&mut client).await;
        assert_eq!(exactly(&mut client, 5).await, b"hello");
    }
    assert_eq!(origin.connections(), 1);
    drop(client);
    assert_eq!(session.wait_for_events(1).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_closes_between_requests_is_connected_again() {
    let origin = Origin::serving(|mut stream, received| async move {
        let mut buffer = [0; 4096];
        if let Ok(count) = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await {
            received(&buffer[..count]);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    })
    .await;
    let session = Session::open();
    let mut client = session.connect().await;
    let request = format!("GET http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port);
    for _ in 0..5 {
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(exactly(&mut client, 2).await, b"ok");
    }
    assert_eq!(origin.connections(), 5);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_no_failure_of_the_server() {
    let origin = Origin::serving(|mut stream, _| async move {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
    })
    .await;
    let session = Session::open();
    let answer = session
        .send(format!(
            "POST http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\nzz\r\n",
            origin.port
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let outcomes: Vec<_> = session.events().into_iter().map(|event| event.outcome).collect();
    assert!(outcomes.iter().all(|one| !matches!(one, Outcome::Failed(_))), "{outcomes:?}");
}

#[tokio::test]
async fn a_body_of_unknown_length_passes_in_both_directions() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    let session = Session::open();
    let answer = session
        .send(format!(
            "POST http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n",
            origin.port
        ))
        .await;
    assert!(answer.contains("\r\nabc\r\n") || answer.contains("abcde"), "{answer}");
    let received = origin.received();
    assert!(received.to_lowercase().contains("transfer-encoding: chunked"), "{received}");
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let origin = Origin::serving(|mut stream, received| async move {
        let request = head(&mut stream).await;
        received(request.as_bytes());
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                      Upgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    let session = Session::open();
    let mut client = session.connect().await;
    let request = format!(
        "GET http://allowed.test:{}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\n\r\n",
        origin.port
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_lowercase().contains("upgrade: websocket\r\n"), "{answer}");
    assert_eq!(exactly(&mut client, 5).await, b"first");
    client.write_all(b"ping").await.unwrap();
    assert_eq!(exactly(&mut client, 4).await, b"ping");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert!(origin.received().contains("websocket"));
}

#[tokio::test]
async fn a_destination_without_scheme_or_port_is_explained() {
    let session = Session::open_with(usual(), usual_names(), Limits::default());
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "a request to a proxy needs a whole URL"),
        ("GET https://allowed.test/ HTTP/1.1\r\nHost: a\r\n\r\n", "the URL is not an http one"),
        ("CONNECT allowed.test HTTP/1.1\r\nHost: a\r\n\r\n", "the destination lacks a port"),
    ] {
        let mut client = session.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(expected), "{answer}");
    }
    assert!(session.events().is_empty());
}
