//! The subcommand `session`, and the restore of sessions.

use super::{Cli, open_link};

#[test]
fn many_vanished_objects_wait_for_confirmation_and_new_objects_are_fetched() {
    let cli = Cli::new();
    cli.run(&["bash", "touch f{1..80}; echo 1 > kept"]).ok();
    let store = cli.home().join("store/user_local/sessions/default");
    for number in 1..=80 {
        std::fs::remove_file(store.join(format!("f{number}"))).unwrap();
    }
    std::fs::write(store.join("upload"), "the user's").unwrap();
    let synced = cli.run(&["--json", "session", "sync", "default"]).ok().json();
    assert_eq!(
        (&synced["restored"][0], &synced["removalsHeldBack"]),
        (&"upload".into(), &80.into()),
        "{synced}"
    );
    assert!(cli.home().join("sessions/default/f1").exists());
    let synced =
        cli.run(&["--json", "session", "sync", "default", "--confirm-removals"]).ok().json();
    assert_eq!(
        (synced["removed"].as_array().unwrap().len(), &synced["removalsHeldBack"]),
        (80, &0.into()),
        "{synced}"
    );
    assert!(!cli.home().join("sessions/default/f1").exists());
    assert!(cli.run(&["session", "sync", "default"]).ok().stdout == "nothing to do\n");
}

#[test]
fn many_files_are_removed_and_named_at_once() {
    let cli = Cli::new();
    cli.run(&["bash", "touch f{1..80}"]).ok();
    let removed = cli.run(&["--json", "bash", "rm f*; echo 1 > kept"]).ok().json();
    assert_eq!(
        (removed["removed"].as_array().map(Vec::len), &removed["removedOmitted"]),
        (Some(50), &30.into()),
        "{removed}"
    );
    let store = cli.home().join("store/user_local/sessions/default");
    assert!(!store.join("f1").exists() && store.join("kept").exists(), "{removed}");
}

#[test]
fn close_lists_what_it_leaves_behind_and_discards_on_request() {
    let cli = Cli::new();
    let command = "mkdir -p node_modules/m && echo 12345 > node_modules/m/f; touch $'\\xff\\t'";
    cli.run(&["bash", command]).ok();
    let refused = cli.run(&["session", "close", "default"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("cannot be stored (1)"), "{}", refused.stderr);
    let list = "`agent-tools session sync default` lists all";
    assert!(refused.stderr.contains(list), "{}", refused.stderr);
    assert!(refused.stderr.contains("--discard"), "{}", refused.stderr);
    let closed = cli.run(&["session", "close", "default", "--discard"]).ok();
    assert!(
        closed.stderr.contains("removed without a copy: node_modules (1 file, 6 bytes)"),
        "{}",
        closed.stderr
    );
    assert!(closed.stderr.contains("removed without a copy: \u{fffd}\\t: "), "{}", closed.stderr);
    for name in ["sessions/default", "state/default"] {
        assert!(!cli.home().join(name).exists(), "{name}");
    }
}

#[test]
fn close_discards_without_a_store_that_cannot_be_opened() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f"]).ok();
    // No directory can be created below a file.
    let store = "file:///dev/null/store";
    let refused = cli.run(&["--store", store, "session", "close", "default"]);
    assert_ne!(refused.code, 0, "{}", refused.stderr);
    cli.run(&["--store", store, "session", "close", "default", "--discard"]).ok();
    assert!(!cli.home().join("sessions/default").exists());
}

#[test]
fn a_retention_time_that_is_too_short_is_refused() {
    let cli = Cli::new();
    for (time, problem) in [("5m", "the shortest time is 15m"), ("abc", "expected a time")] {
        let refused = cli.run(&["--retention", time, "session", "list"]);
        assert!(refused.code != 0 && refused.stderr.contains(problem), "{}", refused.stderr);
    }
}

#[test]
fn close_asks_the_store_before_it_deletes_the_last_copy() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f"]).ok();
    std::fs::remove_dir_all(cli.home().join("store")).unwrap();
    let refused = cli.run(&["session", "close", "default"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(cli.home().join("sessions/default/f").exists(), "{}", refused.stderr);
    cli.run(&["session", "close", "default", "--discard"]).ok();
    assert!(!cli.home().join("sessions/default").exists());
    assert!(!cli.home().join("state/default").exists());
}

#[test]
fn delete_asks_for_a_confirmation_and_erases_the_session_everywhere() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f"]).ok();
    let refused = cli.run_with(&["session", "delete", "default"], "yes\n");
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert!(cli.home().join("sessions/default/f").exists());
    assert_eq!(
        cli.run(&["session", "delete", "default", "--yes"]).ok().stdout,
        "deleted default\n"
    );
    for name in ["sessions/default", "state/default", "store/user_local/sessions/default/f"] {
        assert!(!cli.home().join(name).exists(), "{name}");
    }
    assert_eq!(cli.run(&["bash", "ls; echo 2 > g"]).ok().stdout, "", "the id begins anew");
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "g\n");
}

