//! Connections through a parent proxy: another gate, on loopback.

use std::net::TcpListener;
use std::sync::Arc;

use egress::{EventMark, Failure, Gate, Listeners, Network, NetworkEvent, Outcome, ParentProxy};

use crate::dns::resolve;
use crate::fixture::{Names, Origin, Session, head, policy, rest, usual, usual_names};
use crate::secure::{H1, Masked, SecureOrigin, TOKEN, get};

/// A proxy for `allowed.test`, and the settings of it.
struct Parent {
    network: Network,
    url: String,
}

impl Parent {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://user:word@proxy.test:{}", listener.local_addr().unwrap().port());
        let gate = Gate::builder().resolver(usual_names()).build().unwrap();
        let policy = policy(&["allowed.test", "127.0.0.1"], &[]);
        let network = gate.open(Listeners::new().proxy(listener), policy, Arc::new(())).unwrap();
        Self { network, url }
    }

    fn proxy(&self) -> ParentProxy {
        ParentProxy::new().http(&self.url).unwrap().https(&self.url).unwrap()
    }

    /// Returns the hosts that the proxy was asked for.
    fn hosts(&self) -> Vec<String> {
        let events = self.network.events_since(EventMark::default());
        events.into_iter().map(|event| event.host.to_string()).collect()
    }
}

/// Names that only the proxy can resolve are missing.
fn only_proxy() -> Arc<Names> {
    Names::new(&[("proxy.test", &[&["127.0.0.1"]]), ("b.allowed.test", &[&["127.0.0.1"]])])
}

#[tokio::test]
async fn requests_and_tunnels_go_through_the_proxy_which_resolves_their_names() {
    let (parent, origin) = (Parent::open(), Origin::hello().await);
    let names = only_proxy();
    let gate = Gate::builder().resolver(Arc::clone(&names) as _).parent_proxy(parent.proxy());
    let session = Session::open_at(&gate.build().unwrap(), usual(), Arc::clone(&names));
    let url = format!("http://allowed.test:{}/", origin.port);
    let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(session.send(request).await.ends_with("hello"));
    let mut tunnel = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let request = "GET / HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n";
    let request =
        request.replace("Host: allowed.test", &format!("Host: allowed.test:{}", origin.port));
    tokio::io::AsyncWriteExt::write_all(&mut tunnel, request.as_bytes()).await.unwrap();
    assert!(head(&mut tunnel).await.starts_with("HTTP/1.1 200 "));
    assert!(rest(&mut tunnel).await.starts_with("hello"));
    // The name is not resolved on the host.
    assert!(names.asked().iter().all(|name| name == "proxy.test"), "{:?}", names.asked());
    resolve(session.dns, "allowed.test").await;
    assert!(!origin.received().contains("roxy-"), "{}", origin.received());
    let events = parent.network.events_since(EventMark::default());
    let is_direct = |event: &NetworkEvent| !event.through_parent;
    let is_allowed = |event: &NetworkEvent| event.host.to_string() == "allowed.test";
    assert!(events.iter().all(|event| is_allowed(event) && is_direct(event)), "{events:?}");
    let events = session.wait_for_events(2).await;
    assert!(!events.iter().any(is_direct), "{events:?}");
}

#[tokio::test]
async fn a_host_without_the_proxy_is_connected_directly() {
    let (parent, origin) = (Parent::open(), Origin::hello().await);
    let proxy = parent.proxy().no_proxy("b.allowed.test");
    let names = only_proxy();
    let gate = Gate::builder().resolver(Arc::clone(&names) as _).parent_proxy(proxy);
    let session = Session::open_at(&gate.build().unwrap(), usual(), names);
    let url = format!("http://b.allowed.test:{}/", origin.port);
    let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(session.send(request).await.ends_with("hello"));
    assert!(parent.hosts().is_empty());
}

#[tokio::test]
async fn the_refusal_of_the_proxy_is_reported() {
    let parent = Parent::open();
    let names = only_proxy();
    let gate = Gate::builder().resolver(Arc::clone(&names) as _).parent_proxy(parent.proxy());
    let allowed = policy(&["other.test"], &[]);
    let session = Session::open_at(&gate.build().unwrap(), allowed, names);
    let connect = "CONNECT other.test:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = session.send(connect).await;
    assert!(answer.contains("the parent proxy answered 403"), "{answer}");
    let outcome = session.events().remove(0).outcome;
    assert!(matches!(outcome, Outcome::Failed(Failure::ParentProxy { status: Some(403), .. })));
    assert_eq!(parent.hosts(), ["other.test"]);
    // What the session's own policy denies never reaches the proxy.
    session.send(connect.replace("other.test", "denied.test")).await;
    assert_eq!(parent.hosts().len(), 1);
}

#[tokio::test]
async fn a_terminated_connection_goes_through_the_proxy() {
    let (parent, origin) = (Parent::open(), SecureOrigin::echo(H1).await);
    let names = only_proxy();
    let gate = origin.gate().resolver(Arc::clone(&names) as _).parent_proxy(parent.proxy());
    let gate = gate.build().unwrap();
    let session = Session::open_at(&gate, usual(), names);
    let masks = origin.masks(|mask| mask);
    session.network.set_masks(&masks).unwrap();
    let masked = Masked::new(session, masks, &gate, origin.port);
    let answer = masked.send(get("/", &[("x-key", masked.placeholder())])).await;
    assert_eq!(answer.status(), 200);
    let received = origin.received();
    assert_eq!(received.header("x-key"), TOKEN);
    assert_eq!(received.header("proxy-authorization"), "");
    drop(masked);
    assert!(!parent.hosts().is_empty() || parent.network.mark() == EventMark::default());
}
