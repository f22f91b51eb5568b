//! Policies that change, and sessions that end.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use egress::{Denial, Gate, Limits, Listeners, Outcome, Resolver};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::fixture::{Origin, Session, exactly, policy, rest, soon, usual, usual_names};

#[tokio::test]
async fn a_new_policy_cuts_what_it_denies_and_nothing_else() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    let mut cut = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let mut kept = session.tunnel(&format!("b.allowed.test:{}", origin.port)).await;
    for tunnel in [&mut cut, &mut kept] {
        tunnel.write_all(b"\0a").await.unwrap();
        assert_eq!(exactly(tunnel, 2).await, b"\0a");
    }
    session.network.set_policy(policy(&["b.allowed.test", "127.0.0.1"], &[]));
    let error = soon(cut.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    kept.write_all(b"b").await.unwrap();
    assert_eq!(exactly(&mut kept, 1).await, b"b");
    let events = session.wait_for_events(1).await;
    assert!(matches!(&events[0].outcome, Outcome::Denied(Denial::Rule { .. })), "{events:?}");
    assert_eq!((events[0].sent, events[0].received), (2, 2));

    let answer = session.send(format!("GET http://allowed.test:{}/ HTTP/1.0\r\n\r\n", origin.port));
    assert!(answer.await.contains(" 403 "));
}

#[tokio::test]
async fn a_new_policy_cuts_connections_to_addresses_that_it_denies() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    let mut tunnel = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    session.network.set_policy(policy(&["allowed.test"], &[]));
    soon(tunnel.read(&mut [0])).await.unwrap_err();
    assert!(session.denial().contains("it leads to 127.0.0.1, a loopback address"));
}

#[tokio::test]
async fn a_new_policy_cuts_a_response_that_is_on_its_way() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").await;
    let session = Session::open();
    let mut client = session.connect().await;
    let request = format!("GET http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port);
    client.write_all(request.as_bytes()).await.unwrap();
    crate::fixture::head(&mut client).await;
    assert_eq!(exactly(&mut client, 5).await, b"hello");
    session.network.set_policy(policy(&[], &[]));
    assert_eq!(rest(&mut client).await, "");
    let events = session.wait_for_events(1).await;
    assert!(matches!(&events[0].outcome, Outcome::Denied(_)), "{events:?}");
}

/// A resolver that waits for the test.
#[derive(Debug, Default)]
struct Waiting {
    asked: Notify,
    go: Notify,
}

#[async_trait]
impl Resolver for Waiting {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.notify_one();
        self.go.notified().await;
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

#[tokio::test]
async fn a_policy_that_changes_while_a_name_is_resolved_counts() {
    let (origin, resolver) = (Origin::hello().await, Arc::new(Waiting::default()));
    let names: Arc<dyn Resolver> = Arc::<Waiting>::clone(&resolver);
    let gate = Gate::builder().resolver(names).build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let network = gate.open(Listeners::new().proxy(listener), usual(), Arc::new(())).unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET http://allowed.test:{}/ HTTP/1.0\r\n\r\n", origin.port);
    client.write_all(request.as_bytes()).await.unwrap();
    soon(resolver.asked.notified()).await;
    network.set_policy(policy(&["127.0.0.1"], &[]));
    resolver.go.notify_one();
    let answer = rest(&mut client).await;
    assert!(answer.contains(" 403 "), "{answer}");
    assert_eq!(origin.received(), "");
}

fn descriptors() -> HashSet<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Runs alone, in its own process, because it counts descriptors.
#[test]
fn closing_under_load_leaves_no_descriptor_behind() {
    const ALONE: &str = "EGRESS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "lifetime::closing_under_load_leaves_no_descriptor_behind";
        let output = testkit::rerun(name).env(ALONE, "1").output().unwrap();
        return testkit::assert_passed(&output);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // It keeps no bytes, which are many.
        let origin = Origin::serving(|mut stream, _| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let to = format!("allowed.test:{}", origin.port);
        let before = descriptors();
        for round in 0..20 {
            let session = Session::open();
            let mut tunnels = Vec::new();
            for _ in 0..20 {
                let (mut read, mut write) = session.tunnel(&to).await.into_split();
                tunnels.push(tokio::spawn(async move {
                    let bytes = vec![0; 1 << 16];
                    while write.write_all(&bytes).await.is_ok() {}
                }));
                tunnels.push(tokio::spawn(async move {
                    let mut bytes = vec![0; 1 << 16];
                    while matches!(read.read(&mut bytes).await, Ok(1..)) {}
                }));
            }
            let proxy = session.proxy;
            match round % 2 {
                0 => soon(session.network.close()).await,
                _ => drop(session.network),
            }
            for tunnel in tunnels {
                soon(tunnel).await.unwrap();
            }
            soon(async {
                while TcpStream::connect(proxy).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
        // The servers close after the gate.
        soon(async {
            while !descriptors().is_subset(&before) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    });
}

#[tokio::test]
async fn sessions_of_one_gate_have_their_own_policies() {
    let origin = Origin::hello().await;
    // One connection for all: a listener that waits must not hold it.
    let mut limits = Limits::default();
    limits.max_descriptors = 6;
    let gate = Gate::builder().resolver(usual_names()).limits(limits).build().unwrap();
    let open = |policy| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = Listeners::new().proxy(listener);
        (gate.open(listeners, policy, Arc::new(())).unwrap(), address)
    };
    let (_first, allowed) = open(usual());
    let (_second, denied) = open(policy(&[], &[]));
    let request = format!("GET http://allowed.test:{}/ HTTP/1.0\r\n\r\n", origin.port);
    for (address, expected) in [(allowed, " 200 "), (denied, " 403 ")] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.contains(expected), "{answer}");
    }
}