#[test]
fn show_names_the_owner_and_the_place_in_the_log_without_the_store() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > a"]).ok();
    std::fs::write(cli.home().join("sessions/default/new"), "x").unwrap();
    std::fs::rename(cli.home().join("store"), cli.home().join("away")).unwrap();
    let shown = cli.run(&["session", "show", "default"]).ok().stdout;
    let id = std::fs::read_to_string(cli.home().join("id")).unwrap();
    for line in [
        "user       local",
        &format!("owner      home {}, since entry 1 (known as of entry 1)\n", id.trim()),
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(shown.contains("entry      1\npending    1\n  new: it was not tried yet\n"), "{shown}");
}

#[test]
fn names_that_act_on_a_terminal_are_escaped() {
    let cli = Cli::new();
    let ran = cli.run(&["bash", "touch $'a\\e]0;x\\a' $'b\\xe2\\x80\\xaec'; rm -f none"]).ok();
    let shown = cli.run(&["session", "sync", "default"]);
    let closed = cli.run(&["session", "close", "default", "--discard"]).ok();
    for text in [&ran.stderr, &shown.stdout, &shown.stderr, &closed.stderr, &closed.stdout] {
        let raw = |character: char| character == '\u{1b}' || character == '\u{202e}';
        assert!(!text.contains(raw), "{text:?}");
    }
    assert!(ran.stderr.contains("a\\u{1b}]0;x\\u{7}"), "{}", ran.stderr);
    assert!(ran.stderr.contains("b\\u{202e}c"), "{}", ran.stderr);
}

#[test]
fn a_closed_session_is_restored_from_the_store() {
    let cli = Cli::new();
    let command = "mkdir -p d; echo 1 > d/one; printf '#!/bin/sh\\necho ran' > run.sh; \
                   head -c 100000 /dev/urandom > big; md5sum big > sum";
    cli.run(&["bash", command]).ok();
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default\n");
    let shown = cli.run(&["--json", "session", "show", "default"]).ok().json();
    assert_eq!(
        (shown["user"].as_str(), shown["pending"].as_array().map(Vec::len)),
        (Some("local"), Some(0))
    );
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");
    assert!(!cli.home().join("sessions/default").exists());
    assert_eq!(
        cli.run(&["bash", "cat d/one && md5sum -c sum && sh run.sh"]).ok().stdout,
        "1\nbig: OK\nran\n"
    );
    let none = cli.run(&["session", "close", "other"]);
    assert!(none.code == 1 && none.stderr.contains("there is no session other"), "{}", none.stderr);
}

#[test]
fn the_store_is_probed_once_per_home() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > a"]).ok();
    let probes = cli.home().join("probes.json");
    let results = std::fs::read_to_string(&probes).unwrap();
    assert!(results.contains(cli.home().join("store").to_str().unwrap()), "{results}");
    let modified = || std::fs::metadata(&probes).unwrap().modified().unwrap();
    let before = modified();
    cli.run(&["bash", "echo 2 > a"]).ok();
    assert_eq!(modified(), before, "a second process does not probe");
    assert!(!cli.home().join("store/probes").exists(), "the temporary object is deleted");
}

#[test]
fn deleted_files_do_not_come_back() {
    let cli = Cli::new();
    cli.run(&["bash", "echo a > a; echo b > b"]).ok();
    cli.run(&["bash", "rm a; mv b c"]).ok();
    cli.run(&["bash", "mkfifo p"]).ok();
    let closed = cli.run(&["session", "close", "default"]).ok();
    assert!(closed.stderr.contains("removed without a copy: p: "), "{}", closed.stderr);
    assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "c\n");
}

#[test]
fn only_keys_of_the_session_can_be_pulled() {
    let cli = Cli::new();
    cli.run(&["bash", "true"]).ok();
    let uploaded = cli.home().join("store/user_local/sessions/default/in/put.txt");
    std::fs::create_dir_all(uploaded.parent().unwrap()).unwrap();
    std::fs::write(&uploaded, "from the user").unwrap();
    cli.run(&["session", "pull", "default", "user_local/sessions/default/in/put.txt"]).ok();
    assert_eq!(cli.run(&["read-file", "in/put.txt"]).ok().stdout, "from the user");
    for key in [
        "user_other/sessions/default/x",
        "user_local/sessions/default/../x",
        "user_local/sessions/defaultx/y",
    ] {
        assert_eq!(cli.run(&["session", "pull", "default", key]).code, 1, "{key}");
    }
    // The upload is a part of the session now, so the agent can remove it.
    cli.run(&["bash", "rm in/put.txt"]).ok();
    assert!(!uploaded.exists());
}

