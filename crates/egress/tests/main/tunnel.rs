//! Tunnels through CONNECT.

use std::time::Duration;

use egress::{Limits, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Origin, Session, exactly, rest, soon, usual, usual_names};

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
