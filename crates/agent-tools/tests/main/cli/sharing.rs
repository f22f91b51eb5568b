//! One session in several processes.

// Long because its tests share one set of helpers.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Cli;
use crate::mcp::Server;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until a condition holds, which another process makes true.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TIMEOUT, "{what}");
        std::thread::yield_now();
    }
}

/// Returns whether a process has this text on its command line.
fn runs(text: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    })
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A command of the session `m` that runs until the test opens its pipe.
struct Blocked {
    child: Option<Child>,
    pipe: PathBuf,
}

impl Blocked {
    /// Starts `bash` and waits until its command runs. Afterwards the command runs `then`.
    fn start(cli: &Cli, name: &str, then: &str) -> Self {
        let dir = cli.home().join("sessions/m");
        let command = format!(
            "mkfifo {name}.new && mv {name}.new {name} && cat {name} && rm {name} && {then}"
        );
        let child = cli
            .command(&["bash", "--session", "m", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = dir.join(name);
        let mut blocked = Self { child: Some(child), pipe: pipe.clone() };
        wait_until("the command begins", || {
            assert!(blocked.child().try_wait().unwrap().is_none(), "the command exited");
            pipe.exists()
        });
        blocked
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// Lets the command continue.
    fn unblock(&self) {
        std::fs::File::options().write(true).open(&self.pipe).unwrap().write_all(b"go\n").unwrap();
    }

    fn finish(mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn exit_code(server: &mut Server, command: &str) -> serde_json::Value {
    server.call("bash", json!({ "command": command }))["structuredContent"]["exitCode"].clone()
}

#[test]
fn every_command_works_while_a_server_holds_the_session() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    // Only commands of one sandbox see its /tmp.
    assert_eq!(exit_code(&mut server, "echo shared > /tmp/x; echo 1 > f"), 0);
    let session = |args: &[&str]| cli.run(&[args, &["--session", "m"]].concat());
    assert_eq!(session(&["bash", "cat /tmp/x"]).ok().stdout, "shared\n");
    assert_eq!(session(&["bash", "exit 3"]).code, 3);
    assert_eq!(session(&["read-file", "f"]).ok().stdout, "1\n");
    session(&["write-file", "g", "--content", "2"]).ok();
    let missing = session(&["read-file", "none"]);
    assert!(missing.code == 1 && missing.stderr.contains("none"), "{}", missing.stderr);
    let shown = cli.run(&["--json", "session", "show", "m"]).ok().json();
    assert_eq!((&shown["user"], &shown["pending"]), (&"local".into(), &json!([])));
    let store = cli.home().join("store/user_local/sessions/m");
    std::fs::write(store.join("upload"), "u").unwrap();
    let synced = cli.run(&["--json", "session", "sync", "m"]).ok().json();
    assert_eq!(synced["restored"], json!(["upload"]));
    session(&["bash", "rm g"]).ok();
    assert_eq!(cli.run(&["session", "undelete", "m"]).ok().stdout, "restored   g\n");
    let history = cli.run(&["--json", "session", "history", "m", "f"]).ok().json();
    let first = history[0]["number"].to_string();
    assert_eq!(
        cli.run(&["session", "restore", "m", "f", "--at", &first]).ok().stdout,
        "unchanged  f\n"
    );
    cli.run(&["session", "gc", "m", "--dry-run"]).ok();
    let mut second = Server::start_with(&cli, &["mcp", "--session", "m"]);
    assert_eq!(exit_code(&mut second, "cat upload g && grep -q shared /tmp/x"), 0);
    assert_eq!(exit_code(&mut server, "test \"$(cat g)\" = 2"), 0);
    cli.run(&["session", "close", "m"]).ok();
    assert!(!cli.home().join("sessions/m").exists());
    for server in [&mut server, &mut second] {
        let closed = server.call("bash", json!({ "command": "true" }));
        assert_eq!(closed["isError"], true);
        assert!(closed["content"][0]["text"].as_str().unwrap().contains("was closed"), "{closed}");
    }
    assert!(!cli.home().join("sessions/m").exists(), "no call opens a closed session");
    assert_eq!(session(&["bash", "cat f; ls /tmp"]).ok().stdout, "1\n");
}

#[test]
fn a_killed_server_fails_the_running_call_and_the_next_one_works() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let mut client = Server::start_with(&cli, &["mcp", "--session", "m"]);
    assert_eq!(exit_code(&mut client, "echo before > /tmp/x"), 0);
    let blocked = Blocked::start(&cli, "pipe", "echo ran >> log");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let output = blocked.finish();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("ended during the call"), "{}", text(&output));
    // The client serves now, in a new sandbox. The failed call was not repeated.
    assert_eq!(exit_code(&mut client, "test ! -e /tmp/x && test ! -e log && test -p pipe"), 0);
    assert_eq!(cli.run(&["bash", "--session", "m", "touch /tmp/y; ls log"]).code, 2);
    assert_eq!(exit_code(&mut client, "test -e /tmp/y"), 0);
}

#[test]
fn a_server_exits_only_after_the_calls_it_serves() {
    let cli = Cli::new();
    let mut first = Blocked::start(&cli, "a", "echo first");
    let mut second = Blocked::start(&cli, "b", "echo second");
    let mut output = BufReader::new(first.child().stdout.take().unwrap());
    first.unblock();
    let mut lines = String::new();
    output.read_line(&mut lines).unwrap();
    output.read_line(&mut lines).unwrap();
    assert_eq!(lines, "go\nfirst\n");
    assert!(second.child().try_wait().unwrap().is_none());
    // While it waits, it serves others too.
    assert_eq!(cli.run(&["bash", "--session", "m", "echo third"]).ok().stdout, "third\n");
    assert!(first.child().try_wait().unwrap().is_none(), "it serves the second command");
    second.unblock();
    let second = second.finish();
    assert!(second.status.success() && text(&second) == "go\nsecond\n", "{}", text(&second));
    assert!(first.finish().status.success());
}

#[test]
fn a_terminated_server_ends_after_the_calls_it_serves() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let blocked = Blocked::start(&cli, "pipe", "echo done");
    signal(&server.child, Signal::TERM);
    blocked.unblock();
    let output = blocked.finish();
    assert!(output.status.success() && text(&output) == "go\ndone\n", "{}", text(&output));
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let blocked = Blocked::start(&cli, "again", "echo done");
    signal(&server.child, Signal::TERM);
    signal(&server.child, Signal::INT);
    assert!(server.child.wait().unwrap().code().is_some_and(|code| code > 128));
    assert_eq!(blocked.finish().status.code(), Some(125));
}

#[test]
fn a_terminated_server_refuses_calls_while_one_runs() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let blocked = Blocked::start(&cli, "pipe", "echo done; touch /tmp/x");
    signal(&server.child, Signal::TERM);
    let mut refused = String::new();
    wait_until("the server refuses calls", || {
        let result = server.call("bash", json!({ "command": "true" }));
        refused = result["content"][0]["text"].to_string();
        result["isError"] == true
    });
    assert!(refused.contains("about to exit"), "{refused}");
    // A call of another process waits, and then runs there.
    let mut other = cli.command(&["bash", "--session", "m", "ls /tmp/x"]);
    let mut other = other.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(other.try_wait().unwrap().is_none(), "it waits");
    blocked.unblock();
    let output = blocked.finish();
    assert!(output.status.success() && text(&output) == "go\ndone\n", "{}", text(&output));
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
    let other = other.wait_with_output().unwrap();
    assert_eq!(other.status.code(), Some(2), "a new sandbox has another /tmp: {}", text(&other));
}

