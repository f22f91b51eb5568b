//! Sessions in a store that several homes share.

use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    ErrorKind, Home, InputFrom, Lifetime, Ownership, Session, SessionError, Sessions, Spawn,
    Storage, Takeover, ToolError,
};
use artifact_sync::internal::Timings;
use artifact_sync::{GarbageOptions, Undelete};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore};

use crate::session::spec;

/// Homes of several machines that share a store.
struct Machines {
    dir: tempfile::TempDir,
    store: Arc<dyn ObjectStore>,
}

impl Machines {
    fn new() -> Self {
        Self::with_store(Arc::new(InMemory::new()))
    }

    fn with_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store }
    }

    fn home(&self, name: &str) -> Home {
        Home::new(self.dir.path().canonicalize().unwrap().join(name))
    }

    fn sessions(&self, name: &str, takeover: Takeover) -> Sessions {
        self.sessions_with_lease(name, takeover, Duration::from_millis(200))
    }

    fn sessions_with_lease(&self, name: &str, takeover: Takeover, lease: Duration) -> Sessions {
        let ms = Duration::from_millis;
        let timings = Timings {
            beat: ms(100),
            first_beat: ms(50),
            longest_gap: ms(5000),
            lease,
            idle: ms(1000),
        };
        let ownership =
            Ownership::default().takeover(takeover).url(format!("http://{name}")).timings(timings);
        let storage = Storage::new(self.store.clone(), "bucket").with_prefix("general".into());
        Sessions::builder(self.home(name)).storage(storage).ownership(ownership).build()
    }
}

async fn written(session: &Session, path: &str, content: &str) {
    let output = session.write_file(path, content.as_bytes()).await.unwrap();
    assert!(output.entry.is_some(), "{output:?}");
}

/// Waits until a session can be opened.
async fn opened(sessions: &Sessions) -> Arc<Session> {
    loop {
        match sessions.open(spec("s1")).await {
            Ok(session) => return session,
            Err(error) => assert_eq!(error.kind(), ErrorKind::OwnedElsewhere, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_live_owner_is_refused_with_its_address_until_it_releases_the_session() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let busy = async {
        // The session is not idle meanwhile.
        first.bash("read _ < /dev/null; sleep 2; echo 2 > f").await.unwrap()
    };
    let refused = async {
        let error = b.open(spec("s1")).await.unwrap_err();
        let SessionError::OwnedElsewhere { url } = &error else { panic!("{error}") };
        assert_eq!(url.as_deref(), Some("http://a"));
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::OwnedElsewhere, true));
        assert!(!machines.home("b").path().join("state/s1").exists(), "nothing is left");
        assert_eq!(std::fs::read_dir(machines.home("b").sessions_root()).unwrap().count(), 0);
    };
    tokio::join!(busy, refused);
    a.release(first.id()).await;
    let second = b.open(spec("s1")).await.unwrap();
    assert_eq!(second.read_file("f").await.unwrap().content, "2\n");
}

#[tokio::test]
async fn an_idle_session_is_released_and_the_next_call_acquires_it_with_the_new_files() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let second = opened(&b).await;
    written(&second, "f", "2").await;
    let error = first.read_file("f").await.unwrap_err();
    let ToolError::OwnedElsewhere { url, .. } = &error else { panic!("{error}") };
    assert_eq!(url.as_deref(), Some("http://b"));
    assert!(error.is_retryable());
    b.release(second.id()).await;
    assert_eq!(first.read_file("f").await.unwrap().content, "2");
    written(&first, "f", "3").await;
    b.open(spec("s1")).await.unwrap_err();
}

#[tokio::test]
async fn a_call_that_outlasts_the_idle_time_reports_all_its_changes() {
    let machines = Machines::new();
    let first = machines.sessions("a", Takeover::Refuse).open(spec("s1")).await.unwrap();
    let ran = first.bash("echo 1 > early; echo 1 > gone; sleep 3; rm gone; echo 2 > late").await;
    let artifacts = ran.unwrap().artifacts;
    let paths: Vec<&str> = artifacts.iter().map(|made| made.relative_path.as_str()).collect();
    assert_eq!(paths, ["early", "late"]);
}

