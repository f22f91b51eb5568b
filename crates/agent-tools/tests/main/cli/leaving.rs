//! The end of the command: everything is stored, and other machines can open the session.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

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
    for (verb, left) in
        [(&["close", "default"][..], "closed"), (&["delete", "default", "--yes"], "deleted")]
    {
        let cli = Cli::new();
        let server = start_endless_command(&cli, "a");
        let client = start_endless_command(&cli, "b");
        let mut closing = cli.command(&[&["session"], verb].concat()).spawn().unwrap();
        assert!(closing.wait().unwrap().success());
        let expected = format!(
            "agent-tools: the command was killed before its end, because process {} {left} session \
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

#[test]
fn work_goes_on_after_a_close_that_was_killed_at_any_moment() {
    const KILLS: u64 = 24;
    let cli = Cli::new();
    let dir = cli.home().join("sessions/default");
    let (mut expected, mut interrupted) = (String::new(), 0);
    for kill in 0..KILLS {
        let ran = cli.run(&["bash", &format!("echo {kill} > f{kill:02}; cat f*")]).ok();
        expected += &format!("{kill}\n");
        assert!(ran.stdout.starts_with(&expected), "{kill}: {}{}", ran.stdout, ran.stderr);
        let mut closing = cli.command(&["session", "close", "default"]).spawn().unwrap();
        // Any moment of the close, in steps that share no rhythm with it.
        std::thread::sleep(Duration::from_micros(kill * 7_919 % 90_000));
        closing.kill().unwrap();
        interrupted += u32::from(!closing.wait().unwrap().success());
        if kill % 3 == 0 && !dir.exists() {
            // A person makes the directory again.
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("f00"), "by hand\n").unwrap();
            let ran = cli.run(&["bash", "cat f*; rm f*conflict*"]).ok();
            let kept = format!("0\nby hand\n{}", expected.strip_prefix("0\n").unwrap());
            assert!(ran.stdout.starts_with(&kept), "{kill}: {}{}", ran.stdout, ran.stderr);
        }
    }
    assert!(interrupted > 2, "{interrupted} kills were in time");
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(std::fs::read_dir(dir.parent().unwrap()).unwrap().count(), 0);
    assert!(cli.run(&["bash", "cat f*"]).ok().stdout.starts_with(&expected));
}

#[test]
fn a_directory_that_is_made_by_hand_after_a_close_is_joined_with_the_store() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f; echo same > s; mkdir d; echo 2 > d/g"]).ok();
    cli.run(&["session", "close", "default"]).ok();
    let dir = cli.home().join("sessions/default");
    for (file, content) in [("f", "mine\n"), ("s", "same\n"), ("own", "3\n")] {
        testkit::write_file(&dir, file, content);
    }
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default (no state)\n");
    // Its files may have no other copy.
    let refused = cli.run(&["session", "close", "default"]);
    assert!(refused.code == 1 && dir.join("own").exists(), "{}", refused.stderr);
    let ran = cli.run(&["--json", "bash", "cat f f.conflict-* s own d/g"]).ok().json();
    let stdout = ran["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("1\nmine\nsame\n3\n2\n"), "{ran}");
    cli.run(&["session", "close", "default"]).ok();
    let restored = cli.run(&["bash", "cat f f.conflict-* s own d/g"]).ok().stdout;
    assert!(restored.starts_with("1\nmine\nsame\n3\n2\n"), "{restored}");
}

#[test]
fn discarding_lists_every_file_that_has_no_copy_in_the_store() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f; mkdir -p d node_modules; echo 2 > d/g; ln -s f l"]).ok();
    cli.run(&["bash", "echo 3 > node_modules/m"]).ok();
    std::fs::remove_dir_all(store.join("logs")).unwrap();
    let refused = cli.run(&["session", "close", "default"]);
    let expected = "3 files here have no copy in the store; the first is d/g: the store does not";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let close = ["--json", "session", "close", "default", "--discard"];
    let closed = cli.run(&close).ok().json();
    let reason = "the store lost the session log";
    let expected =
        serde_json::json!([{ "reason": reason, "count": 3, "files": ["d/g", "f", "l"] }]);
    assert_eq!(closed["discarded"], expected);
    assert_eq!(closed["ignored"][0]["relativePath"], "node_modules");

    // A store that cannot be used may have what the journal says.
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f; echo 2 > g"]).ok();
    change(&cli);
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::write(&store, "").unwrap();
    let discarded = cli.run(&close).ok().json()["discarded"].clone();
    assert_eq!(discarded[0]["files"], serde_json::json!(["f"]), "{discarded}");
}
