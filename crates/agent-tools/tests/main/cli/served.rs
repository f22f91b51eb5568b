//! Commands in a session that another process serves with other settings of the mirror.

use rustix::process::{Pid, Signal, kill_process};

use super::Cli;
use crate::mcp::Server;

#[test]
fn settings_that_only_the_server_applies_are_named_in_the_result() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["--retention", "2h", "mcp", "--session", "m"]);
    server.call("bash", serde_json::json!({ "command": "true" }));
    let warnings = |options: &[&str]| {
        let ran = cli.run(&[&["--json"], options, &["bash", "--session", "m", "true"]].concat());
        ran.ok().json()["warnings"].clone()
    };
    assert!(warnings(&[]).is_null());
    assert!(warnings(&["--retention", "120m"]).is_null(), "it is the same time");
    let options = ["--ignore", "+x", "--no-projection", "--retention", "1h"];
    let found = warnings(&options);
    for (warning, option) in
        found.as_array().unwrap().iter().zip([options[0], options[2], options[3]])
    {
        let warning = warning.as_str().unwrap();
        let pid = format!("process {}", server.child.id());
        assert!(warning.contains(option) && warning.contains(&pid), "{warning}");
    }
    assert_eq!(found.as_array().unwrap().len(), 3);
}

#[test]
fn files_of_an_open_session_need_none_of_the_options_of_its_network() {
    let cli = Cli::new();
    let options = ["--allow-host", "a.test", "--expose", "db=127.0.0.1:5432"];
    let mut server = Server::start_with(&cli, &[&["mcp", "--session", "m"], &options[..]].concat());
    server.call("bash", serde_json::json!({ "command": "echo text > file" }));
    let cat = cli.run(&["cat", "--session", "m", "file"]).ok();
    assert_eq!((&*cat.stdout, &*cat.stderr), ("text\n", ""));
    cli.run(&["write-file", "--session", "m", "other", "--content", "x"]).ok();
    assert!(cli.run(&["ls", "--session", "m"]).ok().stdout.contains("other"));
    // A command still needs them.
    let refused = cli.run(&["bash", "--session", "m", "true"]);
    assert_eq!(refused.code, 125);
    assert!(refused.stderr.contains("with other settings: network"), "{}", refused.stderr);
}

#[test]
fn masks_that_nothing_uses_are_one_warning_of_commands_alone() {
    let cli = Cli::new();
    for name in ["FIRST_KEY", "SECOND_KEY"] {
        let set = ["variable", "set", name, "--host", "a.test"];
        cli.run_with(&set, "a long secret value").ok();
    }
    assert_eq!(cli.run(&["write-file", "file", "--content", "x"]).ok().stderr, "");
    let warning = "agent-tools: warning: variables FIRST_KEY, SECOND_KEY: masked, and the session \
                   has no network, so commands have a placeholder that nothing replaces\n";
    assert_eq!(cli.run(&["bash", "true"]).ok().stderr, warning);
    assert_eq!(cli.run(&["cat", "file"]).ok().stderr, "");
    assert_eq!(cli.run(&["bash", "true"]).ok().stderr, "", "it was reported");
}

#[test]
fn a_stopped_server_is_named_with_what_lets_it_go_on() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    server.call("bash", serde_json::json!({ "command": "true" }));
    let pid = Pid::from_child(&server.child);
    kill_process(pid, Signal::STOP).unwrap();
    let ran = cli.run(&["bash", "--session", "m", "true"]);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(ran.code, 125);
    let pid = server.child.id();
    assert!(ran.stderr.contains(&format!("waiting for process {pid}")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("`kill -CONT {pid}` lets it go on")), "{}", ran.stderr);
    cli.run(&["bash", "--session", "m", "true"]).ok();
}
