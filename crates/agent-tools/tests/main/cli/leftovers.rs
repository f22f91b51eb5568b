//! Closing and deletion of sessions of which only a part is on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cli;
use super::signals::sharing;

/// A file that even root cannot remove while this value lives.
struct Immutable(PathBuf);

impl Immutable {
    /// Returns `None` if the host cannot make files immutable.
    fn new(path: &Path) -> Option<Self> {
        let file = Self(path.to_owned());
        if file.change("+i") {
            return Some(file);
        }
        eprintln!("SKIPPED: immutable files (root, and a file system such as ext4)");
        None
    }

    fn change(&self, change: &str) -> bool {
        let mut chattr = Command::new("chattr");
        chattr.arg(change).arg(&self.0).output().is_ok_and(|ran| ran.status.success())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        // A close may have renamed the directory.
        self.change("-i");
        self.0 = closing(self.0.parent().unwrap()).join(self.0.file_name().unwrap());
        self.change("-i");
    }
}

fn closing(dir: &Path) -> PathBuf {
    dir.with_file_name("default~closing")
}

#[track_caller]
fn check_deleted(cli: &Cli, store: &Path) {
    let deleted = cli.run(&["session", "delete", "default", "--yes"]).ok();
    assert_eq!(deleted.stdout, "deleted default\n");
    assert!(!store.join("user_local/sessions/default/f").exists());
    for name in ["sessions", "state"] {
        let left = std::fs::read_dir(cli.home().join(name)).unwrap().count();
        assert_eq!(left, 0, "{name}");
    }
    assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "", "the id begins anew");
}

#[test]
fn deleting_a_session_whose_close_was_interrupted_erases_it_in_the_store() {
    let cli = Cli::new();
    let dir = cli.home().join("sessions/default");
    cli.run(&["bash", "echo 1 > f"]).ok();
    std::fs::rename(&dir, closing(&dir)).unwrap();
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default (close not finished)\n");
    check_deleted(&cli, &cli.home().join("store"));
    cli.run(&["bash", "echo 1 > f"]).ok();
    let Some(file) = Immutable::new(&dir.join("f")) else { return };
    assert_eq!(cli.run(&["session", "close", "default"]).code, 1);
    drop(file);
    check_deleted(&cli, &cli.home().join("store"));
}

#[test]
fn a_session_without_its_state_is_not_deleted_and_has_perhaps_other_copies() {
    for is_closing in [false, true] {
        let cli = Cli::new();
        let dir = cli.home().join("sessions/default");
        cli.run(&["bash", "echo 1 > f"]).ok();
        std::fs::remove_dir_all(cli.home().join("state/default")).unwrap();
        if is_closing {
            std::fs::rename(&dir, closing(&dir)).unwrap();
        }
        for args in [&["delete", "default", "--yes"][..], &["close", "default"]] {
            if is_closing && args.len() == 2 {
                continue;
            }
            let refused = cli.run(&[&["session"], args].concat());
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
            let remedy = "`agent-tools bash --session default --user USER true`";
            assert!(refused.stderr.contains(remedy), "{}", refused.stderr);
            assert!(!refused.stderr.contains("only copy"), "{}", refused.stderr);
            assert!(dir.exists() || closing(&dir).exists());
        }
        cli.run(&["session", "close", "default", "--discard"]).ok();
        assert!(!dir.exists() && !closing(&dir).exists());
        assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "f\n");
        check_deleted(&cli, &cli.home().join("store"));
    }
}

#[test]
fn deleting_a_stale_copy_tells_that_the_id_has_begun_anew() {
    let (first, store) = sharing();
    let second = first.sharing_its_store();
    first.run(&["bash", "echo 1 > f"]).ok();
    second.run(&["bash", "true"]).ok();
    first.run(&["session", "delete", "default", "--yes"]).ok();
    first.run(&["bash", "echo secret > reborn"]).ok();
    let deleted = second.run(&["session", "delete", "default", "--yes"]);
    assert_eq!((deleted.code, deleted.stdout.as_str()), (1, ""), "{}", deleted.stderr);
    assert!(deleted.stderr.contains("has begun default anew"), "{}", deleted.stderr);
    assert!(!second.home().join("sessions/default").exists());
    assert_eq!(first.run(&["bash", "cat reborn"]).ok().stdout, "secret\n");
    // The remedy of the message.
    second.run(&["bash", "--session", "default", "--user", "local", "true"]).ok();
    check_deleted(&second, &store);
}

