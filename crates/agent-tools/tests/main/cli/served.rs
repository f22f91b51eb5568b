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
