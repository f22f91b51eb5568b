//! The limits on bytes and files of the session directory.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use sandbox_core::{CommandOutput, CommandStatus, Limit, Limits, NativeSandbox, Sandbox};

use crate::fixture::{Fixture, fixture, open_with, spec, without_namespaces};

/// Opens a sandbox of the fixture with 8 MiB and 100 files.
fn limited(fixture: &Fixture) -> NativeSandbox {
    let mut limits = Limits::default();
    (limits.session_bytes, limits.session_files) = (8 << 20, 100);
    open_with(&fixture.policy(), &fixture.dir, &limits)
}

async fn run(sandbox: &NativeSandbox, command: &str) -> CommandOutput {
    sandbox.exec(spec(command)).await.unwrap()
}

/// Commands that never end by themselves.
const FILLS: &str = "while :; do head -c 1M /dev/zero >> filled; sleep 0.1; done";
const CREATES: &str = "while :; do : > $((n += 1)); sleep 0.01; done";
const KILLED: CommandStatus = CommandStatus::Signaled(9);

#[tokio::test]
async fn a_command_that_fills_the_session_directory_is_ended() {
    let fixture = fixture();
    let sandbox = limited(&fixture);
    let (filled, limit) = (run(&sandbox, FILLS).await, Some(Limit::SessionSize));
    assert_eq!((filled.status, filled.limit_reached()), (KILLED, limit), "{filled:?}");
    let size = fs::metadata(fixture.dir.join("filled")).unwrap().len();
    assert!((8 << 20..200 << 20).contains(&size), "{size}");
    // The directory is above the limit already, so the command is ended sooner.
    let again = run(&sandbox, FILLS).await;
    assert_eq!((again.status, again.limit_reached()), (KILLED, limit));
    let removed = run(&sandbox, "rm filled").await;
    assert_eq!((removed.status, removed.limit_reached()), (CommandStatus::Exited(0), None));
    let created = run(&sandbox, CREATES).await;
    assert_eq!((created.status, created.limit_reached()), (KILLED, limit), "{created:?}");
}

#[tokio::test]
async fn the_result_says_that_the_session_directory_is_too_large() {
    let fixture = fixture();
    let sandbox = limited(&fixture);
    let (ended, limit) = (CommandStatus::Exited(0), Some(Limit::SessionSize));
    assert_eq!(run(&sandbox, "true").await.limit_reached(), None);
    // Holes take no space.
    let sparse = run(&sandbox, "truncate -s 100G sparse 2> /dev/null || truncate -s 9G sparse");
    assert_eq!(sparse.await.limit_reached(), None);
    let filled = run(&sandbox, "head -c 10M /dev/zero > full && sync full").await;
    assert_eq!((filled.status, filled.limit_reached()), (ended, limit));
    // A command that does not let the directory grow may run as long as it likes.
    let waited = run(&sandbox, "sleep 0.5; echo waited > log").await;
    assert_eq!((waited.status, waited.limit_reached()), (ended, limit));
    let removed = run(&sandbox, "sleep 0.3; rm full; sleep 0.3").await;
    assert_eq!((removed.status, removed.limit_reached()), (ended, None));
    let many = run(&sandbox, "for i in {1..200}; do : > $i; done; sync .").await;
    assert_eq!((many.status, many.limit_reached()), (ended, limit));
}

#[tokio::test]
async fn a_hidden_file_counts_too() {
    let fixture = fixture();
    let sandbox = limited(&fixture);
    let hides = "mkdir -p a/b && head -c 10M /dev/zero > a/b/full && sync a/b/full; chmod 300 a/b";
    let hidden = run(&sandbox, hides).await;
    // On the Landlock tier no mode can be changed.
    assert_eq!(hidden.status == CommandStatus::Exited(0), !without_namespaces(), "{hidden:?}");
    assert_eq!(hidden.limit_reached(), Some(Limit::SessionSize));
}

#[tokio::test]
async fn attached_and_wrapped_commands_are_ended_too() {
    let fixture = fixture();
    let sandbox = limited(&fixture);
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut running = sandbox.start(&spec(FILLS), [null.as_fd(); 3]).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(50), running.wait()).await.unwrap();
    let ended = ended.unwrap();
    assert_eq!((ended.status, ended.limit), (KILLED, Some(Limit::SessionSize)));
    fs::remove_file(fixture.dir.join("filled")).unwrap();
    let line = sandbox.wrap_command(&spec(FILLS)).unwrap();
    let ran = tokio::process::Command::new("sh").args(["-c", &line]).output().await.unwrap();
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(text.contains("size of the session directory"), "{text}");
    assert_eq!(ran.status.code(), Some(137));
    let line = sandbox.wrap_command(&spec("rm filled")).unwrap();
    let ran = tokio::process::Command::new("sh").args(["-c", &line]).output().await.unwrap();
    assert_eq!((ran.status.code(), ran.stderr.len()), (Some(0), 0), "{ran:?}");
}
