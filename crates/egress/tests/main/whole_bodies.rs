//! Bodies that the gate reads as a whole: within the memory of the session, and not for ever.

use std::time::Duration;

use egress::Limits;
use secrets::{Mask, Masks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Origin, Session, head, rest, usual, usual_names};

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
async fn signed_bodies_wait_for_the_memory_of_the_session() {
    let (session, origin) = (session(Limits::default()), origin().await);
    let mut first = session.connect().await;
    let asks = "\r\nExpect: 100-continue\r\n\r\n";
    let request = signed(origin.port, 64 * MIB).replace("\r\n\r\n", asks);
    first.write_all(request.as_bytes()).await.unwrap();
    // The gate asks for the body when it has the memory, which is all there is.
    assert!(head(&mut first).await.starts_with("HTTP/1.1 100 "));
    // The kernel keeps a few MiB of the second one.
    let mut second = session.connect().await;
    let body = vec![b'x'; 32 * MIB];
    let request = [signed(origin.port, body.len()).as_bytes(), &body].concat();
    let mut sending = std::pin::pin!(second.write_all(&request));
    let sent = tokio::time::timeout(Duration::from_millis(500), &mut sending).await;
    assert!(sent.is_err() && origin.connections() == 0, "the second body waits");
    drop(first);
    sending.await.unwrap();
    let answer = rest(&mut second).await;
    assert!(answer.ends_with("hello"), "{answer}");
    // Other requests need no such memory.
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
