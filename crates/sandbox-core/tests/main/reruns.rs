//! Tests that run a part of this test program again: as another user, without user namespaces, to be killed.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox_core::Sandbox;

use crate::native::{alive, eventually, place, spec, unique_seconds};

/// Tells a rerun which part it is.
const PART: &str = "SANDBOX_CORE_TEST_PART";

/// A copy of this program that every user can execute, and its directory.
pub(crate) fn copy_of_this_program() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    (dir, program)
}

pub(crate) fn skipped(what: &str, remedy: &str) {
    println!("SKIPPED: {what} ({remedy})");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "a skipped check is a failure here");
}

#[test]
fn everything_holds_for_an_ordinary_user_too() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_dir, program) = copy_of_this_program();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let run = Command::new("setpriv")
        .args(nobody)
        .arg(&program)
        .args(["ahead::", "native::", "files::", "escapes::"])
        .env_remove("TMPDIR")
        .output();
    let Ok(run) = run else { return skipped("the engine as an ordinary user", "package util-linux") };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("a_command_gives_its_output_and_its_exit_code ... ok"), "{text}");
}

#[test]
fn without_user_namespaces_it_refuses_with_the_reason_and_the_remedy() {
    if std::env::var_os(PART).is_some_and(|part| part == "refused") {
        let report = sandbox_core::probe();
        assert!(!report.is_usable());
        println!("{}", report.filesystem);
        return;
    }
    // Inside a user namespace of its own, the limit can be set to zero without touching the host's.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact --nocapture \
                  reruns::without_user_namespaces_it_refuses_with_the_reason_and_the_remedy";
    let (_dir, program) = copy_of_this_program();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "bash", "-c", script])
        .arg(&program)
        .env(PART, "refused")
        .output();
    let Ok(run) = run else { return skipped("the refusal without user namespaces", "package util-linux") };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("none: cannot make a user namespace"), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("sysctl -w user.max_user_namespaces"), "{text}");
}

#[tokio::test]
async fn a_killed_host_takes_its_sessions_down() {
    if let Some(seconds) = std::env::var_os(PART) {
        let place = place();
        let command = format!("setsid sleep {} & sleep 1000", seconds.to_str().unwrap());
        place.sandbox.exec(spec(&command)).await.unwrap();
        return;
    }
    let seconds = unique_seconds();
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reruns::a_killed_host_takes_its_sessions_down"])
        .env(PART, &seconds)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the command runs", || alive(&seconds)).await;
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the session is gone", || !alive(&seconds)).await;
}

#[tokio::test]
async fn a_killed_init_is_noticed_and_nothing_hangs() {
    let place = place();
    let seconds = unique_seconds();
    let command = format!("sleep {seconds}");
    let running = place.sandbox.exec(spec(&command));
    let killing = async {
        eventually("the command runs", || alive(&seconds)).await;
        let init = rustix::process::Pid::from_raw(place.sandbox.init_pid().cast_signed()).unwrap();
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    };
    let (result, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(running, killing) }).await.unwrap();
    assert!(result.is_err());
    assert!(place.sandbox.exec(spec("true")).await.is_err());
    assert!(!alive(&seconds));
}