#[test]
fn the_command_of_a_killed_client_ends() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let mark = format!("after-{}", std::process::id());
    let mut blocked = Blocked::start(&cli, "pipe", &format!("touch {mark}"));
    assert!(runs(&mark));
    blocked.child().kill().unwrap();
    blocked.child().wait().unwrap();
    wait_until("the command of the client ends", || !runs(&mark));
    assert_eq!(exit_code(&mut server, "ls after-*"), 2);
}

#[test]
fn twenty_processes_share_one_session() {
    let cli = Cli::new();
    let start = |number: usize| {
        let command = format!("echo {number} >> log");
        let mut command = cli.command(&["bash", "--session", "m", &command]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..20).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let log = std::fs::read_to_string(cli.home().join("sessions/m/log")).unwrap();
    let mut numbers: Vec<usize> = log.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "each command ran once");
}

#[test]
fn a_client_with_other_settings_is_refused_and_the_setting_is_named() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    assert_eq!(exit_code(&mut server, "true"), 0);
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap().to_owned();
    let network = r#"{"network":{"allowedDomains":[],"deniedDomains":[],"allowAllUnixSockets":true},
                      "filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#;
    let network = cli.write("network.json", network);
    let differing = [
        (vec!["--allow-read", &other], "settings: policy (files, or skills that are read-only);"),
        (vec!["--policy", network.to_str().unwrap()], "skills that are read-only), network;"),
        (vec!["--store", "memory:///"], "settings: store;"),
        (vec!["--engine", "landlock"], "settings: engine;"),
        (vec!["--user", "bob"], "belongs to another user"),
    ];
    let check = |cli: &Cli, (args, expected): (Vec<&str>, &str)| {
        let ran = cli.run(&[&["bash", "--session", "m", "touch ran"][..], &args].concat());
        assert!(ran.code == 125 && ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    };
    differing.into_iter().for_each(|setting| check(&cli, setting));
    check(&cli, (vec!["--variable", "NAME"], "settings: variables (their source, or their"));
    assert_eq!(exit_code(&mut server, "test ! -e ran"), 0);
    // Files need no settings.
    assert_eq!(cli.run(&["session", "show", "m"]).code, 0);
}

