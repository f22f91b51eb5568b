//! Limits of a session that the host sets.

use std::time::Duration;

use agent_tools::Limits;

use crate::session::Fixture;

#[tokio::test]
async fn a_call_reports_that_the_session_directory_is_too_large() {
    let mut limits = Limits::default();
    limits.session_files = 50;
    let fixture = Fixture::with(|builder| builder.limits(limits));
    let session = fixture.open("s1").await;
    assert_eq!(session.bash("touch file").await.unwrap().limit_reached, None);
    let filled = session.bash("mkdir d && touch d/{1..60} && sync d").await.unwrap();
    assert_eq!((filled.exit_code, filled.limit_reached), (0, Some("sessionSize")));
    let notes = filled.notes();
    assert!(notes.contains("limit reached: size of the session directory\n"), "{notes}");
    let removed = session.bash("rm -r d").await.unwrap();
    assert_eq!((removed.exit_code, removed.limit_reached), (0, None));
}

#[tokio::test]
async fn a_full_tmp_is_named_with_its_room() {
    let mut limits = Limits::default();
    limits.tmp_mib = 1;
    let fixture = Fixture::with(|builder| builder.limits(limits));
    let session = fixture.open("s1").await;
    let ran = session.bash("head -c 2M /dev/zero > /tmp/f").await.unwrap();
    let hint = ran.hint.unwrap_or_default();
    assert!(hint.starts_with("/tmp has room for 1 MiB and "), "{}: {hint}", ran.stderr);
}

#[tokio::test]
async fn a_file_that_would_exceed_the_session_directory_is_not_written() {
    let mut limits = Limits::default();
    (limits.session_files, limits.session_bytes) = (30, 1 << 20);
    let fixture = Fixture::with(|builder| builder.limits(limits));
    let session = fixture.open("s1").await;
    session.write_file("large", &[b'x'; 600_000]).await.unwrap();
    let refused = session.write_file("second", &[b'x'; 600_000]).await.unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("would exceed its limit"), "{refused}: {cause}");
    assert!(!session.dir().join("second").exists());
    // A file of the same size takes no more room.
    session.write_file("large", &[b'y'; 600_000]).await.unwrap();
    session.write_file("large", b"small").await.unwrap();
    session.write_file("second", &[b'x'; 600_000]).await.unwrap();
    let mut written = 0;
    while session.write_file(&format!("d/{written}"), b"x").await.is_ok() {
        written += 1;
        assert!(written < 30, "the number of files is limited");
    }
    assert!(written > 10, "{written}");
    assert!(session.write_file("a/b/c/d", b"x").await.is_err());
    session.write_file("large", b"other").await.unwrap();
    session.bash("rm -r d").await.unwrap();
    session.write_file("a/b/c/d", b"x").await.unwrap();
}

#[tokio::test]
async fn changes_beyond_the_upload_queue_are_pending_with_the_reason() {
    let fixture = Fixture::with(|builder| builder.max_queued_bytes(1000));
    let session = fixture.open("s1").await;
    let ran = session.bash("truncate -s 800 a; truncate -s 800 b").await.unwrap();
    let reasons: Vec<&str> = ran.pending.iter().map(|group| group.reason.as_str()).collect();
    assert_eq!(reasons, ["more than 1000 bytes would wait for upload"], "{}", ran.notes());
    let again = session.bash("true").await.unwrap();
    assert_eq!((again.pending.len(), again.artifacts.len()), (0, 1), "{}", again.notes());
}

#[tokio::test]
async fn processes_outlive_the_shell_for_as_long_as_the_host_says() {
    let fixture = Fixture::with(|builder| builder.linger(Duration::from_secs(100)));
    let session = fixture.open("s1").await;
    let ran = session.bash("(sleep 0.6; echo late) & echo early").await.unwrap();
    assert_eq!((ran.command_stdout(), ran.killed.len()), ("early\nlate\n", 0));
    // A wrapped command gets this time as a whole, also without output.
    let line = session.wrap_command("(sleep 0.6; touch late) & true").await.unwrap();
    let status = tokio::process::Command::new("sh").args(["-c", &line]).status().await.unwrap();
    assert!(status.success() && session.dir().join("late").exists());
}
