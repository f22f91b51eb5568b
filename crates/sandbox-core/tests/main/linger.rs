//! Processes that outlive the shell of their command.

use std::fs;
use std::time::{Duration, Instant};

use sandbox_core::{CommandSpec, CommandStatus, Sandbox};

use crate::fixture::{Fixture, alive, fixture, pause, spec, unique_seconds};

/// A time without output that no test waits for.
const FOR_EVER: Duration = Duration::from_secs(1000);

async fn run(fixture: &Fixture, spec: CommandSpec) -> (String, Vec<String>, Duration) {
    let begun = Instant::now();
    let output = fixture.sandbox.exec(spec).await.unwrap();
    (String::from_utf8_lossy(&output.stdout.bytes).into_owned(), output.killed, begun.elapsed())
}

fn with_linger(command: &str, linger: Duration) -> CommandSpec {
    let mut spec = spec(command);
    spec.linger = linger;
    spec
}

#[tokio::test]
async fn output_through_a_process_substitution_is_complete() {
    let fixture = fixture();
    for n in 0..20 {
        let command = format!("exec > >(sleep 0.0{n}; tee log{n}); echo hello");
        let linger = pause(spec("").linger);
        let (stdout, _, _) = run(&fixture, with_linger(&command, linger)).await;
        assert_eq!(stdout, "hello\n", "{n}");
        assert_eq!(fs::read_to_string(fixture.dir.join(format!("log{n}"))).unwrap(), "hello\n");
    }
}

#[tokio::test]
async fn processes_run_on_while_they_write_and_are_listed_when_they_are_killed() {
    let fixture = fixture();
    let writes = "(for n in 1 2 3 4 5 6; do sleep 0.1; echo $n; done) & echo now";
    let (stdout, _, _) = run(&fixture, with_linger(writes, FOR_EVER)).await;
    assert_eq!(stdout, "now\n1\n2\n3\n4\n5\n6\n");

    let seconds = unique_seconds();
    let silent = format!("sleep {seconds} & echo $PPID > f; (sleep 1; echo late) & echo now");
    let (stdout, killed, elapsed) =
        run(&fixture, with_linger(&silent, Duration::from_millis(300))).await;
    assert_eq!(stdout, "now\n");
    assert!(killed.iter().any(|name| name == "sleep"), "{killed:?}");
    assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn processes_without_output_streams_are_killed_at_once() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let command = format!("setsid sleep {seconds} > /dev/null 2>&1 < /dev/null & echo started");
    let (stdout, killed, _) = run(&fixture, with_linger(&command, FOR_EVER)).await;
    assert_eq!((stdout.as_str(), killed.len()), ("started\n", 1), "{killed:?}");
    assert!(!alive(&seconds));
    let (_, killed, _) = run(&fixture, with_linger("sleep 1000 &", Duration::ZERO)).await;
    // The process may not have executed its program yet.
    assert!(matches!(killed[..], [ref name] if name == "sleep" || name == "bash"), "{killed:?}");
}

#[tokio::test]
async fn nothing_runs_on_after_a_timeout_a_signal_or_a_limit() {
    let fixture = fixture();
    for (end, status) in [
        ("kill -KILL $$", CommandStatus::Signaled(9)),
        ("exit 153", CommandStatus::Exited(153)),
        ("head -c 100000 /dev/zero", CommandStatus::Exited(0)),
    ] {
        let mut spec = with_linger(&format!("sleep 1000 & {end}"), FOR_EVER);
        spec.max_output_bytes = 1000;
        assert_eq!(fixture.sandbox.exec(spec).await.unwrap().status, status, "{end}");
    }
    let mut late = with_linger("sleep 1000 & wait", FOR_EVER);
    late.timeout = Duration::from_millis(200);
    assert_eq!(fixture.sandbox.exec(late).await.unwrap().status, CommandStatus::TimedOut);
    let mut in_time = with_linger("sleep 1000 & exit 3", FOR_EVER);
    in_time.timeout = Duration::from_millis(400);
    let output = fixture.sandbox.exec(in_time).await.unwrap();
    assert_eq!((output.status, output.killed.len()), (CommandStatus::Exited(3), 1));
}

#[tokio::test]
async fn a_wrapped_command_loses_no_output_either() {
    let fixture = fixture();
    let command = "exec > >(sleep 0.05; cat); echo hello";
    let line = fixture.sandbox.wrap_command(&spec(command)).unwrap();
    let ran = tokio::process::Command::new("sh").args(["-c", &line]).output().await.unwrap();
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(0), &b"hello\n"[..]));
    let silent = fixture.sandbox.wrap_command(&spec("sleep 1000 & exit 4")).unwrap();
    let ran = tokio::process::Command::new("sh").args(["-c", &silent]).status().await.unwrap();
    assert_eq!(ran.code(), Some(4));
}
