//! Rules that change, users who decide, and networks that begin and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_tools::policy::Host;
use agent_tools::{Answer, Ask, ConnectionOutcome, ErrorKind, NetworkSpec, SessionSpec, Tier};

use super::origin::Origin;
use super::{open, refused, to};
use crate::session::{Fixture, spec};

/// Waits until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it takes for ever");
}

const GET: &str = "curl -sSf http://origin.test/";

#[tokio::test]
async fn rules_change_under_a_running_command() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let running = {
        let session = Arc::clone(&session);
        tokio::spawn(async move { session.bash("curl -sS http://origin.test/slow").await })
    };
    until(|| !origin.requests().is_empty()).await;
    session.set_network(NetworkSpec::new()).await.unwrap();
    let cut = running.await.unwrap().unwrap();
    assert_ne!(cut.exit_code, 0);
    assert_eq!(refused(&cut), ["origin.test:80"]);
    let denied = session.bash(GET).await.unwrap();
    assert_eq!(refused(&denied), ["origin.test:80"]);
    let again = to(&origin).expose(format!("web=127.0.0.1:{}", origin.port).parse().unwrap());
    session.set_network(again).await.unwrap();
    assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n");
    let exposed = format!("curl -sSf http://web.host.internal:{}/", origin.port);
    assert_eq!(session.bash(&exposed).await.unwrap().stdout, "hello\n");
    let error = session.set_network(NetworkSpec::allow(["*"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n", "the rules stay");
}

#[tokio::test]
async fn an_open_session_follows_the_network_of_the_next_opening() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = fixture.open("s1").await;
    assert_ne!(session.bash(GET).await.unwrap().exit_code, 0);
    let same = open(&fixture, "s1", to(&origin)).await;
    assert!(Arc::ptr_eq(&session, &same));
    assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n");
    fixture.open("s1").await;
    let ran = session.bash(GET).await.unwrap();
    assert_eq!(ran.stdout, "hello\n", "a request without a network changes nothing");
    open(&fixture, "s1", NetworkSpec::new()).await;
    assert_eq!(refused(&session.bash(GET).await.unwrap()), ["origin.test:80"]);
    // Another sandbox of the session has the rules too.
    open(&fixture, "s1", to(&origin)).await;
    session.release().await;
    assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n");
}

#[tokio::test]
async fn a_session_that_could_not_be_closed_keeps_its_network() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let spec = SessionSpec::new(spec("s1").id).network(to(&origin));
    let session = fixture.sessions.open(spec).await.unwrap();
    session.bash("echo x > f").await.unwrap();
    session.close().await.unwrap_err();
    assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n");
}

/// A user who allows one host.
#[derive(Debug, Default)]
struct User(AtomicUsize);

#[async_trait::async_trait]
impl Ask for User {
    async fn ask(&self, host: &Host, port: u16) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        let allows = host.as_name() == Some("origin.test") && port == 80;
        if allows { Answer::Allow } else { Answer::Deny }
    }
}

#[tokio::test]
async fn a_user_decides_about_hosts_that_no_list_has() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let user = Arc::new(User::default());
    let NetworkSpec { resolved, .. } = to(&origin);
    let mut network = NetworkSpec::new().deny(["no.test"]).ask(user.clone());
    network.resolved = resolved;
    let session = open(&fixture, "s1", network).await;
    for _ in 0..2 {
        assert_eq!(session.bash(GET).await.unwrap().stdout, "hello\n");
        let denied = session.bash("curl -s http://denied.test/; curl -s http://no.test/").await;
        let denied = denied.unwrap();
        assert_eq!(refused(&denied), ["denied.test:80", "no.test:80"]);
        assert_eq!(denied.denied[0].rule, "the user denied it");
    }
    assert_eq!(user.0.load(Ordering::Relaxed), 2);
    let allowed = session.network_events().into_iter();
    let allowed = allowed.filter(|event| event.outcome == ConnectionOutcome::Allowed);
    assert!(allowed.map(|event| event.rule).all(|rule| rule == "the user allowed it"));
}

#[tokio::test]
async fn an_engine_without_a_network_refuses_hosts_by_name() {
    let (fixture, origin) = (Fixture::with(|builder| builder.tier(LANDLOCK)), Origin::start());
    let error = fixture.sessions.open(spec("s1").network(to(&origin))).await.unwrap_err();
    let text = agent_tools::with_causes(&error);
    assert!(text.contains("network.allowedDomains names domains"), "{text}");
    let user = NetworkSpec::new().ask(Arc::new(User::default()));
    let error = fixture.sessions.open(spec("s1").network(user)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sandbox, "{error}");
}

const LANDLOCK: Tier = Tier::Landlock { accepted: Vec::new() };
