//! Files in a session directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sandbox_core::{FileErrorKind, RelativePath, SessionDir};
use testkit::rerun_as_ordinary_user;

struct Fixture {
    outer: tempfile::TempDir,
    dir: SessionDir,
}

fn fixture() -> Fixture {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "outside").unwrap();
    let dir = SessionDir::create(&outer.path().join("sessions/s1")).unwrap();
    Fixture { outer, dir }
}

fn rel(path: &str) -> RelativePath {
    RelativePath::parse(path).unwrap()
}

#[test]
fn a_written_file_is_read_back_and_its_parents_are_created() {
    let fixture = fixture();
    fixture.dir.write(&rel("a/b/c.bin"), &[0, 159, 146, 150]).unwrap();
    assert_eq!(fixture.dir.read(&rel("a/b/c.bin"), 1024).unwrap(), [0, 159, 146, 150]);
    assert_eq!(
        fs::read_dir(fixture.dir.path().join("a/b")).unwrap().count(),
        1,
        "nothing staged is left"
    );
}

#[test]
fn the_error_for_a_missing_file_contains_the_systems_message() {
    let error = fixture().dir.read(&rel("nope.txt"), 10).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::NotFound);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("No such file or directory"), "{source}");
}

#[test]
fn the_mode_is_kept_when_a_file_is_replaced() {
    let fixture = fixture();
    let path = fixture.dir.path().join("run.sh");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    fixture.dir.write(&rel("run.sh"), b"new").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_dropped_staged_file_leaves_nothing() {
    let fixture = fixture();
    let mut staged = fixture.dir.stage(&rel("x")).unwrap();
    staged.write_all(b"half").unwrap();
    drop(staged);
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
}

#[test]
fn write_through_an_outward_symlink_is_refused() {
    let fixture = fixture();
    let secret = fixture.outer.path().join("secret");
    symlink(&secret, fixture.dir.path().join("absolute")).unwrap();
    symlink("../../secret", fixture.dir.path().join("relative")).unwrap();
    symlink("../..", fixture.dir.path().join("up")).unwrap();
    symlink("/proc/self/root", fixture.dir.path().join("magic")).unwrap();
    for name in ["absolute", "relative", "up/secret", "magic/tmp/x"] {
        assert_eq!(
            fixture.dir.write(&rel(name), b"x").unwrap_err().kind(),
            FileErrorKind::Escapes,
            "{name}"
        );
        assert_eq!(
            fixture.dir.read(&rel(name), 100).unwrap_err().kind(),
            FileErrorKind::Escapes,
            "{name}"
        );
    }
    assert_eq!(fs::read_to_string(secret).unwrap(), "outside");
}

#[test]
fn symlinks_that_stay_inside_are_followed() {
    let fixture = fixture();
    fixture.dir.write(&rel("real/file"), b"1").unwrap();
    symlink("real", fixture.dir.path().join("dir")).unwrap();
    symlink("../real/file", fixture.dir.path().join("real/again")).unwrap();
    symlink(fixture.dir.path().join("real/new"), fixture.dir.path().join("whole")).unwrap();
    assert_eq!(fixture.dir.read(&rel("dir/file"), 10).unwrap(), b"1");
    fixture.dir.write(&rel("real/again"), b"2").unwrap();
    assert_eq!(fs::read(fixture.dir.path().join("real/file")).unwrap(), b"2");
    fixture.dir.write(&rel("whole"), b"3").unwrap();
    assert_eq!(fs::read(fixture.dir.path().join("real/new")).unwrap(), b"3");
    assert!(fixture.dir.path().join("whole").is_symlink(), "the symlink remains");
}

#[test]
fn a_symlink_cycle_ends() {
    let fixture = fixture();
    symlink("b", fixture.dir.path().join("a")).unwrap();
    symlink("a", fixture.dir.path().join("b")).unwrap();
    assert!(fixture.dir.write(&rel("a"), b"x").is_err());
    assert!(fixture.dir.read(&rel("a"), 10).is_err());
}

#[test]
fn fifos_sockets_and_directories_are_not_read_and_do_not_block() {
    let fixture = fixture();
    let fifo = fixture.dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    let _socket =
        std::os::unix::net::UnixListener::bind(fixture.dir.path().join("socket")).unwrap();
    fs::create_dir(fixture.dir.path().join("dir")).unwrap();
    for name in ["fifo", "socket", "dir"] {
        assert_eq!(
            fixture.dir.read(&rel(name), 10).unwrap_err().kind(),
            FileErrorKind::NotAFile,
            "{name}"
        );
        assert_eq!(
            fixture.dir.write(&rel(name), b"x").unwrap_err().kind(),
            FileErrorKind::NotAFile,
            "{name}"
        );
    }
}

#[test]
fn a_file_over_the_limit_is_rejected_before_it_is_read() {
    let fixture = fixture();
    fs::File::create(fixture.dir.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(fixture.dir.read(&rel("huge"), 1024).unwrap_err().kind(), FileErrorKind::TooLarge);
}

#[test]
fn remove_reports_whether_the_file_existed_and_follows_no_symlink() {
    let fixture = fixture();
    symlink(fixture.outer.path().join("secret"), fixture.dir.path().join("link")).unwrap();
    assert!(fixture.dir.remove(&rel("link")).unwrap());
    assert!(!fixture.dir.remove(&rel("link")).unwrap());
    assert!(!fixture.dir.remove(&rel("no/such")).unwrap());
    assert!(fixture.outer.path().join("secret").exists());
}

#[test]
fn a_session_directory_is_private_and_belongs_to_the_user() {
    let fixture = fixture();
    assert_eq!(fs::metadata(fixture.dir.path()).unwrap().mode() & 0o777, 0o700);
    let link = fixture.outer.path().join("sessions/link");
    symlink(fixture.dir.path(), &link).unwrap();
    assert!(SessionDir::create(&link).unwrap_err().to_string().contains("symlink"));
    assert!(SessionDir::create(&fixture.outer.path().join("secret")).is_err());
    let absent = SessionDir::open(Path::new("/no/such/place")).unwrap_err();
    assert_eq!(absent.kind(), FileErrorKind::NotFound);
}

#[test]
fn remove_all_deletes_directories_that_deny_access_to_their_owner() {
    let Fixture { outer, dir } = fixture();
    dir.write(&rel("a/b/c"), b"x").unwrap();
    symlink(outer.path(), dir.path().join("a/out")).unwrap();
    fs::set_permissions(dir.path().join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
    let path = dir.path().to_owned();
    dir.remove_all().unwrap();
    assert!(!path.exists());
    assert!(outer.path().join("secret").exists());
}

#[test]
fn files_that_deny_access_to_their_owner_are_read_and_keep_their_modes() {
    // Root ignores modes, so an ordinary user runs the test.
    if rustix::process::geteuid().is_root() {
        let test = "files::files_that_deny_access_to_their_owner_are_read_and_keep_their_modes";
        return rerun_as_ordinary_user(test, "unreadable files");
    }
    let Fixture { outer, dir } = fixture();
    dir.write(&rel("a/b/c"), b"inside").unwrap();
    fs::set_permissions(outer.path().join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("../../../../secret", dir.path().join("a/b/out")).unwrap();
    let closed = ["a/b/c", "a/b", "a"];
    let set = |path: &str, mode| {
        fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    closed.iter().for_each(|path| set(path, 0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    assert_eq!(dir.read(&rel("a/b/c"), 100).unwrap(), b"inside");
                    dir.open_readable_directory(&rel("a/b")).unwrap();
                }
            });
        }
    });
    assert!(dir.open_file(&rel("a/b/out")).is_err());
    for path in closed.into_iter().rev() {
        assert_eq!(fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777, 0, "{path}");
        set(path, 0o700);
    }
    let secret = fs::metadata(outer.path().join("secret")).unwrap();
    assert_eq!(secret.mode() & 0o777, 0);
}

#[test]
fn a_symlink_swapped_in_during_a_race_leads_nowhere() {
    let fixture = fixture();
    fixture.dir.write(&rel("d/secret"), b"inside").unwrap();
    let root = fixture.dir.path().to_owned();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            symlink(fixture.outer.path(), root.join("evil")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let swap = rustix::fs::RenameFlags::EXCHANGE;
                let (a, b) = (root.join("d"), root.join("evil"));
                rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, swap).unwrap();
            }
        });
        for _ in 0..5000 {
            if let Ok(content) = fixture.dir.read(&rel("d/secret"), 100) {
                assert_eq!(content, b"inside");
            }
            let _ = fixture.dir.write(&rel("d/planted"), b"x");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!fixture.outer.path().join("planted").exists());
}

