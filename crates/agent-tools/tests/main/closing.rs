//! Sessions that leave this machine.

use agent_tools::{
    CloseError, CloseMode, ErrorKind, Home, SessionId, SessionSpec, Sessions, SharingError,
    Storage, ToolError,
};
use artifact_sync::internal::list_tree;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use testkit::{Calls, FailingStore, assert_passed};

use crate::session::{Fixture, spec};

/// Set in a rerun with a mount namespace of its own.
const MOUNTED: &str = "AGENT_TOOLS_TEST_MOUNTED";

#[tokio::test]
async fn closing_uploads_removes_and_the_next_open_restores() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let result = session.bash("echo kept > f; ln -s f l; mkdir empty; mkfifo p").await.unwrap();
    assert_eq!(result.skipped.len(), 1, "{result:?}");
    let dir = session.dir().to_owned();
    let closed = fixture.sessions.close(session.id()).await.unwrap();
    assert_eq!(
        closed.skipped.iter().map(|skipped| skipped.path.as_str()).collect::<Vec<_>>(),
        ["p"],
        "files without a copy are reported again"
    );
    assert!(!dir.exists());
    let home = fixture.sessions.home().clone();
    assert!(!home.path().join("state/s1").exists(), "the state leaves with the session");
    assert_eq!(home.sessions().unwrap(), []);
    assert!(session.bash("true").await.is_err(), "a closed session runs nothing");
    drop(session);
    let again = fixture.open("s1").await;
    let ran = again.bash("cat l; ls -d empty").await.unwrap();
    assert_eq!(ran.command_stdout(), "kept\nempty\n");
}

#[tokio::test]
async fn closing_refuses_to_lose_what_the_store_cannot_have() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("touch $'\\xff'; echo 1 > f").await.unwrap();
    let error = fixture.sessions.close(session.id()).await.unwrap_err();
    assert!(matches!(error, CloseError::Unstorable { count: 1, .. }), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Pending, false));
    assert!(session.dir().join("f").exists());
    // The session is usable after the refusal.
    assert_eq!(session.bash("cat f").await.unwrap().command_stdout(), "1\n");
    let closed = fixture.sessions.close_with(session.id(), CloseMode::Discard).await.unwrap();
    assert_eq!(closed.skipped[0].path, "\u{fffd}");
    assert!(!session.dir().exists());
}

#[tokio::test]
async fn closing_refuses_a_mount_point_in_an_ignored_directory_and_removes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let test = "closing::closing_refuses_a_mount_point_in_an_ignored_directory_and_removes_nothing";
    if std::env::var_os(MOUNTED).is_none() {
        // In a mount namespace of its own.
        let mut run = std::process::Command::new("unshare");
        run.arg("--mount").arg(std::env::current_exe().unwrap()).args(["--exact", test]);
        return assert_passed(&run.env(MOUNTED, "1").output().unwrap());
    }
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("mkdir -p node_modules/m; echo 1 > f").await.unwrap();
    let mounted = session.dir().join("node_modules/m");
    let status =
        std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(mounted).status();
    assert!(status.unwrap().success());
    for mode in [CloseMode::KeepPending, CloseMode::Discard] {
        let error = fixture.sessions.close_with(session.id(), mode).await.unwrap_err();
        let CloseError::MountPoint { path, .. } = &error else { panic!("{error}") };
        assert_eq!(path, "node_modules/m");
    }
    let error = fixture.sessions.delete(session.id()).await.unwrap_err();
    assert!(matches!(error, CloseError::MountPoint { .. }), "{error}");
    assert_eq!(session.bash("cat f").await.unwrap().command_stdout(), "1\n");
}

#[tokio::test]
async fn closing_a_session_without_a_store_keeps_the_only_copy_unless_it_is_discarded() {
    let fixture = Fixture::new();
    let local = SessionSpec::new(SessionId::parse("local").unwrap());
    let session = fixture.sessions.open(local.clone()).await.unwrap();
    fixture.sessions.close(session.id()).await.unwrap();
    assert!(!session.dir().exists(), "an empty session has nothing to lose");
    let session = fixture.sessions.open(local).await.unwrap();
    session.bash("echo x > f").await.unwrap();
    let error = fixture.sessions.close(session.id()).await.unwrap_err();
    assert!(matches!(error, CloseError::OnlyCopy { .. }), "{error}");
    assert!(session.dir().join("f").exists());
    fixture.sessions.close_with(session.id(), CloseMode::Discard).await.unwrap();
    assert!(!session.dir().exists());
}

#[tokio::test]
async fn an_interrupted_removal_is_finished_by_the_next_close() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.write_file("f", b"1").await.unwrap();
    let (id, dir) = (session.id().clone(), session.dir().to_owned());
    session.release().await;
    drop(session);
    // As if a process had been killed while it removed the files.
    let closing = dir.with_file_name("s1~closing");
    std::fs::rename(&dir, &closing).unwrap();
    assert_eq!(fixture.sessions.home().sessions().unwrap(), []);
    fixture.sessions.release(&id).await;
    fixture.sessions.close(&id).await.unwrap();
    assert!(!closing.exists() && !fixture.sessions.home().path().join("state/s1").exists());
    let error = fixture.sessions.close(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let again = fixture.open("s1").await;
    assert_eq!(again.read_file("f").await.unwrap().content, "1");
}