#[tokio::test]
async fn the_next_call_names_what_a_wrapped_command_left_before_the_release() {
    let machines = Machines::new();
    let first = machines.sessions("a", Takeover::Refuse).open(spec("s1")).await.unwrap();
    let wrapped = first.wrap_command("echo 1 > f").await.unwrap();
    assert!(std::process::Command::new("sh").args(["-c", &wrapped]).status().unwrap().success());
    let log = || first.history(None);
    while log().await.unwrap().iter().all(|entry| entry.changes.is_empty()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ran = first.bash("true").await.unwrap();
    assert_eq!(ran.artifacts.len(), 1, "{ran:?}");
}

#[tokio::test]
async fn an_older_state_is_read_while_another_machine_has_the_session_open() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    let old = first.bash("echo 1 > f").await.unwrap().entry;
    written(&first, "f", "2").await;
    let request = spec("s1");
    let user = request.user.unwrap();
    let path = RelativePath::parse("f").unwrap();
    for (at, content) in [(Some(old), "1\n"), (None, "2")] {
        let view = b.view(&request.id, &user, at).await.unwrap();
        assert_eq!(view.read(&path).await.unwrap(), content.as_bytes());
    }
    let error = b.view(&request.id, &user, Some(99)).await.unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn every_call_of_a_released_session_follows_the_other_machines_first() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    for (turn, name) in ["gc", "restore", "undelete", "sync"].into_iter().enumerate() {
        written(&first, "kept", &format!("a{turn}")).await;
        written(&first, name, "1").await;
        let second = opened(&b).await;
        let ran = second.bash(&format!("rm {name}; echo b > kept")).await.unwrap();
        b.release(second.id()).await;
        match name {
            "gc" => drop(first.collect_garbage(GarbageOptions::default()).await.unwrap()),
            "restore" => {
                let path = RelativePath::parse(name).unwrap();
                first.restore_version(&path, ran.entry - 1).await.unwrap();
            }
            "undelete" => {
                let report = first.undelete(Undelete::LastRemoval).await.unwrap();
                assert_eq!(report.restored.len(), 1, "{report:?}");
            }
            _ => drop(first.sync().await.unwrap()),
        }
        let is_back = first.read_file(name).await.is_ok();
        assert_eq!(is_back, ["restore", "undelete"].contains(&name), "{name}");
        assert_eq!(first.read_file("kept").await.unwrap().content, "b\n", "{name}");
    }
}

