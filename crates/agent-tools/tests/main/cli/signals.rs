//! Signals during a call: its changes are stored, and its session is released.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Cli;
use crate::mcp::Server;

/// A home, and the directory of a store that other homes share with it.
pub(super) fn sharing() -> (Cli, PathBuf) {
    let store = Cli::new();
    let dir = store.dir().canonicalize().unwrap().join("store");
    let url = url::Url::from_directory_path(&dir).unwrap().to_string();
    let mut cli = Cli::with_store(&url, &[]);
    cli.others.push(store);
    (cli, dir)
}

/// Returns whether the last entry of the log of the session `default` releases it.
pub(super) fn is_released(store: &Path) -> bool {
    let log = std::fs::read_dir(store.join("logs/user_local/default")).unwrap();
    let entries = log.map(|entry| entry.unwrap().path());
    let last = entries.filter(|path| path.is_file()).max().unwrap();
    std::fs::read_to_string(last).unwrap().contains(r#""release""#)
}

/// Starts a command that changes a file and does not end, and waits for the change.
fn start(cli: &Cli) -> Child {
    // No program of its own: a shell goes on after the signal if such a program has exited.
    let script = "echo out; echo err >&2; echo 1 > changed; > begun; sleep 1000";
    let mut command = cli.command(&["bash", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until_begun(cli);
    child
}

/// Waits for a file that the command of the session creates at its beginning.
fn wait_until_begun(cli: &Cli) {
    let started = Instant::now();
    while !cli.home().join("sessions/default/begun").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the command begins");
        std::thread::yield_now();
    }
}

/// Returns whether this process ignores a signal, and so those that it starts.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[track_caller]
fn check(output: &Output, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    assert_eq!(stdout, "out\n", "{stderr}");
    assert!(stderr.starts_with("err\n"), "{stderr}");
}

#[test]
fn each_signal_prints_the_output_stores_the_changes_and_releases_the_session() {
    let signals =
        [(Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131), (Signal::TERM, 143)];
    for (signal, code) in signals {
        if signal == Signal::HUP && is_ignored(signal) {
            // Programs started by `nohup` leave it ignored.
            continue;
        }
        let (cli, store) = sharing();
        let child = start(&cli);
        kill_process(Pid::from_child(&child), signal).unwrap();
        check(&child.wait_with_output().unwrap(), code);
        assert!(store.join("user_local/sessions/default/changed").exists(), "{signal:?}");
        assert!(is_released(&store), "{signal:?}");
    }
}

#[test]
fn a_signal_ends_a_command_that_another_process_runs_and_prints_its_output() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp"]);
    let child = start(&cli);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    check(&child.wait_with_output().unwrap(), 130);
    let ran = server.call("bash", serde_json::json!({ "command": "cat changed" }));
    assert_eq!(ran["structuredContent"]["stdout"], "1\n", "the server goes on");
}

#[test]
fn signals_that_are_messages_reach_the_command_and_end_nothing_else() {
    let script = "for s in USR1 USR2 ALRM; do trap \"echo $s; > got\" $s; done; > begun; \
                  until [ -e got ]; do sleep 0.01; done; exit 4";
    for subcommand in ["bash", "wrap"] {
        for (signal, name) in
            [(Signal::USR1, "USR1\n"), (Signal::USR2, "USR2\n"), (Signal::ALARM, "ALRM\n")]
        {
            let cli = Cli::new();
            let mut command = cli.command(&[subcommand, script]);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            let child = command.spawn().unwrap();
            wait_until_begun(&cli);
            kill_process(Pid::from_child(&child), signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(4), "{subcommand} {name}: {output:?}");
            assert!(output.stdout.starts_with(name.as_bytes()), "{subcommand}: {output:?}");
        }
    }
}

#[test]
fn signals_that_are_messages_end_neither_a_command_with_json_nor_a_server() {
    let signals = [Signal::USR1, Signal::USR2, Signal::ALARM];
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp"]);
    for signal in signals {
        kill_process(Pid::from_child(&server.child), signal).unwrap();
        let ran = server.call("bash", serde_json::json!({ "command": "echo here" }));
        assert_eq!(ran["structuredContent"]["stdout"], "here\n", "{signal:?}");
    }
    drop(server);

    let cli = Cli::new();
    let script = "> begun; until [ -e go ]; do sleep 0.01; done; echo end";
    let mut command = cli.command(&["--json", "bash", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until_begun(&cli);
    for signal in signals {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    std::fs::write(cli.home().join("sessions/default/go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["stdout"].as_str().unwrap().starts_with("end\n"), "{result}");
}

#[test]
fn a_signal_that_the_parent_ignores_is_ignored() {
    let cli = Cli::new();
    let script = "touch begun; while [ -e begun ]; do sleep 0.01; done; echo end";
    let command = cli.command(&["bash", script]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).env_clear().current_dir(cli.dir());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let begun = cli.home().join("sessions/default/begun");
    while !begun.exists() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    std::fs::remove_file(begun).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"end\n"), "{output:?}");
}

#[test]
fn a_file_size_limit_concerns_single_files_and_commands_have_the_default_action() {
    let (cli, _store) = sharing();
    let other = cli.sharing_its_store();
    cli.run(&["bash", "echo 1 > f"]).ok();
    other.run(&["bash", "head -c 3000000 /dev/zero > large; echo 2 > g"]).ok();
    let limited = |script: &str| {
        let command = cli.command(&["bash", script]);
        let mut run = Command::new("bash");
        run.args(["-c", "ulimit -f 2000; exec \"$0\" \"$@\""]).arg(command.get_program());
        run.args(command.get_args()).env_clear().current_dir(cli.dir());
        run.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run.output().unwrap()
    };
    let ran = limited("ls; (head -c 3000000 /dev/zero > own); echo $?");
    let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    assert_eq!(ran.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stderr.contains("large") && stderr.contains("File too large"), "{stderr}");
    // 128 and the number of SIGXFSZ.
    assert!(stdout.starts_with("f\ng\n153\n"), "{stdout}");
    cli.run(&["bash", "test -s large && test -s own"]).ok();
}

#[test]
fn a_signal_ends_a_command_whose_reader_does_not_read() {
    let cli = Cli::new();
    cli.run(&["bash", "head -c 3000000 /dev/zero | tr '\\0' x > big"]).ok();
    let json = ["--json", "bash", "--max-output", "9000000", "cat big"];
    let limited = ["bash", "--max-output", "9000000", "cat big"];
    for words in [&["cat", "big"][..], &["read-file", "big"], &json, &limited, &["bash", "cat big"]]
    {
        let mut command = cli.command(words);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        // The first bytes are there, and the pipe has no room for all.
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 9]).unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(143), "{words:?}");
    }
}

#[test]
fn a_wrapped_command_handles_the_signals_of_the_process() {
    let cli = Cli::new();
    let script = "trap 'exit 7' HUP INT QUIT TERM; > begun; while :; do sleep 0.01; done";
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut command = cli.command(&["wrap", script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let began = cli.home().join("sessions/default/begun");
        let begun = Instant::now();
        while !began.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the command begins");
            std::thread::yield_now();
        }
        std::fs::remove_file(began).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{output:?}");
    }
}
