//! One session in several `Sessions` of one process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    BashOptions, CloseMode, Difference, ErrorKind, Home, LineRange, RemovalMode, Session,
    SessionError, SessionId, SessionSpec, Sessions, SharingError, Storage, ToolError, UserId,
    WorkspaceError,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

struct Fixture {
    _dir: tempfile::TempDir,
    home: Home,
    store: Arc<InMemory>,
}

fn id() -> SessionId {
    SessionId::parse("s1").unwrap()
}

fn spec() -> SessionSpec {
    SessionSpec::new(id()).user(UserId::parse("7").unwrap())
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
        Self { _dir: dir, home, store: Arc::default() }
    }

    fn sessions(&self) -> Sessions {
        let storage = Storage::new(self.store.clone(), "bucket");
        Sessions::builder(self.home.clone()).storage(storage).build()
    }

    async fn open(&self) -> Arc<Session> {
        self.sessions().open(spec()).await.unwrap()
    }
}

#[tokio::test]
async fn a_second_value_uses_the_session_of_the_first_one() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    assert!(!first.is_served_elsewhere() && second.is_served_elsewhere());
    assert_eq!((first.dir(), first.user()), (second.dir(), second.user()));
    assert_eq!(first.report(), second.report());
    assert_eq!(first.change_source().is_some(), second.change_source().is_some());
    first.bash("echo private > /tmp/x").await.unwrap();

    let mut options = BashOptions::default();
    options.stdin = b"\xff input".repeat(20_000);
    let ran = second.bash_with("wc -c; cat /tmp/x; echo 1 > f; cat /etc/shadow", options).await;
    let ran = ran.unwrap();
    assert_eq!(ran.command_stdout(), "140000\nprivate\n");
    assert_eq!(ran.artifacts[0].key.as_deref(), Some("bucket/user_7/sessions/s1/f"));
    assert!(ran.hint.as_deref().unwrap().starts_with("read /etc/shadow: "), "{:?}", ran.hint);
    let mut timed = BashOptions::default();
    timed.timeout = Some(Duration::from_millis(50));
    let late = second.bash_with("cat /dev/zero > /dev/null", timed).await.unwrap();
    assert!(late.timed_out && late.exit_code == 124);

    let content = "line\n".repeat(500_000);
    let written = second.write_file("d/large", content.as_bytes()).await.unwrap();
    assert_eq!(written.key.as_deref(), Some("bucket/user_7/sessions/s1/d/large"));
    assert_eq!(second.read_file("d/large").await.unwrap().content, content);
    let range = LineRange { first: 2, last: Some(2) };
    let part = second.read_file_lines("d/large", Some(range)).await.unwrap();
    assert_eq!((part.content.as_str(), part.total_lines), ("line\n", Some(500_000)));
    second.write_file("binary", b"\xff\x00").await.unwrap();
    assert_eq!(second.read_file("binary").await.unwrap().encoding, Some("base64"));
    let called = second.call("readFile", serde_json::json!({ "path": "f" })).await.unwrap();
    assert_eq!(called["content"], "1\n");

    let error = second.read_file("../x").await.unwrap_err();
    assert!(matches!(error, ToolError::Path { .. }), "{error}");
    let error = second.read_file("none").await.unwrap_err();
    let local = first.read_file("none").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (local.kind(), local.message()));
    assert_eq!(error.is_retryable(), local.is_retryable());

    let wrapped = second.wrap_command("cat /tmp/x").await.unwrap();
    let output = tokio::process::Command::new("sh").args(["-c", &wrapped]).output().await.unwrap();
    assert_eq!(output.stdout, b"private\n");
    std::fs::write(second.dir().join("host"), "h").unwrap();
    let synced = second.sync().await.unwrap();
    assert_eq!((synced.changed.len(), synced.changed[0].path.as_str()), (1, "host"));
    assert!(second.refresh(RemovalMode::HoldBackMany).await.unwrap().failed.is_empty());
    assert_eq!(second.pull("bucket/user_7/sessions/s1/f").await.unwrap().unwrap().as_str(), "f");
    let foreign = second.pull("bucket/user_8/sessions/s1/f").await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn concurrent_calls_of_both_values_run_in_parallel() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    first.bash("mkfifo there back").await.unwrap();
    // Each waits for the other one.
    let (a, b) = tokio::join!(
        first.bash("echo to > there; cat back"),
        second.bash("cat there; echo from > back"),
    );
    assert_eq!(a.unwrap().command_stdout(), "from\n");
    assert_eq!(b.unwrap().command_stdout(), "to\n");
    let many = (0..20).map(|number| {
        let second = Arc::clone(&second);
        tokio::spawn(async move {
            second.bash(&format!("echo {number}")).await.unwrap().command_stdout().to_owned()
        })
    });
    for (number, call) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), format!("{number}\n"));
    }
}