#[tokio::test]
async fn a_takeover_kills_running_commands_and_refuses_calls_until_the_session_is_opened_again() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Steal));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let (started, end) = (first.dir().join("started"), Duration::from_secs(60));
    let command = first.bash("echo late > f; touch started; sleep 1000");
    let steal = async {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let second = b.open(spec("s1")).await.unwrap();
        written(&second, "f", "2").await;
        second
    };
    let both = async { tokio::join!(command, steal) };
    let (ran, second) = tokio::time::timeout(end, both).await.expect("the command is killed");
    let error = ran.unwrap_err();
    assert!(matches!(error, ToolError::LeaseLost { has_begun: true, .. }), "{error}");
    assert!(error.to_string().contains("during the call, which may have had effects"), "{error}");
    assert!(!error.to_string().contains("MCP"), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::LeaseLost, false));
    let error = first.write_file("g", b"late").await.unwrap_err();
    assert!(matches!(error, ToolError::LeaseLost { has_begun: false, .. }), "{error}");
    let error = first.read_file("f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let same = "another home, on this machine or another one, took ";
    let unsynced = first.sync().await.unwrap_err();
    assert!(error.to_string().contains(same) && unsynced.to_string().contains(same), "{unsynced}");
    assert!(!first.dir().join("g").exists(), "a lost session changes nothing");
    assert_eq!(std::fs::read_to_string(first.dir().join("f")).unwrap(), "late\n", "it stays");
    assert_eq!(second.read_file("f").await.unwrap().content, "2");
    b.release(second.id()).await;
    let again = opened(&a).await;
    assert_eq!(again.read_file("f").await.unwrap().content, "2");
    let listed = again.bash("cat f*conflict* 2>/dev/null || cat *").await.unwrap();
    assert!(listed.stdout.contains("late"), "the change is kept beside: {listed:?}");
    assert_eq!(first.read_file("f").await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_takeover_ends_a_running_command_within_one_lease() {
    let machines = Machines::new();
    let lease = Duration::from_secs(4);
    let a = machines.sessions_with_lease("a", Takeover::Refuse, lease);
    let b = machines.sessions_with_lease("b", Takeover::Steal, lease);
    let first = a.open(spec("s1")).await.unwrap();
    // The last proof is younger than the session, so no multiple of the lease meets its end.
    tokio::time::sleep(Duration::from_millis(200)).await;
    written(&first, "f", "1").await;
    let second = b.open(spec("s1")).await.unwrap();
    written(&second, "f", "2").await;
    let stolen = tokio::time::Instant::now();
    first.bash("sleep 1000").await.unwrap_err();
    assert!(stolen.elapsed() < lease * 3 / 2, "after {:?}", stolen.elapsed());
}

#[tokio::test]
async fn draining_ends_calls_after_the_grace_period_stores_changes_and_releases() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    let started = first.dir().join("started");
    let command = first.bash("echo 1 > f; touch started; sleep 1000");
    let drain = async {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        a.drain(Duration::from_millis(50)).await
    };
    let (ran, drained) = tokio::join!(command, drain);
    assert!(ran.is_err(), "{ran:?}");
    assert_eq!(drained.len(), 1);
    assert!(drained[0].result.as_ref().unwrap().is_complete(), "{drained:?}");
    let second = b.open(spec("s1")).await.unwrap();
    assert_eq!(second.read_file("f").await.unwrap().content, "1\n");
    assert_eq!(first.read_file("f").await.unwrap_err().kind(), ErrorKind::Closed);
    let error = a.open(spec("s2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

#[tokio::test]
async fn a_session_with_a_wrapped_command_is_not_idle() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let wrapped = first.wrap_command("read line; echo $line > f").await.unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", &wrapped])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(b.open(spec("s1")).await.unwrap_err().kind(), ErrorKind::OwnedElsewhere);
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"2\n").unwrap();
    assert!(child.wait().unwrap().success());
    let second = opened(&b).await;
    // The change was not stored before the release, or it was: never is it lost.
    let found = second.read_file("f").await.unwrap().content;
    b.release(second.id()).await;
    assert_eq!(found, "2\n");
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_process_is_not_idle_and_a_takeover_kills_it() {
    let machines = Machines::new();
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let mut spawn = Spawn::command("read line; while :; do echo x >> g; sleep 0.01; done");
    (spawn.stdin, spawn.lifetime) = (InputFrom::Pipe, Lifetime::Session);
    let mut process = first.spawn(spawn).await.unwrap();
    let _stdin = process.take_stdin();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(b.open(spec("s1")).await.unwrap_err().kind(), ErrorKind::OwnedElsewhere);
    let thief = machines.sessions("c", Takeover::Steal).open(spec("s1")).await.unwrap();
    written(&thief, "f", "2").await;
    let error = process.wait().await.unwrap_err();
    assert!(matches!(error, ToolError::LeaseLost { has_begun: true, .. }), "{error:?}");
}

#[tokio::test]
async fn a_call_that_cannot_acquire_the_session_says_that_it_did_not_begin() {
    let store = FailingStore::new();
    let machines = Machines::with_store(store.clone());
    let (a, b) =
        (machines.sessions("a", Takeover::Refuse), machines.sessions("b", Takeover::Refuse));
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    let second = opened(&b).await;
    b.release(second.id()).await;
    store.fail(Calls::All, 0, usize::MAX);
    let error = first.bash("touch ran").await.unwrap_err();
    assert!(matches!(error, ToolError::NotBegun { .. }), "{error:?}");
    assert!(error.message().contains("did not begin"), "{}", error.message());
    assert!(!first.dir().join("ran").exists());
}

#[tokio::test]
async fn a_call_that_changes_nothing_says_if_the_store_did_not_confirm_it() {
    let store = FailingStore::new();
    let machines = Machines::with_store(store.clone());
    let a = machines.sessions("a", Takeover::Refuse);
    let first = a.open(spec("s1")).await.unwrap();
    written(&first, "f", "1").await;
    store.fail(Calls::All, 0, usize::MAX);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let read = first.read_file("f").await.unwrap();
    assert!(read.content == "1" && read.unconfirmed.is_some(), "{read:?}");
    let ran = first.bash("cat f").await.unwrap();
    assert!(ran.unconfirmed.is_some() && ran.notes().contains("another machine"), "{ran:?}");
    let ran = first.bash("echo 2 > f").await.unwrap();
    assert!(ran.unconfirmed.is_none() && ran.pending.len() == 1, "{ran:?}");
}
