//! Frames of HTTP/2 that no client sends, to hosts whose TLS the gate terminates.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::soon;
use crate::secure::SecureOrigin;

/// Types and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes after which the gate must have ended a connection: more than the sockets hold (`tcp_rmem`
/// and `tcp_wmem`), so that its end shows however fast a client writes.
const TOO_MANY: usize = 64 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns header fields that no table keeps: `GET https://NAME/`, and a field `a: b`, repeated.
fn fields(name: &str, count: usize) -> Vec<u8> {
    let literal = |index: u8, value: &str| {
        [&[index, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    // Entries of the static table: GET, https, and the names `:path` and `:authority`.
    let head = [vec![0x82, 0x87], literal(0x04, "/"), literal(0x01, name)].concat();
    [head, b"\0\x01a\x01b".repeat(count)].concat()
}

/// Sends a start and then the same bytes again and again. Asserts that the gate ends the connection
/// before long, and that no request arrives.
async fn check(start: &[u8], again: impl Fn(u32) -> Vec<u8>) {
    let origin = SecureOrigin::echo(&[b"h2", b"http/1.1"]).await;
    let masked = origin.masked();
    let mut client = masked.tls("allowed.test", &[b"h2"]).await.unwrap();
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, b"")[..]].concat();
    client.write_all(&preface).await.unwrap();
    client.write_all(start).await.unwrap();
    let (mut read, mut write) = tokio::io::split(client);
    let flood = async {
        let mut sent = 0;
        for number in 1.. {
            let bytes = again(number);
            sent += bytes.len();
            assert!(sent < TOO_MANY, "the gate reads on");
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let answers = async { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} };
    soon(async {
        tokio::select! {
            () = flood => {}
            () = answers => {}
        }
    })
    .await;
    assert!(!origin.has_received());
}

#[tokio::test]
async fn a_head_without_an_end_is_not_collected() {
    let name = "allowed.test";
    let start = frame(HEADERS, END_STREAM, 1, &fields(name, 0));
    // With fields that count, and with nothing at all.
    check(&start, |_| frame(CONTINUATION, 0, 1, &b"\0\x01a\x01b".repeat(2000))).await;
    check(&start, |_| frame(CONTINUATION, 0, 1, b"")).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_no_request() {
    let start = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields("allowed.test", 3000));
    check(&start, |_| frame(DATA, 0, 1, b"x")).await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    check(b"", |number| {
        let stream = 2 * number - 1;
        let request = frame(HEADERS, END_HEADERS, stream, &fields("denied.test", 0));
        [request, frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
}
