//! Paths that change their kind, and directories that deny writing, on two machines in turn.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use artifact_sync::open_directory;
use object_store::memory::InMemory;
use rustix::fs::{IFlags, Mode, OFlags};
use sandbox_core::internal::remove_tree;
use testkit::{rerun_as_ordinary_user, skipped};

use crate::machine::{Machine, changed};

/// Kind of the path `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Absent,
    File,
    Symlink,
    /// A directory with this mode that has all kinds of entries, also in a directory below.
    Full(u32),
    /// A directory with this mode that has no files.
    WithoutFiles(u32),
}

const SHAPES: [Shape; 9] = [
    Shape::Absent,
    Shape::File,
    Shape::Symlink,
    Shape::Full(0o755),
    Shape::Full(0o700),
    Shape::Full(0o555),
    Shape::WithoutFiles(0o755),
    Shape::WithoutFiles(0o700),
    Shape::WithoutFiles(0o555),
];

/// Gives the path `d` a shape. `text` is the content of its files and symlinks.
fn shape(machine: &Machine, shape: Shape, text: &str) {
    let at = machine.dir().join("d");
    if fs::symlink_metadata(&at).is_ok() {
        remove_tree(&at).unwrap();
    }
    let fill = |dir: &Path, has_files: bool| {
        fs::create_dir(dir).unwrap();
        symlink(text, dir.join("link")).unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        if has_files {
            fs::write(dir.join("file"), text).unwrap();
        }
    };
    let set_mode = |dir: &Path, mode| fs::set_permissions(dir, Permissions::from_mode(mode));
    match shape {
        Shape::Absent => {}
        Shape::File => fs::write(&at, text).unwrap(),
        Shape::Symlink => symlink(text, &at).unwrap(),
        Shape::Full(mode) | Shape::WithoutFiles(mode) => {
            let has_files = matches!(shape, Shape::Full(_));
            fill(&at, has_files);
            fill(&at.join("below"), has_files);
            set_mode(&at.join("below"), mode).unwrap();
            set_mode(&at, mode).unwrap();
        }
    }
}

/// Describes everything below a directory, by path.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o777;
            let what = if metadata.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                dirs.push(path.clone());
                format!("{mode:o}")
            } else {
                format!("{mode:o} {}", fs::read_to_string(&path).unwrap())
            };
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            found.insert(name, what);
        }
    }
    found
}

/// Opens and synchronises a machine's session, and returns what the opening reported as failed.
async fn turn(machine: &Machine, change: impl FnOnce()) {
    let mirror = machine.open().await;
    assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
    change();
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    mirror.flush().await.unwrap();
    assert!(mirror.release_if_idle().await.unwrap());
}

fn machines() -> (Machine, Machine) {
    let store = Arc::new(InMemory::new());
    (Machine::new(store.clone()), Machine::new(store))
}

/// Returns two machines for each store that needs no server, with the directory that it needs.
fn machines_of_stores() -> [(Machine, Machine, Option<tempfile::TempDir>); 2] {
    let (a, b) = machines();
    let place = tempfile::tempdir().unwrap();
    let opened = open_directory(&place.path().join("store")).unwrap();
    let machine = || {
        let mut machine = Machine::new(Arc::clone(&opened.store));
        // Without flushes.
        machine.capabilities.root = opened.capabilities.root.clone();
        machine
    };
    [(a, b, None), (machine(), machine(), Some(place))]
}