#[test]
fn a_client_without_the_token_is_refused() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    assert_eq!(exit_code(&mut server, "true"), 0);
    let token = cli.home().join("state/m/token");
    let valid = std::fs::read(&token).unwrap();
    std::fs::write(&token, [0; 32]).unwrap();
    for args in [&["bash", "--session", "m", "true"][..], &["session", "close", "m"]] {
        let ran = cli.run(args);
        assert!(ran.code != 0 && ran.stderr.contains("the token is wrong"), "{}", ran.stderr);
    }
    std::fs::write(&token, valid).unwrap();
    cli.run(&["bash", "--session", "m", "true"]).ok();
}

#[test]
fn a_frame_of_another_format_is_answered_with_the_reason() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    assert_eq!(exit_code(&mut server, "true"), 0);
    let socket = cli.home().join("state/m/socket");
    let format = |number: u16, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        [&number.to_le_bytes()[..], &[1, 0], &length, &[0; 12], body].concat()
    };
    for (frame, expected) in [
        (format(2, b"{}"), "another format number"),
        (format(1, b"{}"), "missing field `proof`"),
        (format(1, br#"{"proof":"00","settings":null}"#), "the token is wrong"),
        (format(1, &[0; 70_000]), "too long"),
    ] {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        // The server may answer before it has read everything.
        let _ = client.write_all(&frame);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(expected), "{answer}");
    }
    assert_eq!(exit_code(&mut server, "true"), 0);
}

#[test]
fn a_home_of_any_length_can_be_shared() {
    let cli = Cli::new();
    let home = cli.dir().join("h".repeat(100)).join("o".repeat(100));
    let home = home.to_str().unwrap();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m", "--home", home]);
    assert_eq!(exit_code(&mut server, "touch /tmp/x"), 0);
    let ran = cli.run(&["bash", "--session", "m", "--home", home, "ls /tmp"]);
    assert_eq!(ran.ok().stdout, "x\n");
}

