//! Entries that a loss of power has cut off.

use std::fs;

use artifact_sync::{LogView, SyncErrorKind};

use super::{Computer, store};
use crate::machine::{changed, keys};

/// Returns a machine that stored `a` and lost its power while it stored `b`. The entry of `b` has
/// this many bytes. Returns the number of that entry too.
async fn cut_off(length: impl Fn(usize) -> usize) -> (Computer, u64) {
    let computer = Computer::new();
    computer.store("1", &[("a", "1")]).await;
    let journal = fs::read(computer.journal()).unwrap();
    let mirror = computer.open("1").await;
    computer.machine.write("b", "2");
    let last = store(&mirror).await;
    drop(mirror);
    let entry = fs::read(computer.entry(last)).unwrap();
    fs::write(computer.entry(last), &entry[..length(entry.len())]).unwrap();
    fs::remove_file(computer.object("b")).unwrap();
    fs::write(computer.journal(), journal).unwrap();
    (computer, last)
}

#[tokio::test]
async fn an_entry_that_was_cut_off_counts_as_empty_and_the_log_continues_after_it() {
    for part in 0..8 {
        let (computer, torn) = cut_off(|length| (length - 1) * part / 7).await;
        let mirror = computer.open("2").await;
        assert_eq!(mirror.opened().torn_entries, [torn], "{part}");
        let problems = mirror.opened().problems();
        assert!(problems[0].contains(&format!("entry {torn} ")), "{problems:?}");
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["b"], "the call is stored again");
        assert_eq!(report.entry, torn + 1);
        computer.check_files(&[("a", "1"), ("b", "2")]);

        let numbers: Vec<u64> =
            mirror.history(None).await.unwrap().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (1..=torn + 1).rev().collect::<Vec<_>>());
        let view = LogView::open(computer.machine.store.clone(), keys(), Some(torn)).await.unwrap();
        assert_eq!(view.files().map(|file| file.path).collect::<Vec<_>>(), ["a"]);
        drop(mirror);
        let mirror = computer.open("2").await;
        assert!(mirror.opened().torn_entries.is_empty(), "it is reported once");
        let other = computer.other();
        other.open().await;
        assert_eq!(other.files(), computer.machine.files());
    }
}

#[tokio::test]
async fn several_entries_that_were_cut_off_count_as_empty() {
    let computer = Computer::new();
    computer.store("1", &[("a", "1")]).await;
    let journal = fs::read(computer.journal()).unwrap();
    let mirror = computer.open("1").await;
    let mut torn = Vec::new();
    for content in ["2", "3", "4"] {
        computer.machine.write("a", content);
        torn.push(store(&mirror).await);
    }
    drop(mirror);
    torn.iter().for_each(|number| fs::write(computer.entry(*number), "").unwrap());
    fs::write(computer.journal(), journal).unwrap();
    let mirror = computer.open("2").await;
    assert_eq!(mirror.opened().torn_entries, torn);
    store(&mirror).await;
    computer.check_files(&[("a", "4")]);
    assert!(computer.other().open().await.opened().failed.is_empty());
}

#[tokio::test]
async fn a_damaged_entry_is_not_taken_for_one_that_was_cut_off() {
    let (computer, last) = cut_off(|length| length).await;
    let mut entry = fs::read(computer.entry(last)).unwrap();
    let middle = entry.len() / 2;
    entry[middle] ^= 1;
    fs::write(computer.entry(last), entry).unwrap();
    let error = computer.try_open("2", |mirror| mirror).await.unwrap_err();
    assert_eq!(error.kind(), SyncErrorKind::StoreDamaged, "{error}");
}

#[tokio::test]
async fn an_entry_on_another_store_is_never_cut_off() {
    let machine = crate::machine::Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    let last = store(&mirror).await;
    drop(mirror);
    let key = keys().log.join(format!("{:020}", last + 1));
    object_store::ObjectStoreExt::put(&*machine.store, &key, "".into()).await.unwrap();
    let error = machine.try_open_with(|mirror| mirror).await.unwrap_err();
    assert_eq!(error.kind(), SyncErrorKind::StoreDamaged, "{error}");
}

/// Without a flush, the journal can know more than the log.
#[tokio::test]
async fn an_acknowledged_entry_that_was_cut_off_needs_a_refill() {
    let computer = Computer::new();
    computer.store("1", &[("a", "1")]).await;
    let mirror = computer.open("1").await;
    computer.machine.write("b", "2");
    let last = store(&mirror).await;
    drop(mirror);
    fs::write(computer.entry(last), "").unwrap();
    let error = computer.try_open("2", |mirror| mirror).await.unwrap_err();
    assert!(error.to_string().contains("--refill"), "{error}");
    computer.try_open("2", |mirror| mirror.refill()).await.unwrap();
    computer.check_files(&[("a", "1"), ("b", "2")]);
}

/// Without a flush, a later entry can reach the disk before an earlier one.
#[tokio::test]
async fn a_log_with_a_hole_needs_a_refill() {
    let computer = Computer::new();
    computer.store("1", &[("a", "1")]).await;
    let journal = fs::read(computer.journal()).unwrap();
    let mirror = computer.open("1").await;
    computer.machine.write("b", "2");
    let torn = store(&mirror).await;
    computer.machine.write("c", "3");
    store(&mirror).await;
    drop(mirror);
    fs::write(computer.entry(torn), "").unwrap();
    fs::write(computer.journal(), journal).unwrap();
    let error = computer.try_open("2", |mirror| mirror).await.unwrap_err();
    assert_eq!(error.kind(), SyncErrorKind::StoreDamaged, "{error}");
    computer.try_open("2", |mirror| mirror.refill()).await.unwrap();
    computer.check_files(&[("a", "1"), ("b", "2"), ("c", "3")]);
}
