//! A home that the command of version 0.1 left.

use super::Cli;

/// The index of a session whose last changes were not stored.
const INDEX: &str = include_str!("../../data/version_0_1.log");

#[test]
fn a_session_of_version_0_1_is_migrated_and_its_pending_changes_are_stored() {
    let cli = Cli::new();
    let state = cli.home().join("state/s1");
    testkit::write_file(&state, "session.json", r#"{"user":"7"}"#);
    testkit::write_file(&state, "mirror/index.log", INDEX);
    testkit::write_file(&state, "mirror/lock", "");
    let (dir, store) = (cli.home().join("sessions/s1"), cli.home().join("store"));
    for (path, here, stored) in [
        ("changed.txt", "new\n", "old\n"),
        ("kept.md", "kept\n", "kept\n"),
        ("vanished.txt", "vanished\n", "vanished\n"),
    ] {
        testkit::write_file(&dir, path, here);
        testkit::write_file(&store.join("user_7/sessions/s1"), path, stored);
    }
    let shown = cli.run(&["session", "show", "s1"]).ok().stdout;
    assert!(shown.contains("changed.txt"), "{shown}");
    let ran = cli.run(&["bash", "--session", "s1", "--user", "7", "ls; rm vanished.txt"]).ok();
    assert_eq!(ran.stdout, "changed.txt\nkept.md\nvanished.txt\n");
    let stored =
        |path: &str| std::fs::read_to_string(store.join("user_7/sessions/s1").join(path)).ok();
    assert_eq!(stored("changed.txt").as_deref(), Some("new\n"));
    assert_eq!(stored("vanished.txt"), None);
    assert!(!state.join("mirror/index.log").exists());
    let history = cli.run(&["session", "history", "s1", "changed.txt"]).ok().stdout;
    assert!(history.contains("changed  changed.txt (4 bytes)"), "{history}");
    assert!(history.contains("created  changed.txt (4 bytes)"), "{history}");
    cli.run(&["session", "close", "s1"]).ok();
    assert_eq!(
        cli.run(&["bash", "--session", "s1", "--user", "7", "cat *"]).ok().stdout,
        "new\nkept\n"
    );
}
