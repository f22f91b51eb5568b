//! The upkeep of sessions: their list, idle release, pruning, and requirements of commands.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent_tools::secrets::{LoadedVariables, SecretString, SourceError};
use agent_tools::{
    BashOptions, ErrorKind, Home, PruneOptions, SessionId, Sessions, SessionsBuilder, Storage,
    ToolError, UserId, VariableSource,
};
use testkit::{Calls, FailingStore};

use crate::session::{Fixture, spec};

#[tokio::test]
async fn sessions_are_listed_with_their_users_ages_sizes_and_pending_changes() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("head -c 100000 /dev/urandom > f").await.unwrap();
    let user = UserId::parse("7").unwrap();
    let listed = fixture.sessions.list(Some(&user)).await.unwrap();
    let overview = &listed[0];
    assert_eq!((overview.id.as_str(), overview.user.as_ref()), ("s1", Some(&user)));
    assert!(overview.bytes >= 100_000 && overview.files == 1, "{overview:?}");
    let (created, used) = (overview.created.unwrap(), overview.last_used.unwrap());
    assert!(created <= used && used <= SystemTime::now());
    assert!(overview.status.as_ref().unwrap().pending.is_empty());
    let other = UserId::parse("8").unwrap();
    assert!(fixture.sessions.list(Some(&other)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_idle_session_is_released_and_the_next_call_opens_it_again() {
    let fixture = Fixture::with(|builder| builder.idle_release(Duration::from_millis(200)));
    let session = fixture.open("s1").await;
    let running = session.bash("echo 1 > f; touch /tmp/t; sleep 0.6; ls /tmp/t").await.unwrap();
    assert_eq!(running.command_stdout(), "/tmp/t\n", "a running call keeps the session");
    assert!(fixture.sessions.release_idle(Duration::from_secs(60)).await.is_empty());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!session.exists("/tmp/t").await.unwrap(), "it has another /tmp");
    assert_eq!(session.bash("cat f").await.unwrap().command_stdout(), "1\n");
}

#[tokio::test]
async fn pruning_keeps_open_sessions_and_everything_that_is_pending() {
    let (dir, store) = (tempfile::tempdir().unwrap(), FailingStore::new());
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home)
        .storage(Storage::new(store.clone(), "bucket"))
        .patience(Duration::from_millis(100))
        .build();
    for id in ["open", "stored", "pending"] {
        sessions.open(spec(id)).await.unwrap().bash("echo 1 > f").await.unwrap();
    }
    for id in ["stored", "pending"] {
        sessions.release(&id.parse().unwrap()).await;
    }
    let dir = sessions.home().session_dir(&"pending".parse().unwrap());
    std::fs::write(dir.join("new"), "x").unwrap();
    std::fs::create_dir(dir.join("node_modules")).unwrap();
    std::fs::write(dir.join("node_modules/a"), "x").unwrap();
    store.fail(Calls::All, 0, usize::MAX);
    let mut options = PruneOptions::default();
    assert!(sessions.prune(&options).await.unwrap().closed.is_empty());
    options.unused_for = Some(Duration::ZERO);
    options.is_dry_run = true;
    let dry = sessions.prune(&options).await.unwrap();
    assert!(dry.failed.iter().any(|(id, _)| id.as_str() == "pending"), "{dry:?}");
    options.is_dry_run = false;
    let report = sessions.prune(&options).await.unwrap();
    let has = |of: &[(SessionId, String)], wanted| of.iter().any(|(id, _)| id.as_str() == wanted);
    assert!(has(&report.kept, "open") && has(&report.failed, "pending"), "{report:?}");
    assert!(dir.join("new").exists());
    store.recover();
    options.is_dry_run = true;
    let dry = sessions.prune(&options).await.unwrap();
    assert!(dir.exists());
    options.is_dry_run = false;
    let report = sessions.prune(&options).await.unwrap();
    assert_eq!(dry, report);
    assert_eq!((report.kept.len(), report.kept[0].0.as_str()), (1, "open"), "{report:?}");
    assert!(report.kept[0].1.contains("open"), "{report:?}");
    let ignored = report.closed.iter().flat_map(|(_, closed)| &closed.ignored);
    assert_eq!(ignored.map(|one| &*one.relative_path).collect::<Vec<_>>(), ["node_modules"]);
    assert!(!dir.exists());
}

/// Variables that are there, or not.
#[derive(Debug)]
struct Source(&'static [&'static str]);

#[async_trait::async_trait]
impl VariableSource for Source {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let mut loaded = LoadedVariables::default();
        for &name in self.0 {
            loaded.insert(name, SecretString::from("value"));
        }
        Ok(loaded)
    }
}

#[tokio::test]
async fn a_command_with_an_absent_variable_or_too_long_a_limit_does_not_run() {
    let change = |builder: SessionsBuilder| {
        builder.variables(Arc::new(Source(&["HERE"]))).max_timeout(Duration::from_secs(5))
    };
    let fixture = Fixture::with(change);
    let required = spec("s1").require_variables(["HERE", "ABSENT"]);
    let session = fixture.sessions.open(required).await.unwrap();
    let error = session.bash("touch ran").await.unwrap_err();
    assert!(matches!(&error, ToolError::MissingVariables { names, .. } if names == &["ABSENT"]));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().ends_with("have no value: ABSENT (not set)"), "{}", error.message());
    assert!(!session.exists("ran").await.unwrap());
    let session = fixture.sessions.open(spec("s2").require_variables(["HERE"])).await.unwrap();
    session.bash("true").await.unwrap();
    let mut options = BashOptions::default();
    options.timeout = Some(Duration::from_secs(6));
    let error = session.bash_with("true", options).await.unwrap_err();
    assert!(error.message().contains("at most 5 s"), "{}", error.message());
}

#[tokio::test]
async fn calls_are_recorded_also_if_they_are_cancelled() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("cat /etc/shadow").await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(100), session.bash("sleep 9"));
    assert!(cancelled.await.is_err());
    session.rename("none", "x").await.unwrap_err();
    let calls = fixture.sessions.home().calls(session.id()).unwrap();
    let subjects: Vec<_> = calls.iter().map(|call| call.subject.as_str()).collect();
    assert_eq!(subjects, ["cat /etc/shadow", "sleep 9", "none → x"]);
    assert_eq!(calls[0].exit_code, Some(1));
    assert!(calls[0].hint.as_deref().unwrap().starts_with("read /etc/shadow: "));
    assert!(calls[1].error.as_deref().unwrap().contains("cancelled"));
    assert!(calls[1].took >= Duration::from_millis(90));
    assert!(calls[2].error.as_deref().unwrap().contains("none"));
}
