//! Commands as shell strings.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sandbox_core::{CommandSpec, ExecErrorKind, Sandbox};

use crate::fixture::{
    Fixture, alive, eventually, fixture, spec, unique_seconds, without_namespaces,
};
use testkit::skipped;

/// Runs a wrapped command in a shell, independently of the runtime in which the sandbox was opened.
fn in_shell(shell: &str, wrapped: &str, input: &str) -> Output {
    let mut child = Command::new(shell)
        .args(["-c", wrapped])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write;
    // The command may not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn wrap(fixture: &Fixture, command: &str) -> String {
    fixture.sandbox.wrap_command(&spec(command)).unwrap()
}

#[tokio::test]
async fn any_shell_runs_a_command_that_is_hard_to_quote() {
    let fixture = fixture();
    let hard = "printf '%s|' \"it's\" '$HOME `x` !! %40 \\' \"é\n\u{1f600}\"; cat; pwd; \
                echo ghost >&2; exit 42";
    let wrapped = wrap(&fixture, hard);
    let mut shells = 0;
    for shell in ["sh", "bash", "dash", "zsh", "fish"] {
        if Command::new(shell).args(["-c", "true"]).output().is_err() {
            continue;
        }
        shells += 1;
        let output = in_shell(shell, &wrapped, "input\n");
        let expected =
            format!("it's|$HOME `x` !! %40 \\|é\n\u{1f600}|input\n{}\n", fixture.dir.display());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{shell}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "ghost\n", "{shell}");
        assert_eq!(output.status.code(), Some(42), "{shell}");
    }
    assert!(shells >= 2);
    // The string also works several times in a larger script.
    let script = format!(
        "{wrapped} </dev/null | head -c 4; {wrapped} </dev/null >/dev/null 2>&1 || echo $?"
    );
    assert_eq!(String::from_utf8_lossy(&in_shell("sh", &script, "").stdout), "it's42\n");
}

#[tokio::test]
async fn a_wrapped_command_is_confined_and_has_the_session_environment() {
    let fixture = fixture();
    let mut command = spec(
        "cat /etc/shadow; echo \"$TOKEN\" ${LEAK-none}; ls /proc | grep -c '^[0-9]'; touch /etc/x",
    );
    command.env.push(("TOKEN".into(), "from the session".into()));
    let wrapped = fixture.sandbox.wrap_command(&command).unwrap();
    assert!(!wrapped.contains("from"));
    let output = Command::new("sh").args(["-c", &wrapped]).env("LEAK", "host").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("from the session none\n"), "{stdout}{stderr}");
    assert!(!output.status.success() && stderr.contains("/etc/x"), "{stderr}");
}

#[tokio::test]
async fn the_exit_code_is_that_of_the_command() {
    let fixture = fixture();
    assert_eq!(in_shell("sh", &wrap(&fixture, "kill -SEGV $$"), "").status.code(), Some(128 + 11));

    let mut late = spec("trap '' TERM; sleep 1000");
    late.timeout = Duration::from_millis(100);
    let late = fixture.sandbox.wrap_command(&late).unwrap();
    assert_eq!(in_shell("sh", &late, "").status.code(), Some(124));

    let mut nowhere = spec("true");
    nowhere.cwd = Some("/nonexistent".into());
    let output = in_shell("sh", &fixture.sandbox.wrap_command(&nowhere).unwrap(), "");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("working directory"));

    let broken = fixture.sandbox.wrap_command(&CommandSpec::new("nul\0")).unwrap_err();
    assert_eq!(broken.kind(), ExecErrorKind::BadRequest);
}

#[tokio::test]
async fn signals_reach_the_command_and_killing_the_client_kills_it() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let start = |command: &str| {
        let wrapped = format!("exec {}", wrap(&fixture, command));
        Command::new("sh").args(["-c", &wrapped]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let polite = start(&format!("trap 'echo bye; exit 7' TERM; sleep {seconds} & wait"));
    eventually("the command runs", || alive(&seconds)).await;
    let id = rustix::process::Pid::from_child(&polite);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = polite.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"bye\n"[..]));
    assert!(!alive(&seconds));

    let seconds = unique_seconds();
    let mut killed = start(&format!("setsid sleep {seconds} & sleep 1000"));
    eventually("the command runs", || alive(&seconds)).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    eventually("the command is dead like its client", || !alive(&seconds)).await;
}

#[tokio::test]
async fn a_wrapped_command_works_for_this_user_while_the_session_is_open() {
    let fixture = fixture();
    let wrapped = wrap(&fixture, "echo again >> f");
    for _ in 0..3 {
        assert!(in_shell("sh", &wrapped, "").status.success());
    }
    assert_eq!(fs::read_to_string(fixture.dir.join("f")).unwrap(), "again\nagain\nagain\n");

    if rustix::process::geteuid().is_root() {
        // Other users cannot access the program's path, so they run a copy of the client.
        let (program, rest) = wrapped.split_once(' ').unwrap();
        let copy = fixture.root.join("client");
        fs::copy(program, &copy).unwrap();
        for dir in [fixture.root.as_path(), &copy] {
            fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let other = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"])
            .arg(format!("{} {rest}", copy.display()))
            .output();
        match other {
            // A user namespace may have no other user.
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("setresuid failed") => {}
            Ok(output) => {
                assert_eq!(
                    output.status.code(),
                    Some(125),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                assert!(String::from_utf8_lossy(&output.stderr).contains("not this user's"));
            }
            Err(_) => skipped("another user's wrapped command", "package util-linux"),
        }
    }

    fixture.sandbox.close().await;
    let closed = in_shell("sh", &wrapped, "");
    assert_eq!(closed.status.code(), Some(125));
    drop(fixture);
    assert!(!in_shell("sh", &wrapped, "").status.success());
}

#[tokio::test]
async fn files_of_wrapped_commands_are_checked_before_the_next_one_and_at_close() {
    let fixture = fixture();
    let path = fixture.dir.join(".bashrc");
    let through_a_link = wrap(&fixture, "ln -sf .bashrc l; echo x > l");
    let there = wrap(&fixture, "test -e .bashrc || echo gone");
    assert_eq!(in_shell("sh", &through_a_link, "").status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&in_shell("sh", &there, "").stdout), "gone\n");
    if !without_namespaces() {
        let make = wrap(&fixture, "mkdir -p r/.git && echo x > r/.git/config");
        assert_eq!(in_shell("sh", &make, "").status.code(), Some(0));
        assert_ne!(
            in_shell("sh", &wrap(&fixture, "echo y > r/.git/config"), "").status.code(),
            Some(0)
        );
    }
    in_shell("sh", &through_a_link, "");
    assert!(path.exists(), "the path is not checked yet");
    fixture.sandbox.close().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn the_host_sees_that_a_wrapped_command_is_running() {
    let fixture = fixture();
    let wrapped = wrap(&fixture, "echo started; read end");
    assert!(!fixture.sandbox.runs_wrapped_commands());
    let mut child = Command::new("sh")
        .args(["-c", &wrapped])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "started\n");
    assert!(fixture.sandbox.runs_wrapped_commands());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!fixture.sandbox.runs_wrapped_commands());
}