#[test]
fn older_versions_and_removed_files_come_back() {
    let cli = Cli::new();
    cli.run(&["bash", "echo one > a; mkdir d; echo 2 > d/b"]).ok();
    cli.run(&["bash", "echo three > a"]).ok();
    cli.run(&["bash", "rm -r d"]).ok();
    let history = cli.run(&["--json", "session", "history", "default", "a"]).ok().json();
    let changes: Vec<_> = history.as_array().unwrap().iter().collect();
    let kinds: Vec<_> = changes.iter().map(|entry| &entry["changes"][0]["kind"]).collect();
    assert_eq!(kinds, ["changed", "created"], "{history}");
    let shown = cli.run(&["session", "history", "default"]).ok().stdout;
    for line in ["\n  created  a (4 bytes)\n", "\n  changed  a (6 bytes)\n", "  removed  d/b\n"] {
        assert!(shown.contains(line), "{shown}");
    }

    let first = changes[1]["number"].to_string();
    let restored = cli.run(&["session", "restore", "default", "a", "--at", &first]).ok();
    assert_eq!(restored.stdout, "restored   a\n");
    let undeleted = cli.run(&["session", "undelete", "default"]).ok().stdout;
    assert!(undeleted.contains("restored   d/b\n"), "{undeleted}");
    assert_eq!(cli.run(&["bash", "cat a d/b"]).ok().stdout, "one\n2\n");
    let again = cli.run(&["session", "undelete", "default", "d", "none"]);
    assert!(again.code == 1 && again.stdout.contains("exists     d/b\n"), "{}", again.stdout);
    assert!(again.stderr.contains("no removal of none is retained"), "{}", again.stderr);

    let absent = cli.run(&["session", "restore", "default", "a", "--at", "99"]);
    assert!(absent.code == 1 && absent.stderr.contains("99"), "{}", absent.stderr);
    for path in ["../f", "/etc/passwd", ""] {
        let refused = cli.run(&["session", "restore", "default", path, "--at", &first]);
        assert_eq!(refused.code, 2, "{path}: {}", refused.stderr);
    }
}

#[test]
fn garbage_is_reported_by_a_dry_run_and_kept_within_the_retention_time() {
    let cli = Cli::new();
    cli.run(&["bash", "head -c 100000 /dev/urandom > f"]).ok();
    cli.run(&["bash", "head -c 100000 /dev/urandom > f"]).ok();
    let before = cli.run(&["session", "history", "default"]).ok().stdout;
    let dry = cli.run(&["session", "gc", "default", "--dry-run"]).ok().stdout;
    assert!(dry.starts_with("would delete 0 entries and 0 blobs (0 bytes)\n"), "{dry}");
    assert_eq!(cli.run(&["session", "history", "default"]).ok().stdout, before);
    let collected = cli.run(&["--json", "session", "gc", "default"]).ok().json();
    assert!(collected["snapshot"].is_number(), "{collected}");
    assert!(cli.run(&["session", "gc", "default", "--retention", "soon"]).code == 2);
    cli.run(&["session", "gc", "default", "--retention", "7d"]).ok();
}

#[test]
fn calls_wait_for_the_disk_unless_the_user_decides_otherwise() {
    let cli = Cli::new();
    cli.run(&["bash", "--durability", "memory", "echo 1 > f"]).ok();
    cli.run(&["bash", "echo 2 > g"]).ok();
    let refused = cli.run(&["bash", "--durability", "never", "true"]);
    assert!(refused.code == 2 && refused.stderr.contains("[possible values: disk, memory]"));
    assert_eq!(cli.run(&["read-file", "g"]).ok().stdout, "2\n");
}

#[test]
fn a_store_that_lost_a_session_is_filled_again_on_request() {
    let cli = Cli::new();
    cli.run(&["bash", "mkdir d; echo 1 > d/f; head -c 100000 /dev/zero > g"]).ok();
    std::fs::remove_dir_all(cli.home().join("store")).unwrap();
    let refused = cli.run(&["session", "sync", "default"]);
    assert!(refused.code == 1 && refused.stderr.contains("--refill"), "{}", refused.stderr);
    cli.run(&["session", "sync", "default", "--refill"]).ok();
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(cli.run(&["bash", "cat d/f; wc -c < g"]).ok().stdout, "1\n100000\n");
}

