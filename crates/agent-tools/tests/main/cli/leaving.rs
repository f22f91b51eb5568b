//! The end of the command: everything is stored, and other machines can open the session.

use std::path::Path;
use std::process::{Child, Stdio};

use super::Cli;
use super::signals::{is_released, sharing};

/// Changes a file by hand. The version is not in the store.
fn change(cli: &Cli) {
    std::fs::write(cli.home().join("sessions/default/f"), "by hand\n").unwrap();
}

#[track_caller]
fn check_stored(cli: &Cli, store: &Path) {
    let shown = cli.run(&["--json", "session", "show", "default"]).ok().json();
    assert_eq!(shown["pending"], serde_json::json!([]));
    assert_eq!(shown["owner"], serde_json::Value::Null);
    assert!(is_released(store));
}

#[test]
fn a_version_that_a_restore_keeps_beside_is_stored() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f"]).ok();
    cli.run(&["bash", "echo 2 > f"]).ok();
    change(&cli);
    let history = cli.run(&["--json", "session", "history", "default", "f"]).ok().json();
    let oldest = history.as_array().unwrap().last().unwrap()["number"].to_string();
    let restored = cli.run(&["session", "restore", "default", "f", "--at", &oldest]).ok();
    assert!(restored.stdout.contains("is kept as f.conflict-"), "{}", restored.stdout);
    check_stored(&cli, &store);
    let objects = std::fs::read_dir(store.join("user_local/sessions/default")).unwrap();
    let kept = objects.flatten().find(|object| object.file_name() != "f").unwrap();
    assert_eq!(std::fs::read_to_string(kept.path()).unwrap(), "by hand\n");
}

#[test]
fn showing_a_session_needs_no_store() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f"]).ok();
    change(&cli);
    let shown = || cli.run(&["session", "show", "default"]).ok().stdout;
    let before = shown();
    // The beginning of the session, the file, and the release.
    assert!(before.contains("entry      3\npending    1\n"), "{before}");
    std::fs::remove_dir_all(&store).unwrap();
    assert_eq!(shown(), before);
    assert!(!store.exists(), "nothing is created");
    std::fs::write(&store, "").unwrap();
    assert_eq!(shown(), before);
}

#[test]
fn a_version_that_opening_keeps_beside_is_stored() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f"]).ok();
    let other = cli.sharing_its_store();
    other.run(&["bash", "echo 2 > f"]).ok();
    change(&cli);
    assert_eq!(cli.run(&["read-file", "f"]).ok().stdout, "2\n");
    check_stored(&cli, &store);
}

#[test]
fn each_command_releases_the_session_after_its_background_work() {
    for _ in 0..8 {
        let (cli, store) = sharing();
        let other = cli.sharing_its_store();
        cli.run(&["bash", "echo 1 > p"]).ok();
        other.run(&["bash", "rm p; echo 2 > q"]).ok();
        assert!(is_released(&store));
        cli.run(&["bash", "ls"]).ok();
        assert!(is_released(&store));
    }
}

/// Starts a command that ends only with its session.
fn start_endless_command(cli: &Cli, name: &str) -> Child {
    let command = format!("touch {name}; exec sleep 600");
    let mut child = cli.command(&["bash", &command]).stderr(Stdio::piped()).spawn().unwrap();
    while !cli.home().join("sessions/default").join(name).exists() {
        assert!(child.try_wait().unwrap().is_none(), "the command has ended");
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_command_that_another_process_ends_by_closing_the_session_says_so() {
    for verb in [&["close", "default"][..], &["delete", "default", "--yes"]] {
        let cli = Cli::new();
        let server = start_endless_command(&cli, "a");
        let client = start_endless_command(&cli, "b");
        let mut closing = cli.command(&[&["session"], verb].concat()).spawn().unwrap();
        assert!(closing.wait().unwrap().success());
        let expected = format!(
            "agent-tools: the command was killed before its end, because process {} closed session \
             default; it may have had effects\n",
            closing.id()
        );
        for child in [server, client] {
            let ended = child.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&ended.stderr), expected, "{verb:?}");
            assert_eq!(ended.status.code(), Some(125));
        }
        assert!(!cli.home().join("sessions/default").exists());
    }
}
