//! Commands as shell strings.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sandbox_core::{CommandSpec, ExecErrorKind, Sandbox};

use crate::fixture::{
    Fixture, alive, eventually, fixture, spec, unique_seconds, without_namespaces,
};
use testkit::skipped;

/// Runs a wrapped command in a shell, independently of the runtime in which the sandbox was opened.
fn in_shell(shell: &str, wrapped: &str, input: &str) -> Output {
    // Fish creates directories there.
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(shell)
        .args(["-c", wrapped])
        .env_clear()
        .env("HOME", home.path())
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
async fn files_of_a_killed_client_are_checked_before_the_next_one_and_at_close() {
    let fixture = fixture();
    let path = fixture.dir.join(".bashrc");
    let through_a_link = wrap(&fixture, "ln -sf .bashrc l; echo x > l; sleep 1000");
    let there = wrap(&fixture, "test -e .bashrc || echo gone");
    for _ in 0..2 {
        let script = format!("exec {through_a_link}");
        let mut client = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        eventually("the file appears", || path.exists()).await;
        client.kill().unwrap();
        client.wait().unwrap();
        assert!(path.exists(), "the path is not checked yet");
        if fixture.dir.join("once").exists() {
            break;
        }
        fs::write(fixture.dir.join("once"), "").unwrap();
        assert_eq!(String::from_utf8_lossy(&in_shell("sh", &there, "").stdout), "gone\n");
    }
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
    // The client has the exit code before the thread of the host ends.
    let began = std::time::Instant::now();
    while fixture.sandbox.runs_wrapped_commands() {
        assert!(began.elapsed() < Duration::from_secs(60), "the command is still counted");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_quarantined_file_changes_the_exit_code_and_is_named() {
    let fixture = fixture();
    let wrapped = wrap(&fixture, "ln -s .bashrc l; echo x > l; mkdir -p a/.git; echo done");
    let output = in_shell("sh", &wrapped, "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("/.bashrc was created although the policy denies it"), "{stderr}");
    assert_eq!(output.stdout, b"done\n");
    assert!(!fixture.dir.join(".bashrc").exists());
    if !without_namespaces() {
        // The policy includes the new repository before the client exits.
        let evil = in_shell("sh", &wrap(&fixture, "echo x > a/.git/config"), "");
        assert_ne!(evil.status.code(), Some(0));
    }
    assert_eq!(
        in_shell("sh", &wrap(&fixture, "ln -s .zshrc l2; echo x > l2; exit 3"), "").status.code(),
        Some(3)
    );
}

#[tokio::test]
async fn a_command_that_was_dropped_is_refused_with_the_remedy() {
    let fixture = fixture();
    let oldest = wrap(&fixture, "echo oldest");
    assert_eq!(in_shell("sh", &oldest, "").stdout, b"oldest\n");
    let mut latest = String::new();
    for number in 0..20_000 {
        latest = wrap(&fixture, &format!("echo {number}"));
    }
    assert_eq!(in_shell("sh", &latest, "").stdout, b"19999\n");
    let refused = in_shell("sh", &oldest, "");
    assert_eq!(refused.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.starts_with("sandbox: ") && stderr.ends_with("wrap it again\n"), "{stderr}");
}

#[tokio::test]
async fn silent_clients_delay_no_other() {
    let fixture = fixture();
    let wrapped = wrap(&fixture, "echo hello");
    let name = wrapped.split(' ').nth(1).unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let silent: Vec<_> = (0..8).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
    assert_eq!(in_shell("sh", &wrapped, "").stdout, b"hello\n");
    for client in &silent {
        // The host has not lost patience yet, so the command did not wait for that.
        client.set_nonblocking(true).unwrap();
        let read = std::io::Read::read(&mut &*client, &mut [0]).unwrap_err();
        assert_eq!(read.kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_directory_is_no_stream_and_a_file_opens_only_what_the_policy_opens() {
    let fixture = fixture();
    let [dir, file] = ["dir", "file"].map(|name| fixture.root.join(name));
    fs::create_dir(&dir).unwrap();
    let run = |command: &str, redirection: &str| {
        let wrapped = wrap(&fixture, command);
        let script = format!("{wrapped} {redirection}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    for number in [0, 1, 2] {
        let (code, text) =
            run("cat /proc/self/fd/0/../file", &format!("{number}< {}", dir.display()));
        assert_eq!(code, Some(125), "{text}");
        assert!(number == 2 || text.contains(" is a directory"), "{text}");
    }
    fs::write(&file, "content\n").unwrap();
    let evil = "cat; echo evil > /proc/self/fd/0; exec 3<> /proc/self/fd/0; echo evil >&3; true";
    assert!(run(evil, &format!("0<> {}", file.display())).1.starts_with("content\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "content\n");

    let evil = "echo out; echo err >&2; echo last; : > /proc/self/fd/1; true";
    assert_eq!(run(evil, &format!(">> {} 2>&1", file.display())), (Some(0), String::new()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "content\nout\nerr\nlast\n");
    // The session directory is writable, so this is the file itself.
    let own = fixture.dir.join("own");
    let size = "echo 12345; stat -L -c %s /proc/$$/fd/1 >&2";
    assert_eq!(run(size, &format!("> {}", own.display())), (Some(0), "6\n".to_owned()));
}
