//! Bounds on connections, heads and times.

use std::time::Duration;

use egress::{ErrorKind, Gate, GateError, Limits, Listeners};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{Origin, Session, exactly, head, policy, rest, soon, usual, usual_names};

async fn request(session: &Session) -> TcpStream {
    let mut client = session.connect().await;
    client.write_all(b"CONNECT denied.test:1 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client
}

/// Fills a limit with tunnels, and asserts that one more connection waits until one is closed.
async fn check_waiting(limits: Limits, count: usize) {
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::echo().await;
    let to = format!("allowed.test:{}", origin.port);
    let mut tunnels = Vec::new();
    for _ in 0..count {
        tunnels.push(session.tunnel(&to).await);
    }
    let mut waiting = request(&session).await;
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.read_u8()).await;
    assert!(early.is_err(), "connection {} was served", count + 1);
    for tunnel in &mut tunnels {
        tunnel.write_all(b"\0").await.unwrap();
        assert_eq!(exactly(tunnel, 1).await, b"\0");
    }
    tunnels.pop();
    assert!(head(&mut waiting).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn a_session_has_256_connections_and_the_next_waits() {
    // The test holds both ends of each.
    let mut limits = Limits::default();
    limits.max_descriptors = 1 << 16;
    assert_eq!(limits.max_connections, 256);
    if rustix::process::getrlimit(rustix::process::Resource::Nofile).current < Some(2500) {
        testkit::skipped("256 connections", "ulimit -n 4096");
        limits.max_connections = 32;
        return check_waiting(limits, 32).await;
    }
    check_waiting(limits, 256).await;
}

#[tokio::test]
async fn the_process_has_a_limit_on_descriptors() {
    let mut limits = Limits::default();
    limits.max_descriptors = 6 * 3 + 5;
    check_waiting(limits, 3).await;
}

#[tokio::test]
async fn a_head_that_is_slow_or_too_long_is_not_waited_for() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    limits.max_head_bytes = 8192;
    let session = Session::open_with(usual(), usual_names(), limits);
    for start in ["", "GET http://allowed.test/ HTTP/1.1\r\nHo", "\x05\x02\x02"] {
        let mut client = session.connect().await;
        client.write_all(start.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    let mut client = session.connect().await;
    let long = format!("GET http://allowed.test/{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    let _ = client.write_all(long.as_bytes()).await;
    let answer = rest(&mut client).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");

    let origin = Origin::echo().await;
    let mut tunnel = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    tunnel.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    soon(async { while matches!(tunnel.read(&mut [0; 64]).await, Ok(1..)) {} }).await;
    assert_eq!(origin.received(), "");
}

#[tokio::test]
async fn impossible_values_and_wrong_descriptors_are_errors() {
    let mut limits = Limits::default();
    limits.max_connections = 0;
    let error = Gate::builder().limits(limits).build().unwrap_err();
    assert_eq!(error.to_string(), "the limit max_connections has an impossible value");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidValue, false));

    let gate = Gate::builder().build().unwrap();
    let listeners = [
        Listeners::new().proxy(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()),
        Listeners::new().dns(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
        Listeners::new().transparent(std::fs::File::open("/dev/null").unwrap()),
    ];
    for listeners in listeners {
        let error = gate.open(listeners, policy(&[], &[]), std::sync::Arc::new(())).unwrap_err();
        assert!(matches!(error, GateError::Listener { .. }), "{error}");
    }
}

#[test]
fn a_gate_needs_a_runtime() {
    let gate = Gate::builder().build().unwrap();
    let error = gate.open(Listeners::new(), policy(&[], &[]), std::sync::Arc::new(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
}
