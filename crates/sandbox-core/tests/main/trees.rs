//! Removal of trees as deep, wide and closed as an agent can make them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, mkdirat, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox_core::{RelativePath, SessionDir};
use testkit::{as_ordinary_user, assert_passed, copy_of_this_program, rerun, skipped};

/// Depth at which recursion exhausts the stack of a thread.
const DEPTH: usize = 15_000;
/// Set in a process that runs one test alone.
const ALONE: &str = "SANDBOX_CORE_TEST_ALONE";
/// Descriptors of such a process: those of the test program, and 64 others.
const DESCRIPTORS: u64 = 80;

/// Runs `body` in a process with few descriptors, as this user and as an ordinary user.
fn with_few_descriptors(test: &str, body: impl FnOnce(&SessionDir, &Path)) {
    if std::env::var_os(ALONE).is_some() {
        let limit = Rlimit { current: Some(DESCRIPTORS), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).unwrap();
        // A disk would need most of the time for its journal.
        let outer = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let dir = SessionDir::create(&outer.path().join("session")).unwrap();
        let path = dir.path().to_owned();
        return body(&dir, &path);
    }
    assert_passed(&rerun(test).env(ALONE, "1").output().unwrap());
    if rustix::process::geteuid().is_root() {
        let (_dir, program) = copy_of_this_program();
        let mut run = as_ordinary_user(program);
        run.args(["--exact", test]).env(ALONE, "1").env_remove("TMPDIR").current_dir("/");
        match run.output() {
            Ok(ran) => assert_passed(&ran),
            Err(_) => skipped("trees of an ordinary user", "package util-linux"),
        }
    }
}

fn rel(path: &str) -> RelativePath {
    RelativePath::parse(path).unwrap()
}

/// Creates nested directories below `parent`, with a file in every thousandth.
fn nest(parent: &Path, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = File::open(parent).unwrap();
    for level in 0..depth {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        if level % 1_000 == 0 {
            openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        }
        at = openat(&at, "d", flags, Mode::empty()).unwrap().into();
    }
}

fn close(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_session_of_any_depth_is_removed() {
    with_few_descriptors("trees::a_session_of_any_depth_is_removed", |dir, path| {
        nest(path, DEPTH);
        SessionDir::open(dir.path()).unwrap().remove_all().unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn a_tree_of_any_depth_is_replaced() {
    with_few_descriptors("trees::a_tree_of_any_depth_is_replaced", |dir, path| {
        for name in ["old", "new"] {
            fs::create_dir(path.join(name)).unwrap();
            nest(&path.join(name), DEPTH);
        }
        fs::write(path.join("new/mark"), "new").unwrap();
        dir.replace_tree(&rel("new"), &rel("old")).unwrap();
        assert_eq!(names(path), ["old"]);
        assert_eq!(fs::read(path.join("old/mark")).unwrap(), b"new");
        dir.remove_tree(&rel("old")).unwrap();
        assert_eq!(names(path), [""; 0]);
    });
}

#[test]
fn deep_trees_side_by_side_and_full_directories_are_removed() {
    let test = "trees::deep_trees_side_by_side_and_full_directories_are_removed";
    with_few_descriptors(test, |dir, path| {
        // Each subtree is deeper than the number of directories that are open at the same time.
        for name in 0..50 {
            let tree = path.join(format!("tree/{name}"));
            fs::create_dir_all(&tree).unwrap();
            nest(&tree, 100);
        }
        for name in 0..5_000 {
            fs::write(path.join(format!("tree/0/d/d/file-{name}")), "").unwrap();
            fs::create_dir(path.join(format!("tree/1/d/dir-{name}"))).unwrap();
        }
        dir.remove_tree(&rel("tree")).unwrap();
        assert_eq!(names(path), [""; 0]);
    });
}

#[test]
fn a_session_of_closed_directories_is_removed() {
    with_few_descriptors("trees::a_session_of_closed_directories_is_removed", |dir, path| {
        for number in 0..1_500 {
            let closed = path.join(format!("z{number}"));
            fs::create_dir(&closed).unwrap();
            fs::write(closed.join("f"), "").unwrap();
            close(&closed);
        }
        let mut at = path.join("deep");
        for _ in 0..200 {
            fs::create_dir(&at).unwrap();
            at.push("d");
        }
        while at.pop() && at != path {
            close(&at);
        }
        close(path);
        SessionDir::open(dir.path()).unwrap().remove_all().unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn the_error_names_the_file_that_is_immutable() {
    let outer = tempfile::tempdir().unwrap();
    let dir = SessionDir::create(&outer.path().join("session")).unwrap();
    let file = testkit::write_file(dir.path(), "a/b/file", "");
    let set_flags = |change: fn(IFlags) -> IFlags| {
        let file = File::open(&file)?;
        ioctl_setflags(&file, change(ioctl_getflags(&file)?)).map_err(std::io::Error::from)
    };
    if set_flags(|flags| flags | IFlags::IMMUTABLE).is_err() {
        return skipped("immutable files", "root, and ext4 at /tmp");
    }
    let error = dir.remove_tree(&rel("a")).unwrap_err().to_string();
    assert_eq!(error, "cannot remove a/b/file: it is immutable; `chattr -i` makes it removable");
    let error = SessionDir::open(dir.path()).unwrap().remove_all().unwrap_err().to_string();
    assert!(error.contains(&format!("cannot remove {}: it is", file.display())), "{error}");
    set_flags(|flags| flags - IFlags::IMMUTABLE).unwrap();
    dir.remove_tree(&rel("a")).unwrap();
}
