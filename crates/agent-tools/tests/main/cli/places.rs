//! Sessions whose directory or state another program has replaced or removed.

use super::Cli;

#[test]
fn what_is_in_the_place_of_a_session_directory_is_named_and_nothing_is_lost() {
    for is_dangling in [false, true] {
        let cli = Cli::new();
        cli.run(&["bash", "echo 1 > f"]).ok();
        let dir = cli.home().join("sessions/default");
        std::fs::remove_dir_all(&dir).unwrap();
        match is_dangling {
            true => std::os::unix::fs::symlink("/nonexistent", &dir).unwrap(),
            false => std::fs::write(&dir, "").unwrap(),
        }
        let expected = format!("session directory {} is a symlink or a file", dir.display());
        for args in [
            &["bash", "true"][..],
            &["session", "sync", "default"],
            &["session", "show", "default"],
            &["session", "close", "default"],
            &["session", "close", "default", "--discard"],
        ] {
            let refused = cli.run(args);
            assert_ne!(refused.code, 0, "{args:?}");
            assert!(refused.stderr.contains(&expected), "{args:?}: {}", refused.stderr);
        }
        assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default\n");
        assert!(!cli.home().join("sessions/default~restoring").exists());
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(cli.run(&["bash", "cat f"]).ok().stdout, "1\n");
    }
}

#[test]
fn a_session_whose_state_is_lost_is_named_as_such() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f"]).ok();
    std::fs::remove_dir_all(cli.home().join("state/default")).unwrap();
    for args in [&["sync", "default"][..], &["close", "default"], &["delete", "default", "--yes"]] {
        let refused = cli.run(&[&["session"], args].concat());
        assert_ne!(refused.code, 0, "{args:?}");
        let expected = "the state of session default is lost";
        assert!(refused.stderr.contains(expected), "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("--user USER true"), "{args:?}: {}", refused.stderr);
    }
}

#[test]
fn a_request_about_a_mistyped_session_names_a_similar_one_and_creates_none() {
    let cli = Cli::new();
    cli.run(&["bash", "--session", "report-1", "echo 1 > f"]).ok();
    for args in [
        &["ls", "--session", "reprot-1"][..],
        &["cat", "--session", "reprot-1", "f"],
        &["read-file", "--session", "reprot-1", "f"],
        &["cp", "--session", "reprot-1", ":f", "out"],
        &["logs", "reprot-1"],
        &["session", "show", "reprot-1"],
        &["session", "show", "--network", "reprot-1"],
    ] {
        let ran = cli.run(args);
        assert!(
            ran.code == 1 && ran.stderr.contains(" session reprot-1"),
            "{args:?}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains("did you mean report-1?"), "{args:?}: {}", ran.stderr);
    }
    let far = cli.run(&["ls", "--session", "other"]);
    assert!(far.code == 1 && !far.stderr.contains("did you mean"), "{}", far.stderr);
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "report-1\n");
    // The store has a session that was closed.
    cli.run(&["session", "close", "report-1"]).ok();
    assert_eq!(cli.run(&["cat", "--session", "report-1", "f"]).ok().stdout, "1\n");
    cli.run(&["session", "close", "report-1"]).ok();
    let here = cli.run(&["logs", "report-1"]);
    assert!(here.code == 1 && here.stderr.contains("fetches it from the store"), "{}", here.stderr);
}