#[test]
fn a_directory_that_a_close_cannot_remove_is_named_until_it_is_gone() {
    let cli = Cli::new();
    let dir = cli.home().join("sessions/default");
    cli.run(&["bash", "echo 1 > f; echo 2 > g"]).ok();
    let Some(file) = Immutable::new(&dir.join("f")) else { return };
    let left = closing(&dir);
    let path = left.display().to_string();
    let expected = [
        format!("cannot remove what a close of the session has left in {path}: "),
        format!("cannot remove {path}/f: it is immutable; `chattr -i` makes it removable"),
    ];
    let commands = [
        &["session", "close", "default"][..],
        &["session", "close", "default", "--discard"],
        &["bash", "ls"],
        &["bash", "ls"],
        &["session", "delete", "default", "--yes"],
        &["session", "close", "default", "--discard"],
    ];
    for args in commands {
        let ran = cli.run(args);
        assert_eq!(ran.code, if args[0] == "bash" { 125 } else { 1 }, "{args:?}: {}", ran.stderr);
        for expected in &expected {
            assert!(ran.stderr.contains(expected), "{args:?}: {expected}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("the store"), "{args:?}: {}", ran.stderr);
        assert!(left.join("f").exists() && cli.home().join("state/default").exists());
    }
    drop(file);
    assert_eq!(cli.run(&["bash", "cat f g"]).ok().stdout, "1\n2\n");
    assert!(!left.exists());
}

#[test]
fn an_unfinished_discard_of_an_immutable_file_fails_with_the_remedy() {
    let cli = Cli::new();
    let dir = cli.home().join("sessions/default");
    cli.run(&["bash", "echo 1 > f"]).ok();
    let Some(file) = Immutable::new(&dir.join("f")) else { return };
    let refused = cli.run(&["session", "close", "default", "--discard"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("`chattr -i` makes it removable"), "{}", refused.stderr);
    drop(file);
    cli.run(&["session", "close", "default", "--discard"]).ok();
    assert!(!closing(&dir).exists() && !cli.home().join("state/default").exists());
}

#[test]
fn what_an_earlier_close_has_left_beside_a_session_is_shown_and_fails_its_close() {
    let cli = Cli::new();
    let dir = cli.home().join("sessions/default");
    cli.run(&["bash", "echo 1 > f"]).ok();
    let left = closing(&dir);
    testkit::write_file(&left, "f", "old");
    let listed = cli.run(&["session", "list"]).ok().stdout;
    assert_eq!(listed, "default (complete; an earlier close left default~closing)\n");
    let listed = cli.run(&["--json", "session", "list"]).ok().json();
    assert_eq!(listed[0]["leftover"], left.to_str().unwrap());
    let shown = cli.run(&["session", "show", "default"]).ok().stdout;
    let expected = format!("leftover   {}; the next close removes", left.display());
    assert!(shown.contains(&expected), "{shown}");
    if let Some(file) = Immutable::new(&left.join("f")) {
        for args in [&["close", "default"][..], &["close", "default", "--discard"]] {
            let refused = cli.run(&[&["session"], args].concat());
            let expected = format!("{}/f: it is immutable", left.display());
            assert!(refused.code == 1 && refused.stderr.contains(&expected), "{}", refused.stderr);
            assert!(dir.join("f").exists() && cli.home().join("state/default").exists());
        }
        assert_eq!(cli.run(&["bash", "cat f"]).ok().stdout, "1\n", "the session goes on");
        file.change("-i");
    }
    cli.run(&["session", "close", "default"]).ok();
    assert!(!left.exists());
    assert_eq!(cli.run(&["bash", "cat f"]).ok().stdout, "1\n");
    let shown = cli.run(&["--json", "session", "show", "default"]).ok().json();
    assert!(shown["leftover"].is_null(), "{shown}");
}

#[test]
fn a_store_among_the_sessions_or_their_state_is_refused_and_not_created() {
    let cli = Cli::new();
    cli.run(&["bash", "echo 1 > f"]).ok();
    let home = cli.home();
    let link = cli.dir().join("link");
    std::os::unix::fs::symlink(home.join("state"), &link).unwrap();
    let url = |path: &Path| url::Url::from_file_path(path).unwrap().to_string();
    let inside = ["state", "state/default", "state/new", "sessions", "sessions/new/deep"];
    let inside = inside.map(|name| home.join(name)).into_iter().chain([link.join("new")]);
    for path in inside {
        let existed = path.exists();
        for args in [&["bash", "true"][..], &["skill", "list"]] {
            let refused = cli.run(&[&["--store", &url(&path)], args].concat());
            assert_ne!(refused.code, 0, "{}: {}", path.display(), refused.stdout);
            let expected = "belongs to the sessions";
            assert!(refused.stderr.contains(expected), "{}: {}", path.display(), refused.stderr);
        }
        assert_eq!(path.exists(), existed, "{}", path.display());
    }
    for path in [home.clone(), home.join("statement"), home.join("store/below")] {
        cli.run(&["--store", &url(&path), "bash", "--session", "other", "true"]).ok();
    }
}
