//! Sessions that leave this machine.

use agent_tools::{CloseError, CloseMode, ErrorKind, SessionId, SessionSpec};

use crate::session::Fixture;

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
