//! Fixed destinations, and hosts about which the user is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use egress::{Answer, Ask, Denial, Destinations, Limits, Outcome};
use policy::{Host, Rule};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Names, Origin, Session, exactly, policy, soon};

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

fn get(to: &str) -> String {
    format!("GET http://{to}/ HTTP/1.0\r\n\r\n")
}

/// Opens a session in which no name has an address.
fn open(allowed: &[&str]) -> Session {
    Session::open_with(policy(allowed, &[]), Names::new(&[]), Limits::default())
}

#[tokio::test]
async fn a_fixed_address_counts_for_its_name_and_port_and_allows_no_name() {
    let (session, origin) = (open(&["a.test"]), Origin::hello().await);
    let here = format!("127.0.0.1:{}", origin.port).parse().unwrap();
    let fixed = Destinations::new().resolve(host("a.test"), 80, here);
    session.network.set_destinations(fixed.resolve(host("denied.test"), 80, here));
    assert!(session.send(get("a.test")).await.ends_with("hello"));
    assert_eq!(session.names.asked(), [""; 0], "no resolver is asked");
    assert!(session.send(get("denied.test")).await.contains(" 403 "));
    assert!(session.send(get("a.test:81")).await.contains(" 502 "));
    assert_eq!(session.names.asked(), ["a.test"]);
}

#[tokio::test]
async fn the_loopback_of_the_host_is_reached_by_an_exposed_name_only() {
    let origin = Origin::hello().await;
    let db = format!("db.host.internal:{}", origin.port);
    let rebound: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new(&[("localhost", rebound), ("db.lan", rebound)]);
    let allowed = [&*db, &format!("lan.host.internal:{}", origin.port), "a.test"];
    let session = Session::open_with(policy(&allowed, &[]), names, Limits::default());
    let fixed = Destinations::new()
        .expose(host("db.host.internal"), origin.port, host("localhost"))
        .expose(host("lan.host.internal"), origin.port, host("db.lan"));
    session.network.set_destinations(fixed);
    assert!(session.send(get(&db)).await.ends_with("hello"));
    let rebound = session.send(get(allowed[1])).await;
    assert!(rebound.contains("it leads to 127.0.0.1, a loopback address"), "{rebound}");
    let own = session.send(get(&format!("localhost:{}", origin.port))).await;
    assert!(own.contains(" 403 "), "{own}");
}

#[tokio::test]
async fn a_connection_is_cut_when_its_address_is_approved_no_more() {
    let (session, origin) = (open(&["a.test"]), Origin::echo().await);
    let here = format!("127.0.0.1:{}", origin.port).parse().unwrap();
    let fixed = Destinations::new().resolve(host("a.test"), 443, here);
    session.network.set_destinations(fixed.clone());
    let mut tunnel = session.tunnel("a.test:443").await;
    tunnel.write_all(b"\0a").await.unwrap();
    assert_eq!(exactly(&mut tunnel, 2).await, b"\0a");
    session.network.set_policy(policy(&["a.test"], &["b.test"]));
    session.network.set_destinations(fixed);
    tunnel.write_all(b"b").await.unwrap();
    assert_eq!(exactly(&mut tunnel, 1).await, b"b");
    session.network.set_destinations(Destinations::new());
    soon(tunnel.read(&mut [0])).await.unwrap_err();
    assert!(session.denial().contains("it leads to 127.0.0.1"));
}

/// A user who allows `yes.test`, and counts the questions.
#[derive(Debug, Default)]
struct User(AtomicUsize);

#[async_trait]
impl Ask for User {
    async fn ask(&self, host: &Host, _: u16) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if host.as_name() == Some("yes.test") { Answer::Allow } else { Answer::Deny }
    }
}

#[tokio::test]
async fn the_user_is_asked_once_about_a_host_that_no_rule_names() {
    let (session, origin) = (open(&["a.test"]), Origin::hello().await);
    let here = format!("127.0.0.1:{}", origin.port).parse().unwrap();
    let fixed = Destinations::new().resolve(host("yes.test"), 80, here);
    session.network.set_destinations(fixed);
    let user = Arc::new(User::default());
    session.network.set_ask(Some(user.clone()));
    let (one, two) = tokio::join!(session.send(get("yes.test")), session.send(get("yes.test")));
    assert!(one.ends_with("hello") && two.ends_with("hello"), "{one} {two}");
    assert_eq!(user.0.load(Ordering::Relaxed), 1);
    let events = session.wait_for_events(2).await;
    assert_eq!(events[0].outcome, Outcome::Allowed(Rule::Answered));

    for _ in 0..2 {
        let no = session.send(get("no.test")).await;
        assert!(no.contains(" 403 ") && no.contains("the user denied it"), "{no}");
    }
    assert_eq!(user.0.load(Ordering::Relaxed), 2);
    assert_eq!(session.events()[2].outcome, Outcome::Denied(Denial::Answer));

    // Questions that an answer cannot settle are not asked.
    for target in ["127.0.0.1", "169.254.169.254", "localhost", "198.18.0.9"] {
        assert!(session.send(get(target)).await.contains(" 403 "), "{target}");
    }
    // A rule takes precedence over an answer.
    session.network.set_policy(policy(&["a.test"], &["yes.test"]));
    assert!(session.send(get("yes.test")).await.contains(" 403 "));
    assert_eq!(user.0.load(Ordering::Relaxed), 2);
}