#[test]
fn no_policy_shows_a_command_the_state_of_sessions() {
    let disabled = r#"{
        "network":{"allowedDomains":[],"deniedDomains":[],"allowAllUnixSockets":true},
        "filesystem":{"disabled":true,"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#;
    let everything = r#"{
        "network":{"allowedDomains":[],"deniedDomains":[],"allowAllUnixSockets":true},
        "filesystem":{"denyRead":[],"allowRead":["/"],"allowWrite":["/"],"denyWrite":[]}}"#;
    let cli = Cli::new();
    let Some(root) = testkit::directory_in_sight(env!("CARGO_TARGET_TMPDIR")) else {
        return testkit::skipped(
            "the state of sessions under every policy",
            testkit::NO_DIRECTORY_IN_SIGHT,
        );
    };
    let home = root.path().canonicalize().unwrap().join("home");
    let home = home.to_str().unwrap();
    cli.run(&["bash", "--home", home, "true"]).ok();
    let state = format!("{home}/state");
    let disabled = cli.write("disabled.json", disabled);
    let everything = cli.write("everything.json", everything);
    let policies: [&[&str]; 7] = [
        &["--allow-read", home],
        &["--allow-write", home],
        &["--allow-read", "/"],
        &["--allow-read", &state],
        &["--allow-write", &state],
        &["--policy", disabled.to_str().unwrap()],
        &["--policy", everything.to_str().unwrap()],
    ];
    let script = format!(
        "S='{home}/state'; for d in \"$S\" /proc/1/root\"$S\" /proc/self/root\"$S\" \
         sessions/../../../state ../../state /proc/*/cwd/../../state; do \
         cat \"$d\"/*/token \"$d\"/*/session.json && echo LEAK $d; \
         perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); \
         chdir $ARGV[0] and connect(S, sockaddr_un(\"socket\")) and print \"LEAK socket\\n\"' \
         \"$d/default\"; done; \
         ls -l /proc/self/fd /proc/1/fd | grep -F '/state' && echo LEAK descriptor; \
         mv '{home}/state' '{home}/moved'; mv '{home}' '{home}.moved'; echo tried"
    );
    for policy in policies {
        let ran = cli.run(&[&["bash", "--home", home, &script][..], policy].concat());
        assert!(
            ran.stdout.contains("tried\n") && !ran.stdout.contains("LEAK"),
            "{policy:?}: {}{}",
            ran.stdout,
            ran.stderr
        );
        assert!(Path::new(&state).join("default/token").exists(), "{policy:?}");
    }
    // Nor does the command that runs without a session.
    let args = ["--home", home, "sandbox", "--settings"];
    for settings in [&disabled, &everything] {
        let settings = settings.to_str().unwrap();
        let ran = cli.run(&[&args[..], &[settings, "-c", &script]].concat());
        assert!(ran.stdout.contains("tried\n") && !ran.stdout.contains("LEAK"), "{}", ran.stdout);
    }
    let weaker = ["--engine", "landlock", "--accept", "inner-rules,attributes,signals"];
    let around = root.path().canonicalize().unwrap();
    let around = around.to_str().unwrap();
    let writable = ["bash", "--home", home, "--session", "l", "--allow-write", around, "true"];
    let ran = cli.run(&[&weaker[..], &writable].concat());
    assert!(ran.code == 125 && ran.stderr.contains("must stay hidden"), "{}", ran.stderr);
    // An entry for the home itself opens nothing, with this engine too.
    let script = format!("cat '{home}'/state/*/token; ls '{home}'; echo tried");
    let opened = ["bash", "--home", home, "--session", "l", "--allow-write", home, &script];
    let ran = cli.run(&[&weaker[..], &opened].concat());
    assert_eq!(ran.stdout, "tried\n", "{}", ran.stderr);
}
