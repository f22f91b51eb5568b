//! The srt engine with a substitute for srt, a program that accepts the same arguments.
//! `conformance` tests srt itself.

use std::ffi::OsString;
use std::time::Duration;

use policy::Policy;
use sandbox_core::{CommandSpec, CommandStatus, ExecErrorKind, Sandbox, SrtError, SrtSandbox};

/// Accepts `--settings FILE -c COMMAND`, and runs the command without any sandbox.
const SUBSTITUTE: [&str; 4] =
    ["/bin/bash", "-c", "test -s \"$2\" && exec /bin/bash -c \"$4\"", "srt"];

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn open(&self, program: &[&str]) -> Result<SrtSandbox, SrtError> {
        let policy = Policy::session(self.dir.path()).home(self.dir.path()).build().unwrap();
        let program = program.iter().map(OsString::from).collect();
        SrtSandbox::open(&policy, self.dir.path(), program, &self.dir.path().join("settings.json"))
            .await
    }
}

fn fixture() -> Fixture {
    Fixture { dir: tempfile::tempdir().unwrap() }
}

fn spec(command: &str) -> CommandSpec {
    let mut spec = CommandSpec::new(command);
    spec.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    spec
}

#[tokio::test]
async fn a_command_returns_its_output_and_its_exit_code() {
    let fixture = fixture();
    let sandbox = fixture.open(&SUBSTITUTE).await.unwrap();
    let mut reading = spec("cat; echo err >&2; exit 7");
    reading.stdin = b"given".to_vec();
    let ran = sandbox.exec(reading).await.unwrap();
    assert_eq!(
        (ran.status, ran.stdout.bytes.as_slice(), ran.stderr.bytes.as_slice()),
        (CommandStatus::Exited(7), &b"given"[..], &b"err\n"[..])
    );
    let mut long = spec("head -c 3000 /dev/zero");
    long.max_output_bytes = 1000;
    let ran = sandbox.exec(long).await.unwrap();
    assert_eq!((ran.stdout.bytes.len(), ran.stdout.dropped_bytes), (1000, 2000));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let fixture = fixture();
    let sandbox = fixture.open(&SUBSTITUTE).await.unwrap();
    let mut slow = spec("sleep 1000 & sleep 1000");
    slow.timeout = Duration::from_millis(200);
    assert_eq!(sandbox.exec(slow).await.unwrap().status, CommandStatus::TimedOut);
}

#[tokio::test]
async fn closing_ends_running_commands_and_rejects_later_ones() {
    let fixture = fixture();
    let sandbox = fixture.open(&SUBSTITUTE).await.unwrap();
    let (ran, ()) = tokio::join!(sandbox.exec(spec("sleep 1000")), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sandbox.close().await;
    });
    assert_eq!(ran.unwrap_err().kind(), ExecErrorKind::Ended);
    assert_eq!(sandbox.exec(spec("true")).await.unwrap_err().kind(), ExecErrorKind::Ended);
}

#[tokio::test]
async fn the_error_for_a_failed_trial_contains_its_output() {
    let fixture = fixture();
    let error =
        fixture.open(&["/bin/bash", "-c", "echo no bwrap >&2; exit 1", "srt"]).await.unwrap_err();
    assert!(error.to_string().contains("no bwrap"), "{error}");
    let error = fixture.open(&["/no/such/program"]).await.unwrap_err();
    assert!(
        matches!(error, SrtError::Start { .. }) && error.to_string().contains("npm install"),
        "{error}"
    );
}
