//! Objects of the projection after a loss of power. The log decides what they should be.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::{Computer, store};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn long() -> String {
    "x".repeat(50_000)
}

/// Returns a machine that stored files and a removal, and whose projection lacks some contents.
async fn damaged() -> Computer {
    let computer = Computer::new();
    let long = long();
    let files =
        [("empty", "1"), ("cut", long.as_str()), ("absent", "3"), ("changed", "4"), ("gone", "5")];
    computer.store("1", &files).await;
    let mirror = computer.open("1").await;
    computer.machine.remove("gone");
    store(&mirror).await;
    drop(mirror);
    fs::write(computer.object("empty"), "").unwrap();
    fs::write(computer.object("cut"), &long[..4_096]).unwrap();
    fs::remove_file(computer.object("absent")).unwrap();
    fs::write(computer.object("changed"), "by a person").unwrap();
    let gone = File::create(computer.object("gone")).unwrap();
    gone.set_modified(SystemTime::now() - HOUR).unwrap();
    computer
}

#[tokio::test]
async fn objects_that_the_machine_lost_are_repaired_and_changes_are_adopted() {
    let computer = damaged().await;
    let mirror = computer.open("2").await;
    let report = mirror.opened();
    assert!(report.removed.is_empty() && report.conflicts.is_empty(), "{report:?}");
    assert_eq!(report.restored.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["changed"]);
    assert!(mirror.pending().is_empty());
    let long = long();
    let files =
        [("empty", "1"), ("cut", long.as_str()), ("absent", "3"), ("changed", "by a person")];
    computer.check_files(&files);
    fs::write(computer.object("empty"), "").unwrap();
    fs::remove_file(computer.object("absent")).unwrap();
    mirror.refresh().await.unwrap();
    computer.check_files(&[("empty", ""), files[1], files[3]]);
}

#[tokio::test]
async fn without_a_new_start_all_differences_are_changes_by_other_programs() {
    let computer = damaged().await;
    let mirror = computer.open("1").await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    let cut = &long()[..4_096];
    computer.check_files(&[("empty", ""), ("cut", cut), ("changed", "by a person"), ("gone", "")]);
}

#[tokio::test]
async fn a_machine_that_restores_the_session_repairs_objects_from_before_it_started() {
    for (age, kept) in [(HOUR, "1"), (Duration::ZERO, "")] {
        let computer = Computer::new();
        computer.store("1", &[("a", "1")]).await;
        let object = File::create(computer.object("a")).unwrap();
        object.set_modified(SystemTime::now() + HOUR / 2 - age).unwrap();
        let other = computer.other();
        let capabilities = computer.capabilities.clone();
        other.open_with(|mirror| mirror.capabilities(capabilities).booted("2")).await;
        assert_eq!(other.files()["a"], kept, "{age:?}");
        assert_eq!(fs::read_to_string(computer.object("a")).unwrap(), kept, "{age:?}");
    }
}