#[tokio::test]
async fn the_second_value_takes_over_when_the_first_one_is_dropped_or_released() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    first.bash("touch /tmp/x; echo 1 > f").await.unwrap();
    drop(first);
    assert_eq!(second.bash("cat f; ls /tmp").await.unwrap().command_stdout(), "1\n");
    assert!(!second.is_served_elsewhere());
    let third = fixture.open().await;
    assert!(third.is_served_elsewhere());
    second.release().await;
    assert_eq!(third.bash("cat f").await.unwrap().command_stdout(), "1\n");
    assert!(!third.is_served_elsewhere());
    // The released handle comes back as a client.
    assert_eq!(second.bash("cat f").await.unwrap().command_stdout(), "1\n");
    assert!(second.is_served_elsewhere());
}

#[tokio::test]
async fn dropping_the_first_value_keeps_the_calls_of_the_second_one() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    let pipe = first.dir().join("pipe");
    let call = {
        let second = Arc::clone(&second);
        tokio::spawn(async move { second.bash("mkfifo p && mv p pipe && cat pipe").await })
    };
    while !pipe.exists() {
        tokio::task::yield_now().await;
    }
    drop(first);
    tokio::fs::write(&pipe, "kept\n").await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().command_stdout(), "kept\n");
}

#[tokio::test]
async fn dropping_a_call_of_the_second_value_kills_its_command() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    let begun = first.dir().join("begun");
    let call = tokio::spawn({
        let second = Arc::clone(&second);
        // The lock is free when the command has ended.
        let command = "exec 9> lock; flock 9; touch begun; cat /dev/zero > /dev/null";
        async move { second.bash(command).await }
    });
    while !begun.exists() {
        tokio::task::yield_now().await;
    }
    call.abort();
    let next = first.bash("exec 9> lock; flock 9 && echo free").await.unwrap();
    assert_eq!(next.command_stdout(), "free\n");
}

#[tokio::test]
async fn closing_by_one_value_closes_the_session_of_all() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.sessions(), fixture.sessions());
    let first = one.open(spec()).await.unwrap();
    let second = other.open(spec()).await.unwrap();
    second.bash("echo 1 > f").await.unwrap();
    other.close(&id()).await.unwrap();
    assert!(!first.dir().exists());
    for session in [&first, &second] {
        let error = session.bash("true").await.unwrap_err();
        assert!(
            matches!(error, ToolError::Sharing { source: SharingError::Closed { .. } }),
            "{error}"
        );
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Closed, false));
    }
    let again = one.open(spec()).await.unwrap();
    assert_eq!(again.bash("cat f").await.unwrap().command_stdout(), "1\n");
}

#[tokio::test]
async fn deleting_by_one_value_deletes_the_session_of_all_and_says_so() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.sessions(), fixture.sessions());
    let first = one.open(spec()).await.unwrap();
    let second = other.open(spec()).await.unwrap();
    second.bash("echo 1 > f").await.unwrap();
    other.delete(&id()).await.unwrap();
    for session in [&first, &second] {
        let error = session.bash("true").await.unwrap_err();
        assert!(
            matches!(error, ToolError::Sharing { source: SharingError::Deleted { .. } }),
            "{error}"
        );
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Closed, false));
    }
    assert_eq!(one.open(spec()).await.unwrap().bash("ls").await.unwrap().command_stdout(), "");
}

