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
