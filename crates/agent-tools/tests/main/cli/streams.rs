//! The streams and the signals of `agent-tools bash`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Cli;
use crate::mcp::Server;

#[test]
fn both_streams_are_passed_on_byte_for_byte_and_uncut() {
    let cli = Cli::new();
    let script = "seq 1 20000; printf '\\377\\000x'; seq 1 9000 >&2; exit 3";
    let expected = std::process::Command::new("bash").args(["-c", script]).output().unwrap();
    let output = cli.command(&["bash", script]).output().unwrap();
    assert!(output.stdout == expected.stdout && output.stdout.len() > 100_000);
    assert!(output.stderr.starts_with(&expected.stderr));
    assert_eq!(output.status.code(), Some(3));
    // One file for both streams has them in their order.
    let path = cli.dir().join("log");
    let log = File::create(&path).unwrap();
    let mut command = cli.command(&["bash", "for i in {1..200}; do echo $i; echo e$i >&2; done"]);
    let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
    assert!(status.success());
    let expected: String = (1..=200).map(|i| format!("{i}\ne{i}\n")).collect();
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn output_arrives_while_the_command_runs_and_input_reaches_it() {
    let cli = Cli::new();
    let mut server = None;
    for is_shared in [false, true] {
        if is_shared {
            server = Some(Server::start_with(&cli, &["mcp"]));
        }
        let script = "echo ready; while read -r line; do echo \"got $line\"; done; echo end";
        let mut command = cli.command(&["bash", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        stdin.write_all(b"one\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got one");
        drop(stdin);
        assert_eq!(lines.next().unwrap().unwrap(), "end");
        assert!(child.wait().unwrap().success());
    }
    let ran = server.unwrap().call("bash", json!({ "command": "echo on" }));
    assert_eq!(ran["structuredContent"]["stdout"], "on\n", "the server goes on");
}

#[test]
fn a_command_reads_no_more_of_a_file_than_it_needs() {
    let cli = Cli::new();
    let path = cli.write("input", "one\ntwo\n");
    let mut input = File::open(path).unwrap();
    let mut command = cli.command(&["bash", "read line; echo \"got $line\""]);
    let output = command.stdin(input.try_clone().unwrap()).output().unwrap();
    assert_eq!(output.stdout, b"got one\n");
    let limited = ["bash", "--max-output", "8", "seq 9; wc -l"];
    let limited = cli.run_with(&limited, "a\nb\nc\n").ok().stdout;
    assert!(limited.starts_with("1\n2\n\n\n[stdout truncated"), "{limited}");
    // Its sandbox may be that of another process, and go on.
    assert!(limited.contains("removed; the rest is not kept]"), "{limited}");
    assert!(limited.ends_with("\n9\n3\n"), "{limited}");
    let mut rest = String::new();
    input.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "two\n");
}

#[test]
fn words_are_joined_and_options_come_before_or_after_them() {
    let cli = Cli::new();
    cli.run(&["bash", "touch", "a"]).ok();
    assert!(cli.run(&["bash", "ls", "-la"]).ok().stdout.contains(" a\n"));
    assert_eq!(cli.run(&["bash", "--", "ls", "-1"]).ok().stdout, "a\n");
    let ran = cli.run(&["--json", "bash", "echo hi; echo 1 > f"]).ok().json();
    assert_eq!(ran["ownStdout"], "hi\n", "{ran}");
    let ran = cli.run(&["bash", "--cwd", "/usr", "echo $PWD $A", "--env", "A=b c"]);
    assert_eq!(ran.ok().stdout, "/usr b c\n");
}

#[test]
fn a_result_as_json_has_the_notes_that_the_command_prints_otherwise() {
    let cli = Cli::new();
    let script = "echo 1 >> f; cat /etc/shadow";
    let ran = cli.run(&["--json", "bash", script]).json();
    let notes = ran["notes"].as_str().unwrap().to_owned();
    assert!(notes.starts_with("hint: read /etc/shadow: "), "{notes}");
    assert!(notes.contains("\nartifacts:\n  f: file://"), "{notes}");
    let plain = cli.run(&["bash", script]);
    assert!(plain.stderr.ends_with(&notes), "{}\n{notes}", plain.stderr);
    let ran = cli.run(&["--json", "bash", "--timeout", "0.2", "sleep 60"]).json();
    let expected = "timed out after 0.2 s: the command and its children were killed\n";
    assert_eq!(ran["notes"], expected, "{ran}");
    let ran = cli.run(&["--json", "bash", "true"]).ok().json();
    assert!(ran.get("notes").is_none(), "{ran}");
}

#[test]
fn an_option_behind_one_of_the_script_is_refused_and_the_separator_is_named() {
    let cli = Cli::new();
    for verb in ["bash", "wrap"] {
        let late = cli.run(&[verb, "ls", "-a", "--session", "other"]);
        assert_eq!(late.code, 2, "{}", late.stderr);
        let expected = "--session is an option of agent-tools, but follows -a";
        assert!(late.stderr.contains(expected), "{}", late.stderr);
        let advised = format!("agent-tools {verb} --session … -- ls -a …");
        assert!(late.stderr.contains(&advised), "{}", late.stderr);
        let passed = cli.run(&[verb, "--", "echo", "-a", "--session", "other"]).ok();
        assert_eq!(passed.stdout, "-a --session other\n");
        let taken = cli.run(&[verb, "pwd", "--session", "other"]).ok();
        assert!(taken.stdout.ends_with("/other\n"), "{}", taken.stdout);
    }
    let late = cli.run(&["bash", "ls", "-a", "--json"]);
    assert!(late.json()["error"].as_str().unwrap().contains("--json is"), "{}", late.stdout);
}

#[test]
fn values_of_a_file_of_variables_are_neither_in_the_log_nor_in_a_list_of_processes() {
    let cli = Cli::new();
    let variables = "{\"A\": \"it's\\nhunter2\", \"B\": \"file\"}";
    let script = "cat; echo \"$A $B\"; cat /proc/*/cmdline | tr '\\0' ' ' > lines";
    let arguments = ["bash", "--env-file", "-", "--env", "B=own", "--", script];
    let ran = cli.run_with(&arguments, variables).ok();
    assert_eq!(ran.stdout, "it's\nhunter2 own\n");
    for verb in [&["logs", "--json"][..], &["cat", "lines"]] {
        let text = cli.run(verb).ok().stdout;
        assert!(text.contains("bash") && !text.contains("hunter2"), "{text}");
    }
    let file = cli.write("variables", variables);
    let path = file.to_str().unwrap();
    let ran = cli.run_with(&["bash", "--env-file", path, "cat; echo $B"], "input ").ok();
    assert_eq!(ran.stdout, "input file\n");
}

#[test]
fn output_of_processes_that_outlive_the_shell_for_a_moment_is_not_lost() {
    let cli = Cli::new();
    for _ in 0..5 {
        let ran = cli.run(&["bash", "exec > >(tee o.log) 2>&1; echo hello"]).ok();
        assert_eq!(ran.stdout, "hello\n");
        let log = std::fs::read_to_string(cli.home().join("sessions/default/o.log"));
        assert_eq!(log.unwrap(), "hello\n");
    }
    let ran = cli.run(&["bash", "sleep 1000 & echo hello"]);
    assert!(ran.stderr.contains("killed after the command: sleep"), "{}", ran.stderr);
}

#[test]
fn a_full_device_is_an_error_and_a_closed_pipe_ends_the_command() {
    let cli = Cli::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = cli.command(&["bash", "echo hi"]);
    let output = command.stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mut command = cli.command(&["bash", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 2]).unwrap();
    let output = child.wait_with_output().unwrap();
    // 128 and the number of SIGPIPE.
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{output:?}");
}

#[test]
fn a_value_in_a_stream_is_replaced_and_a_signal_reaches_the_command() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "pass")]);
    cli.run_with(&["variable", "set", "TOKEN"], "hunter2-hunter2").ok();
    let script = "trap 'echo got; exit 7' INT; printf '%s' ${TOKEN:0:8}; printf '%s\\n' \
                  ${TOKEN:8}; touch begun; while :; do sleep 0.01; done";
    let mut command = cli.command(&["bash", script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begun, start) = (cli.home().join("sessions/default/begun"), Instant::now());
    while !begun.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the command begins");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!((&*stdout, output.status.code()), ("[redacted:TOKEN]\ngot\n", Some(7)));
}