#[test]
fn replace_tree_replaces_a_tree_a_file_or_a_symlink() {
    let fixture = fixture();
    let dir = fixture.dir.path();
    fixture.dir.create_directory(&rel("skills")).unwrap();
    for before in ["nothing", "a tree", "a file", "a symlink"] {
        match before {
            "a tree" => fixture.dir.write(&rel("skills/s/old/deep"), b"old").unwrap(),
            "a file" => fs::write(dir.join("skills/s"), "old").unwrap(),
            "a symlink" => symlink(fixture.outer.path(), dir.join("skills/s")).unwrap(),
            _ => {}
        }
        fixture.dir.write(&rel("skills/.new/a/b"), before.as_bytes()).unwrap();
        fixture.dir.replace_tree(&rel("skills/.new"), &rel("skills/s")).unwrap();
        assert_eq!(fs::read_to_string(dir.join("skills/s/a/b")).unwrap(), before);
        assert_eq!(fixture.dir.names(&rel("skills")).unwrap(), ["s"], "after {before}");
        assert!(fixture.dir.has_plain_directory(&rel("skills/s")));
        fixture.dir.remove_tree(&rel("skills/s")).unwrap();
    }
    assert_eq!(fs::read_to_string(fixture.outer.path().join("secret")).unwrap(), "outside");
}

#[test]
fn tree_operations_follow_no_symlink() {
    let fixture = fixture();
    fs::create_dir(fixture.outer.path().join("victim")).unwrap();
    fs::write(fixture.outer.path().join("victim/f"), "x").unwrap();
    symlink("../..", fixture.dir.path().join("skills")).unwrap();
    fs::create_dir(fixture.dir.path().join("new")).unwrap();
    assert!(!fixture.dir.has_plain_directory(&rel("skills/victim")));
    assert!(fixture.dir.create_directory(&rel("skills")).is_err());
    assert!(fixture.dir.create_directory(&rel("skills/made")).is_err());
    assert!(fixture.dir.names(&rel("skills")).is_err());
    assert!(fixture.dir.replace_tree(&rel("new"), &rel("skills/victim")).is_err());
    fixture.dir.remove_tree(&rel("skills/victim")).unwrap();
    fixture.dir.remove_tree(&rel("absent/too")).unwrap();
    assert!(
        fixture.outer.path().join("victim/f").exists()
            && !fixture.outer.path().join("made").exists()
    );
    fixture.dir.remove_tree(&rel("skills")).unwrap();
    assert!(
        fixture.outer.path().join("secret").exists(),
        "the symlink is gone, its target remains"
    );
    assert!(fixture.dir.path().join("skills").symlink_metadata().is_err());
}