#[tokio::test]
async fn a_value_with_other_settings_is_refused() {
    let fixture = Fixture::new();
    let first = fixture.open().await;
    // Every session shows this directory, unless it belongs to the application.
    let path = PathBuf::from("/usr/share");
    let storage = Storage::new(fixture.store.clone(), "bucket");
    let sessions =
        Sessions::builder(fixture.home.clone()).storage(storage).application_dir(&path).build();
    let error = sessions.open(spec()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Differs, false));
    let SessionError::Workspace {
        source: WorkspaceError::Sharing { source: SharingError::Differs { what, .. } },
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(what, [Difference::VisibleDirectory { path }]);
    // A directory that the server hides too makes no difference.
    let storage = Storage::new(fixture.store.clone(), "bucket");
    let same = Sessions::builder(fixture.home.clone())
        .storage(storage)
        .application_dir("/srv/application")
        .build();
    assert!(same.open(spec()).await.unwrap().is_served_elsewhere());
    drop(first);
}

#[tokio::test]
async fn files_and_summary_work_with_and_without_a_server() {
    let fixture = Fixture::new();
    let sessions = fixture.sessions();
    let missing = sessions.summary(&id()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let server = fixture.open().await;
    server.bash("echo 1 > f").await.unwrap();
    for is_served in [true, false] {
        if !is_served {
            server.release().await;
        }
        std::fs::write(server.dir().join("new"), is_served.to_string()).unwrap();
        let summary = sessions.summary(&id()).await.unwrap();
        assert_eq!(summary.user, Some(UserId::parse("7").unwrap()));
        let status = summary.status.unwrap();
        assert_eq!(status.pending[0].path.as_str(), "new");
        assert!(status.entry > 0 && status.owner.is_some() == is_served, "{status:?}");
        let files = sessions.files(&id()).await.unwrap();
        assert_eq!((files.user(), files.dir()), (server.user(), server.dir()));
        assert_eq!(files.status().await.unwrap().pending.len(), 1);
        let synced = files.sync().await.unwrap();
        assert_eq!(synced.changed[0].path.as_str(), "new");
        assert!(files.refresh(RemovalMode::HoldBackMany).await.unwrap().failed.is_empty());
        assert!(files.pull("user_7/sessions/s1/f").await.unwrap().is_some());
        if !is_served {
            // The files hold the lock. A description does not wait for it.
            assert_eq!(sessions.summary(&id()).await.unwrap().status, None);
            files.close_with(CloseMode::KeepPending).await.unwrap();
            assert!(!server.dir().exists());
            assert!(!fixture.home.path().join("state/s1").exists(), "the state goes too");
        }
    }
}

#[tokio::test]
async fn a_second_value_closes_with_a_report_and_deletes_for_good() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open().await, fixture.open().await);
    first.bash("mkdir node_modules && echo 12345 > node_modules/m; mkfifo p").await.unwrap();
    let closed = second.close_with(CloseMode::KeepPending).await.unwrap();
    let ignored = &closed.ignored[0];
    assert_eq!(
        (ignored.relative_path.as_str(), ignored.files, ignored.bytes),
        ("node_modules", 1, 6)
    );
    assert_eq!((closed.ignored.len(), closed.skipped[0].path.as_str()), (1, "p"));
    drop((first, second));

    let (first, second) = (fixture.open().await, fixture.open().await);
    first.bash("echo 1 > f").await.unwrap();
    second.delete().await.unwrap();
    assert_eq!(first.bash("true").await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!first.dir().exists() && !fixture.home.path().join("state/s1").exists());
    let prefix = Key::from("user_7/sessions/s1");
    let left = fixture.store.list_with_delimiter(Some(&prefix)).await.unwrap();
    assert_eq!(left.objects, []);
    drop((first, second));
    let anew = fixture.open().await;
    assert!(!anew.dir().join("f").exists(), "a deleted id begins anew, and empty");
    assert!(!anew.dir().join("node_modules").exists());
}
