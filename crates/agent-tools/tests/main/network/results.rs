//! Refused connections in results, and the record of connections.

use std::time::Duration;

use agent_tools::{ConnectionOutcome, NetworkSpec};

use super::origin::Origin;
use super::{open, refused, to};
use crate::session::Fixture;

#[tokio::test]
async fn a_result_has_refusals_that_the_program_hides() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let before = session.bash("curl -s http://before.test/ >/dev/null 2>&1; true").await.unwrap();
    assert_eq!(refused(&before), ["before.test:80"]);
    let many = "for n in 1 2 3 4 5 6 7; do curl -s http://$n.test/ >/dev/null; \
                curl -s http://$n.test/ >/dev/null; done";
    let many = session.bash(many).await.unwrap();
    assert_eq!(refused(&many), [1, 2, 3, 4, 5].map(|n| format!("{n}.test:80")));
    assert_eq!(many.denied_omitted, 2);
    assert!(many.notes().contains("denied: and 2 more hosts\n"), "{}", many.notes());
    assert!(!many.denied[0].is_shared);
    // A message alone is no refusal, because the gate knows better.
    let printed = "echo 'curl: (6) Could not resolve host: x.test' >&2; exit 6";
    let printed = session.bash(printed).await.unwrap();
    assert_eq!((refused(&printed).len(), printed.hint), (0, None));
}

#[tokio::test]
async fn refusals_of_overlapping_commands_are_marked() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let wait = |own: &str, other: &str| {
        format!("touch {own}; for i in $(seq 200); do [ -e {other} ] && break; sleep 0.05; done")
    };
    let noisy = format!("{}; curl -s http://denied.test/; touch c", wait("a", "b"));
    let quiet = format!("{}; {}", wait("b", "a"), wait("d", "c"));
    let (noisy, quiet) = tokio::join!(session.bash(&noisy), session.bash(&quiet));
    for output in [noisy.unwrap(), quiet.unwrap()] {
        assert_eq!(refused(&output), ["denied.test:80"]);
        assert!(output.denied[0].is_shared);
        let line = output.notes();
        assert!(line.contains("; another command ran at the same time\n"), "{line}");
        let json = serde_json::to_value(&output).unwrap();
        assert_eq!(json["denied"][0]["shared"], true);
    }
}

#[tokio::test]
async fn connections_are_recorded_without_paths_and_headers() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let get = "curl -sSf -H 'X-Canary: s3cret' 'http://origin.test/?q=s3cret'; \
               curl -s 'http://user:s3cret@denied.test/s3cret'; exit 0";
    session.bash(get).await.unwrap();
    let events = session.network_events();
    let found: Vec<_> = events.iter().map(|event| (event.outcome, event.target())).collect();
    assert_eq!(
        found,
        [
            (ConnectionOutcome::Allowed, "origin.test:80".to_owned()),
            (ConnectionOutcome::Denied, "denied.test:80".to_owned()),
        ]
    );
    assert!(events[0].sent > 20 && events[0].received > 20, "{events:?}");
    assert_eq!(events[0].rule, "allowedDomains has origin.test:80");
    let home = fixture.sessions.home();
    let whole = Duration::from_secs(1);
    let recorded = home.network_events(session.id()).unwrap();
    assert_eq!(recorded.len(), 2);
    for (kept, read) in events.iter().zip(&recorded) {
        assert_eq!((kept.target(), kept.sent, &kept.rule), (read.target(), read.sent, &read.rule));
        assert!(kept.at.duration_since(read.at).unwrap() < whole);
    }
    let file = home.state_root().join("s1/network.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("Canary"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_model_learns_which_hosts_it_can_reach() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let bash = |session: std::sync::Arc<agent_tools::Session>| {
        let tools = session.tools();
        let bash = tools.into_iter().find(|tool| tool.name == "bash").unwrap();
        (bash.description, bash.is_open_world)
    };
    let (text, is_open) = bash(open(&fixture, "s1", to(&origin)).await);
    assert!(text.contains("only these hosts can be reached: origin.test:80. "), "{text}");
    assert!(is_open && !text.contains("no network"), "{text}");
    let (text, is_open) = bash(fixture.open("s2").await);
    assert!(text.contains("There is no network.") && !is_open, "{text}");
}

#[tokio::test]
async fn a_session_without_allowed_hosts_has_no_listeners() {
    let fixture = Fixture::new();
    let session = open(&fixture, "s1", NetworkSpec::new().deny(["a.test"])).await;
    let ran = session.bash("curl -sS http://a.test/; cat /proc/net/tcp /proc/net/tcp6").await;
    let ran = ran.unwrap();
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    let hint = ran.hint.unwrap();
    let remedy = "use --allow-host a.test (network.allowedDomains in settings)";
    assert_eq!(hint, format!("connect a.test: the session has no network; {remedy}"));
    assert_eq!(session.network_events(), []);
    assert!(!fixture.sessions.home().state_root().join("s1/network.jsonl").exists());
}
