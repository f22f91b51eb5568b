//! Tunnels through CONNECT.

use std::time::Duration;

use egress::{Destinations, Limits, NetworkEvent, Outcome};
use policy::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Origin, Session, exactly, head, rest, soon, usual, usual_names};

#[tokio::test]
async fn a_tunnel_passes_all_bytes_and_counts_them() {
    const BYTES: usize = 64 << 20;
    let (session, origin) = (Session::open(), Origin::echo().await);
    let client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let (mut read, mut write) = client.into_split();
    let pattern: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1] | 0x80).collect();
    let sent = pattern.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..BYTES / sent.len() {
            write.write_all(&sent).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut received = vec![0; pattern.len()];
    for _ in 0..BYTES / pattern.len() {
        soon(read.read_exact(&mut received)).await.unwrap();
        assert!(received == pattern, "bytes were changed");
    }
    assert_eq!(soon(read.read(&mut received)).await.unwrap(), 0);
    writer.await.unwrap();
    let events = session.wait_for_events(1).await;
    let bytes = u64::try_from(BYTES).unwrap();
    assert_eq!((events[0].sent, events[0].received), (bytes, bytes));
    assert!(matches!(events[0].outcome, Outcome::Allowed(_)));
}

#[tokio::test]
async fn an_end_that_closes_one_direction_still_receives_the_other() {
    // The server closes first, and reads on.
    let origin = Origin::serving(|mut stream, received| async move {
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        received(&all);
    })
    .await;
    let session = Session::open();
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    assert_eq!(rest(&mut client).await, "bye");
    client.write_all(b"\0late").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(session.wait_for_events(1).await[0].sent, 5);
    soon(async {
        while origin.received() != "\0late" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    // The client closes first, and reads on.
    let origin = Origin::serving(|mut stream, _| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(&all.repeat(2)).await.unwrap();
    })
    .await;
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    client.write_all(b"hi").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "hihi");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_received_at_once() {
    let origin = Origin::serving(|mut stream, _| async move {
        stream.write_all(b"SSH-2.0-server\r\n").await.unwrap();
        let mut line = [0; 16];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(&line).await.unwrap();
    })
    .await;
    let session = Session::open();
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    assert_eq!(exactly(&mut client, 16).await, b"SSH-2.0-server\r\n");
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 16).await, b"SSH-2.0-client\r\n");
}

#[tokio::test]
async fn a_first_message_without_an_end_is_refused_with_a_record() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::echo().await;
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    client.write_all(b"begun").await.unwrap();
    let error = soon(client.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let rule = "the first message of the client has no end, so it cannot be judged";
    assert_eq!(session.denial(), format!("allowed.test: {rule}"));
    assert_eq!(origin.received(), "");
    // A client that breaks its connection is not refused.
    let client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    client.set_zero_linger().unwrap();
    drop(client);
    let events = session.wait_for_events(2).await;
    assert!(matches!(events[1].outcome, Outcome::Allowed(_)), "{events:?}");
}

#[tokio::test]
async fn a_server_on_the_port_of_http_does_not_speak_first() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::serving(|mut stream, received| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        received(&all);
    })
    .await;
    let name = Host::parse("allowed.test").unwrap();
    let address = ([127, 0, 0, 1], origin.port).into();
    session.network.set_destinations(Destinations::new().resolve(name, 80, address));
    let mut client = session.tunnel("allowed.test:80").await;
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("Rule: port 80 "), "{answer}");
    assert!(session.denial().contains("the client has sent nothing"));
    // What the server says first hides no request.
    let mut client = session.tunnel("allowed.test:80").await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 421 "));
    assert_eq!(origin.received(), "");
}

#[tokio::test]
async fn a_request_that_is_not_http_gets_the_reason() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    for (request, problem) in [
        ("G\x01T / HTTP/1.1\r\n\r\n", None),
        ("GET / HTTP/9.9\r\n\r\n", Some("invalid HTTP version")),
        ("GET / HTTP/1.1\r\nX\0: 1\r\n\r\n", Some("invalid HTTP header")),
        ("GET /\x7f HTTP/1.1\r\n\r\n", Some("invalid URI")),
    ] {
        let mark = session.network.mark();
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let Some(problem) = problem else {
            // Another protocol.
            assert_eq!(exactly(&mut client, request.len()).await, request.as_bytes());
            drop(client);
            session.wait_for_events(1).await;
            continue;
        };
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request:?}: {answer}");
        let text = format!(
            "Bad request: allowed.test:{}\nRule: the request is not valid HTTP: {problem}\n\
             Remedy: send valid HTTP, or use TLS\n",
            origin.port
        );
        assert!(answer.ends_with(&text), "{request:?}: {answer}");
        // The connection of the tunnel is the refused one.
        let events = session.network.events_since(mark);
        assert!(matches!(events[..], [NetworkEvent { outcome: Outcome::Denied(_), .. }]));
    }
    let answer = session.send("GET http://allowed.test/ HTTP/9.9\r\n\r\n").await;
    assert!(answer.ends_with("Bad request: invalid HTTP version\n"), "{answer}");
}

#[tokio::test]
async fn a_reset_of_one_end_reaches_the_other() {
    let origin = Origin::serving(|stream, _| async move {
        stream.set_zero_linger().unwrap();
    })
    .await;
    let session = Session::open();
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let error = soon(client.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_a_busy_one_is_not() {
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_millis(400);
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::echo().await;
    let mut idle = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let mut busy = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let idle = tokio::spawn(async move { rest(&mut idle).await });
    while !idle.is_finished() {
        busy.write_all(b"\0").await.unwrap();
        assert_eq!(exactly(&mut busy, 1).await, b"\0");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    busy.write_all(b"\0").await.unwrap();
    assert_eq!(exactly(&mut busy, 1).await, b"\0");
}