/// Returns the keys of all objects of sessions.
async fn session_keys(store: &dyn ObjectStore) -> Vec<String> {
    let listed = list_tree(store, &Key::default()).await.unwrap().objects;
    let keys = listed.into_iter().map(|meta| meta.location.to_string());
    keys.filter(|key| !key.starts_with("probes/")).collect()
}

/// Asserts that the store has one entry of a deleted session, and tombstones for the others.
async fn assert_only_the_deletion_is_recorded(store: &dyn ObjectStore, context: &str) {
    let mut entries = Vec::new();
    for key in session_keys(store).await {
        assert!(key.starts_with("logs/user_7/s1/0"), "{context}: {key}");
        let entry = store.get(&key.as_str().into()).await.unwrap().bytes().await.unwrap();
        if &entry[..] != b"erased\n" {
            entries.push(key);
        }
    }
    assert_eq!(entries.len(), 1, "{context}: {entries:?}");
}

#[tokio::test]
async fn a_deletion_that_is_interrupted_at_any_request_is_finished_by_the_next_one() {
    let (mut at, mut has_failed) = (0, true);
    while has_failed {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().canonicalize().unwrap());
        let store = FailingStore::new();
        let sessions = || {
            let storage = Storage::new(store.clone(), "bucket");
            Sessions::builder(home.clone()).storage(storage).build()
        };
        let id = SessionId::parse("s1").unwrap();
        let first = sessions();
        let session = first.open(spec("s1")).await.unwrap();
        session.bash("echo 1 > f; head -c 40000 /dev/zero > g; rm f").await.unwrap();
        drop(session);
        first.release(&id).await;
        store.fail(Calls::All, at, usize::MAX);
        has_failed = first.delete(&id).await.is_err();
        store.recover();
        drop(first);
        let again = sessions().delete(&id).await;
        assert_eq!(again.is_ok(), has_failed, "{at}: {again:?}");
        assert_only_the_deletion_is_recorded(&*store, &format!("{at}")).await;
        assert_eq!(std::fs::read_dir(home.sessions_root()).unwrap().count(), 0, "{at}");
        assert_eq!(std::fs::read_dir(home.state_root()).unwrap().count(), 0, "{at}");
        at += 1;
    }
    assert!(at > 10, "the deletion was interrupted at {at} requests");
}

#[tokio::test]
async fn what_a_killed_removal_leaves_on_the_disk_is_removed_by_the_next_deletion() {
    let fixture = Fixture::new();
    let id = SessionId::parse("s1").unwrap();
    let home = fixture.sessions.home().clone();
    for has_directory in [true, false] {
        fixture.open("s1").await;
        fixture.sessions.release(&id).await;
        // A process was killed after it had renamed, or removed, the directory.
        let closing = home.sessions_root().join("s1~closing");
        std::fs::rename(home.session_dir(&id), &closing).unwrap();
        if !has_directory {
            std::fs::remove_dir_all(&closing).unwrap();
        }
        fixture.sessions.delete(&id).await.unwrap();
        assert!(!closing.exists() && !home.state_root().join("s1").exists());
        let error = fixture.sessions.delete(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_machine_with_files_of_a_deleted_session_finishes_its_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let store = FailingStore::new();
    let sessions = |name: &str| {
        let storage = Storage::new(store.clone(), "bucket");
        Sessions::builder(Home::new(root.join(name))).storage(storage).build()
    };
    let id = SessionId::parse("s1").unwrap();
    let (here, there) = (sessions("here"), sessions("there"));
    for sessions in [&there, &here] {
        let session = sessions.open(spec("s1")).await.unwrap();
        session.bash("head -c 40000 /dev/urandom > $RANDOM").await.unwrap();
        drop(session);
        sessions.release(&id).await;
    }
    // The deletion is recorded, and its first request after that fails.
    let mut at = 0;
    loop {
        store.fail(Calls::All, at, usize::MAX);
        let deleted = here.delete(&id).await;
        store.recover();
        assert!(deleted.is_err());
        if there.files(&id).await.is_err() {
            break;
        }
        at += 1;
    }
    assert!(session_keys(&*store).await.len() > 3);
    there.delete(&id).await.unwrap();
    assert_only_the_deletion_is_recorded(&*store, "").await;
    assert!(!there.home().session_dir(&id).exists());
}

#[tokio::test]
async fn a_close_that_fails_tells_the_command_it_has_killed_and_the_session_goes_on() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let running = session.bash("touch $'\\xff'; exec sleep 600");
    let closing = async {
        while !std::fs::read_dir(session.dir()).unwrap().any(|_| true) {
            tokio::task::yield_now().await;
        }
        fixture.sessions.close(session.id()).await
    };
    let (ran, closed) = tokio::join!(running, closing);
    assert!(matches!(closed, Err(CloseError::Unstorable { .. })), "{closed:?}");
    let error = ran.unwrap_err();
    let ToolError::Sharing { source } = &error else { panic!("{error:?}") };
    let SharingError::ClosedDuringCall { session: id, by: None, .. } = source else {
        panic!("{error:?}");
    };
    assert_eq!((id, error.kind(), error.is_retryable()), (session.id(), ErrorKind::Closed, false));
    assert_eq!(session.bash("echo on").await.unwrap().command_stdout(), "on\n");
}
