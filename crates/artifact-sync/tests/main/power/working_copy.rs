//! Files of the working copy after a loss of power.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Computer, store};
use crate::machine::{changed, expected};

const STORED: [(&str, &str); 4] = [("a", "1"), ("d/b", "2"), ("e", "3"), ("f", "4")];

/// Returns a machine that stored files and a removal, and whose working copy lacks some contents.
async fn damaged() -> Computer {
    let computer = Computer::new();
    computer.store("1", &STORED).await;
    computer.machine.write("a", "");
    fs::remove_dir_all(computer.machine.dir().join("d")).unwrap();
    computer.machine.write("e", "a change that no call has stored");
    computer.machine.write("new", "");
    computer
}

#[tokio::test]
async fn lost_files_are_restored_after_a_new_start_and_changes_stay() {
    let computer = damaged().await;
    let mirror = computer.open("2").await;
    let report = mirror.opened();
    assert_eq!(report.recovered.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["a", "d/b"]);
    assert!(report.conflicts.is_empty() && report.failed.is_empty(), "{report:?}");
    assert!(report.problems()[0].contains("\"d/b\""), "{:?}", report.problems());
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), ["e", "new"]);
    assert!(report.deleted.is_empty() && report.is_complete(), "{report:?}");
    let change = ("e", "a change that no call has stored");
    computer.check_files(&[("a", "1"), ("d/b", "2"), change, ("f", "4"), ("new", "")]);
    drop(mirror);
    let mirror = computer.open("2").await;
    assert!(mirror.opened().recovered.is_empty(), "{:?}", mirror.opened());
}

#[tokio::test]
async fn an_emptied_file_is_a_change_unless_the_machine_started_anew() {
    let computer = damaged().await;
    let mirror = computer.open("1").await;
    assert!(mirror.opened().recovered.is_empty());
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), ["a", "e", "new"]);
    assert_eq!(report.deleted.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["d/b"]);
}

#[tokio::test]
async fn lost_directories_and_symlinks_are_restored() {
    let computer = Computer::new();
    let mirror = computer.open("1").await;
    let place = |path: &str| computer.machine.dir().join(path);
    fs::create_dir(place("empty")).unwrap();
    symlink("target", place("link")).unwrap();
    store(&mirror).await;
    drop(mirror);
    fs::remove_dir(place("empty")).unwrap();
    fs::remove_file(place("link")).unwrap();
    let mirror = computer.open("2").await;
    assert!(place("empty").is_dir());
    assert_eq!(fs::read_link(place("link")).unwrap().to_str(), Some("target"));
    assert!(mirror.pending().is_empty(), "{:?}", mirror.pending());
}

#[tokio::test]
async fn a_journal_that_was_cut_off_anywhere_loses_no_acknowledged_file() {
    let computer = Computer::new();
    computer.store("1", &[("a", "1"), ("b", "1"), ("c", "1"), ("removed", "1")]).await;
    let mirror = computer.open("1").await;
    computer.machine.write("a", "2");
    store(&mirror).await;
    computer.machine.remove("removed");
    computer.machine.write("b", "2");
    store(&mirror).await;
    drop(mirror);
    let journal = fs::read(computer.journal()).unwrap();
    let lines = journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let cuts: Vec<usize> = [0].into_iter().chain(lines.flat_map(|at| [at, at + 1])).collect();
    for cut in cuts {
        fs::write(computer.journal(), &journal[..cut]).unwrap();
        for path in ["a", "c"] {
            computer.machine.write(path, "");
        }
        let mirror = computer.open(&format!("cut at {cut}")).await;
        assert!(mirror.opened().conflicts.is_empty(), "{cut}: {:?}", mirror.opened());
        store(&mirror).await;
        computer.check_files(&[("a", "2"), ("b", "2"), ("c", "1")]);
    }
}

#[tokio::test]
async fn an_interrupted_restore_replaces_files_that_have_no_content() {
    let computer = Computer::new();
    computer.store("1", &STORED).await;
    let other = computer.other();
    let restoring = other.dir().with_file_name("session~restoring");
    testkit::write_file(&restoring, "a", "");
    testkit::write_file(&restoring, "f", "4");
    let mirror = other.open().await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    assert_eq!(other.files(), expected(&STORED));
}
