//! Bodies that the gate reads as a whole: within the memory of the session, and not for ever.

use std::time::Duration;

use egress::Limits;
use secrets::{Mask, Masks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Origin, Session, rest, usual, usual_names};

const MIB: usize = 1 << 20;

/// Opens a session whose requests to `allowed.test` may be signed with a masked secret.
fn session(limits: Limits) -> Session {
    let session = Session::open_with(usual(), usual_names(), limits);
    let mask = Mask::new("KEY", "a long secret value".into(), ["allowed.test"]).allow_plaintext();
    session.network.set_masks(&Masks::new([mask]).unwrap()).unwrap();
    session
}

/// The head of a request whose signature is over its body.
fn signed(port: u16, length: usize) -> String {
    format!(
        "PUT http://allowed.test:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/\
         eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=00\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

async fn origin() -> Origin {
    Origin::serving(|mut stream, received| async move {
        let mut buffer = vec![0; MIB];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        received(&buffer[..count]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test]
async fn signed_bodies_have_the_memory_of_the_session_until_they_are_sent() {
    let session = session(Limits::default());
    // A server that reads nothing for now.
    let (open, opened) = tokio::sync::watch::channel(false);
    let origin = Origin::serving(move |mut stream, received| {
        let mut opened = opened.clone();
        async move {
            received(b"");
            opened.wait_for(|is_open| *is_open).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    let body = vec![b'x'; 60 * MIB];
    let request = [signed(origin.port, body.len()).as_bytes(), &body].concat();
    let mut held = Vec::new();
    for number in 1..=2 {
        let mut client = session.connect().await;
        client.write_all(&request).await.unwrap();
        held.push(client);
        while origin.connections() < number {
            tokio::task::yield_now().await;
        }
    }
    let mut third = session.connect().await;
    // The refusal may come before the end of the body.
    let more = [signed(origin.port, 10 * MIB).as_bytes(), &body[..10 * MIB]].concat();
    let _ = third.write_all(&more).await;
    let answer = rest(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("try again"), "{answer}");
    // Small ones have room.
    let mut small = session.connect().await;
    small.write_all(format!("{}body", signed(origin.port, 4)).as_bytes()).await.unwrap();
    open.send(true).unwrap();
    for mut client in held.into_iter().chain([small]) {
        let answer = rest(&mut client).await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let answer = session.send(signed(origin.port, 64 * MIB + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_signed_body_is_refused() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    let (session, origin) = (session(limits), origin().await);
    let mut client = session.connect().await;
    client.write_all(format!("{}begun", signed(origin.port, MIB)).as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("no more of"), "{answer}");
    assert_eq!(origin.connections(), 0);
}
