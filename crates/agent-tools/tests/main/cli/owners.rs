//! Machines that share a store.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Cli;
use crate::mcp::Server;

/// Returns a directory, and two machines that have their store in it.
fn machines() -> (tempfile::TempDir, Cli, Cli) {
    let shared = tempfile::tempdir().unwrap();
    let store = format!("file://{}/store", shared.path().canonicalize().unwrap().display());
    let machine = || Cli::with_store(&store, &[]);
    (shared, machine(), machine())
}

#[test]
fn another_machine_is_refused_while_a_server_lives_and_sigterm_releases_the_session() {
    let (_store, first, second) = machines();
    second.run(&["bash", "echo 0 > old"]).ok();
    let args = ["--owner-url", "http://first.example:8080", "mcp"];
    let mut server = Server::start_with(&first, &args);
    server.call("bash", json!({ "command": "echo 1 > f" }));
    let history = second.run(&["session", "history", "default", "f"]).ok();
    assert!(history.stdout.contains("created  f (2 bytes)"), "{}", history.stdout);
    assert_eq!(history.stderr, "", "it waits for no release");
    let refused = second.run(&["bash", "cat f"]);
    assert_eq!(refused.code, 125, "{}{}", refused.stdout, refused.stderr);
    for expected in ["waiting for", "open on another machine", "http://first.example:8080", "steal"]
    {
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
    let owners = second.run(&["owners"]).ok().stdout;
    assert!(owners.contains("http://first.example:8080") && owners.contains("seen"), "{owners}");
    let id = std::fs::read_to_string(first.home().join("id")).unwrap();
    let owners = second.run(&["--json", "owners"]).ok().json();
    assert_eq!(owners[0]["home"], id.trim());
    super::json::check("owners", &owners, &super::json::documented("owners")[0]);
    assert!(owners[0]["lastModified"].as_u64().is_some_and(|time| time > 1_700_000_000));
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
    assert_eq!(second.run(&["bash", "cat f"]).ok().stdout, "1\n");
    assert_eq!(second.run(&["owners"]).ok().stdout, "");
}

#[test]
fn a_command_releases_the_session_for_the_next_machine() {
    let (_store, first, second) = machines();
    for (machine, command) in [(&first, "echo 1 > f"), (&second, "echo 2 >> f")] {
        machine.run(&["bash", command]).ok();
        let shown = machine.run(&["--json", "session", "show", "default"]).ok().json();
        assert!(shown["owner"].is_null(), "{shown}");
    }
    std::fs::write(first.home().join("sessions/default/g"), "3").unwrap();
    first.run(&["session", "sync", "default"]).ok();
    assert!(first.run(&["session", "history", "default"]).ok().stdout.contains("released"));
    assert_eq!(second.run(&["bash", "cat f g"]).ok().stdout, "1\n2\n3");
}