#[test]
fn a_session_belongs_to_one_user() {
    let cli = Cli::new();
    cli.run(&["bash", "--user", "ann", "echo private > f"]).ok();
    let other = cli.run(&["bash", "--user", "bob", "cat f"]);
    assert!(
        other.code == 125 && other.stderr.contains("belongs to another user"),
        "{}",
        other.stderr
    );
}

#[cfg(feature = "s3")]
#[test]
fn an_unreachable_store_fails_a_new_session_and_leaves_nothing() {
    let credentials = [
        ("AWS_ACCESS_KEY_ID", "k".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
        ("AWS_ENDPOINT", "http://127.0.0.1:1".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let cli = Cli::with_store("s3://bucket/prefix", &credentials);
    let ran = cli.run(&["bash", "echo x > f"]);
    assert!(
        ran.code == 125 && ran.stderr.contains("could not be restored from the store"),
        "{}",
        ran.stderr
    );
    assert!(!cli.home().join("sessions/default").exists());
}

#[test]
fn without_a_projection_the_store_has_no_files_and_links_open_them_as_they_were() {
    let mut cli = Cli::new();
    let projection = cli.home().join("store/user_local/sessions/default");
    cli.environment.push(("AGENT_TOOLS_NO_PROJECTION".to_owned(), "1".to_owned()));
    let link = |ran: &serde_json::Value| ran["artifacts"][0]["url"].as_str().unwrap().to_owned();
    let first = cli.run(&["--json", "bash", "echo 1 > f"]).ok().json();
    assert_eq!(first["artifacts"][0]["key"], serde_json::Value::Null);
    let second = cli.run(&["--json", "write-file", "f"]);
    assert_eq!(second.ok().json()["pending"], serde_json::Value::Null);
    let third = cli.run(&["--json", "bash", "echo 3 > f"]).ok().json();
    assert_eq!((open_link(&link(&first)), open_link(&link(&third))), ("1\n".into(), "3\n".into()));
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(cli.run(&["bash", "cat f"]).ok().stdout, "3\n");
    assert!(!projection.exists());
    cli.environment.clear();
    cli.run(&["bash", "true"]).ok();
    assert_eq!(std::fs::read_to_string(projection.join("f")).unwrap(), "3\n");
    cli.run(&["--no-projection", "bash", "echo 4 > f"]).ok();
    assert_eq!(std::fs::read_to_string(projection.join("f")).unwrap(), "3\n");
}

/// Returns a home in which the first opening of a session has failed halfway, and the directory of
/// its store.
fn half_restored() -> (tempfile::TempDir, Cli) {
    let place = tempfile::tempdir().unwrap();
    let first = Cli::with_store(&format!("file://{}/store", place.path().display()), &[]);
    first.run(&["bash", "echo 1 > small; head -c 3000000 /dev/zero > large"]).ok();
    first.run(&["session", "close", "default"]).ok();
    let second = first.sharing_its_store();
    // The process may not write the large file.
    let opening = second.command(&["bash", "true"]);
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "ulimit -f 1000; exec \"$@\"", "bash"]);
    limited.arg(opening.get_program()).args(opening.get_args()).env_clear();
    limited.envs(opening.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("large: File too large"), "{stderr}");
    assert!(second.home().join("sessions/default~restoring/small").exists());
    (place, second)
}

#[test]
fn a_session_that_is_half_restored_is_listed_and_can_be_closed() {
    for discard in [true, false] {
        let (_place, cli) = half_restored();
        let listed = cli.run(&["session", "list"]).ok().stdout;
        assert_eq!(listed, "default (restore not finished)\n");
        cli.run(&["session", "show", "default"]).ok();
        let close = ["session", "close", "default", "--discard"];
        cli.run(if discard { &close } else { &close[..3] }).ok();
        for name in ["sessions/default~restoring", "sessions/default", "state/default"] {
            assert!(!cli.home().join(name).exists(), "{name}");
        }
        let restored = cli.run(&["bash", "wc -c < large; cat small"]).ok();
        assert!(restored.stdout.starts_with("3000000\n1\n"), "{}", restored.stdout);
    }
}

#[test]
fn half_a_session_whose_store_is_lost_is_stored_again() {
    let (place, cli) = half_restored();
    std::fs::remove_dir_all(place.path().join("store")).unwrap();
    for command in [&["bash", "ls"][..], &["session", "close", "default"]] {
        let refused = cli.run(command);
        assert!(refused.code != 0 && refused.stderr.contains("--refill"), "{}", refused.stderr);
    }
    cli.run(&["session", "sync", "default", "--refill"]).ok();
    cli.run(&["session", "close", "default"]).ok();
    let restored = cli.run(&["bash", "cat small"]).ok();
    assert!(restored.stdout.starts_with("1\n"), "{}", restored.stdout);
}