#[tokio::test]
async fn a_path_that_changes_its_kind_does_so_on_the_next_machine() {
    let test = "kinds::a_path_that_changes_its_kind_does_so_on_the_next_machine";
    if rustix::process::geteuid().is_root() {
        rerun_as_ordinary_user(test, "directories that deny writing");
    }
    for before in SHAPES {
        for after in SHAPES {
            for (a, b, _place) in machines_of_stores() {
                turn(&a, || shape(&a, before, "1")).await;
                turn(&b, || {}).await;
                assert_eq!(tree(&b.dir()), tree(&a.dir()), "{before:?}");
                // The next machine has not seen the objects that the change removes.
                turn(&b, || shape(&b, after, "2")).await;
                let wanted = tree(&b.dir());
                for machine in [&a, &b, &a] {
                    turn(machine, || {}).await;
                    assert_eq!(tree(&machine.dir()), wanted, "{before:?} {after:?}");
                    assert_eq!(machine.objects().await, machine.files(), "{before:?} {after:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unsaved_change_of_another_kind_is_kept_beside() {
    let test = "kinds::an_unsaved_change_of_another_kind_is_kept_beside";
    if rustix::process::geteuid().is_root() {
        rerun_as_ordinary_user(test, "directories that deny writing");
    }
    for here in SHAPES {
        for there in SHAPES {
            let (a, b) = machines();
            turn(&a, || shape(&a, Shape::Full(0o755), "1")).await;
            turn(&b, || {}).await;
            turn(&a, || shape(&a, there, "there")).await;
            let wanted = tree(&a.dir());
            // The session is not open meanwhile, and so the change is stored only by the next turn.
            shape(&b, here, "here");
            turn(&b, || {}).await;
            let both = tree(&b.dir());
            // A directory is not in the log before, so both directories become one.
            let lost = wanted.iter().find(|(path, what)| {
                let is_directory = !what.contains(' ');
                both.get(*path) != Some(what) && !is_directory
            });
            assert_eq!(lost, None, "{here:?} {there:?} {both:?}");
            let is_kept = |what: &str| both.values().any(|kept| kept.contains(what));
            assert!(
                matches!(here, Shape::Absent) || is_kept("here"),
                "{here:?} {there:?} {both:?}"
            );
            for machine in [&a, &b] {
                turn(machine, || {}).await;
                assert_eq!(tree(&machine.dir()), both, "{here:?} {there:?}");
            }
        }
    }
}

/// Sets whether root may change a file or directory.
fn set_immutable(path: &Path, is_immutable: bool) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
    let Ok(before) = rustix::fs::ioctl_getflags(&file) else { return false };
    let after = match is_immutable {
        true => before | IFlags::IMMUTABLE,
        false => before - IFlags::IMMUTABLE,
    };
    rustix::fs::ioctl_setflags(&file, after).is_ok()
}

#[tokio::test]
async fn what_cannot_follow_is_no_change_and_follows_later() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for before in SHAPES {
        for after in [Shape::Absent, Shape::File, Shape::Symlink, Shape::Full(0o700)] {
            let (a, b) = machines();
            turn(&a, || shape(&a, Shape::Full(0o755), "0")).await;
            turn(&a, || shape(&a, before, "1")).await;
            turn(&b, || {}).await;
            if !set_immutable(&b.dir(), true) {
                return skipped("immutable files", "root, and ext4 at /tmp");
            }
            if matches!(before, Shape::Full(_) | Shape::WithoutFiles(_)) {
                set_immutable(&b.dir().join("d"), true);
            }
            turn(&a, || shape(&a, after, "2")).await;
            let wanted = tree(&a.dir());
            for _ in 0..2 {
                let mirror = b.open().await;
                let report = mirror.sync().await.unwrap();
                assert!(report.is_complete(), "{before:?} {after:?} {report:?}");
                assert!(mirror.release_if_idle().await.unwrap());
                drop(mirror);
                turn(&a, || {}).await;
                assert_eq!(tree(&a.dir()), wanted, "{before:?} {after:?}");
            }
            set_immutable(&b.dir(), false);
            set_immutable(&b.dir().join("d"), false);
            turn(&b, || {}).await;
            assert_eq!(tree(&b.dir()), wanted, "{before:?} {after:?}");
        }
    }
}

#[tokio::test]
async fn a_change_of_an_outdated_file_is_kept_beside_and_undoes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (a, b) = machines();
    turn(&a, || {
        a.write("d/x", "1");
        a.write("d/y", "1");
    })
    .await;
    turn(&b, || {}).await;
    let dir = b.dir().join("d");
    if !set_immutable(&dir, true) {
        return skipped("immutable directories", "root, and ext4 at /tmp");
    }
    turn(&a, || {
        a.write("d/x", "2");
        a.write("d/y", "2");
    })
    .await;
    let mirror = b.open().await;
    assert_eq!(mirror.opened().failed.len(), 2, "{:?}", mirror.opened());
    set_immutable(&dir, false);
    b.write("d/x", "of b");
    b.remove("d/y");
    let report = mirror.sync().await.unwrap();
    assert_eq!(report.pending.len(), 2, "{report:?}");
    assert!(report.pending[0].reason.contains("newer version"), "{report:?}");
    drop(mirror);
    let mirror = b.open().await;
    assert_eq!(mirror.opened().conflicts.len(), 1, "{:?}", mirror.opened());
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    turn(&a, || {}).await;
    let files = a.files();
    assert_eq!((files["d/x"].as_str(), files["d/y"].as_str(), files.len()), ("2", "2", 3));
    assert!(files.values().any(|content| content == "of b"), "{files:?}");
    assert_eq!(b.files(), files);
}

#[tokio::test]
async fn a_directory_that_cannot_be_emptied_stays_until_it_can() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for after in [Shape::File, Shape::Symlink, Shape::Absent] {
        let (a, b) = machines();
        turn(&a, || shape(&a, Shape::Full(0o755), "1")).await;
        turn(&b, || {}).await;
        let file = b.dir().join("d/below/file");
        if !set_immutable(&file, true) {
            return skipped("immutable files", "root, and ext4 at /tmp");
        }
        turn(&a, || shape(&a, after, "2")).await;
        let wanted = tree(&a.dir());
        for _ in 0..2 {
            let mirror = b.open().await;
            assert!(mirror.opened().conflicts.is_empty(), "{after:?} {:?}", mirror.opened());
            assert!(!mirror.opened().failed.is_empty(), "{after:?}");
            let report = mirror.sync().await.unwrap();
            assert!(report.is_complete() && changed(&report).is_empty(), "{after:?} {report:?}");
            // A signature that was just recorded proves nothing yet.
            while !mirror.release_if_idle().await.unwrap() {
                mirror.sync().await.unwrap();
            }
            drop(mirror);
            turn(&a, || {}).await;
            assert_eq!(tree(&a.dir()), wanted, "{after:?}");
        }
        set_immutable(&file, false);
        turn(&b, || {}).await;
        assert_eq!(tree(&b.dir()), wanted, "{after:?}");
    }
}
