//! Stores that lose their newest objects, such as one that was restored from a backup.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use artifact_sync::{CloseMode, LogView, Mirror, SyncError, Takeover, open_directory};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;

use crate::machine::{LOG, Machine, expected, key, keys};

/// Store on the disk, with a backup.
struct Store {
    place: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("store")
    }

    fn backup(&self) -> PathBuf {
        self.place.path().join("backup")
    }

    fn machine(&self) -> Machine {
        Machine::new(open_directory(&self.path()).unwrap().store)
    }

    fn back_up(&self) {
        replace(&self.backup(), &self.path());
    }

    fn roll_back(&self) {
        replace(&self.path(), &self.backup());
    }

    /// Checks that a new machine gets these files.
    async fn check_restore(&self, files: &BTreeMap<String, String>) {
        let new = self.machine();
        let mirror = new.open_with(|mirror| mirror.home("new", Takeover::Steal)).await;
        assert!(mirror.opened().problems().is_empty(), "{:?}", mirror.opened());
        assert_eq!(new.files(), *files);
    }
}

fn replace(to: &Path, from: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Stores a file before a backup, and others after it.
async fn write(store: &Store, machine: &Machine, mirror: &Mirror) {
    machine.write("a", "1");
    assert!(mirror.sync().await.unwrap().is_complete());
    store.back_up();
    for number in 2..5 {
        machine.write("a", &number.to_string());
        machine.write(&format!("only-{number}"), "");
        assert!(mirror.sync().await.unwrap().is_complete());
    }
}

/// Checks that the session is refused, and stored again on demand.
async fn check_refill(store: &Store, machine: &Machine, files: &BTreeMap<String, String>) {
    for _ in 0..2 {
        let refused = machine.try_open_with(|mirror| mirror).await;
        assert!(matches!(refused, Err(SyncError::StoreReplaced { .. })), "{refused:?}");
        assert_eq!(machine.files(), *files);
    }
    let mirror = machine.open_with(|mirror| mirror.refill()).await;
    assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
    assert!(mirror.flush().await.unwrap().is_complete());
    drop(mirror);
    let mut kept = machine.files();
    assert_eq!(machine.objects().await, kept);
    store.check_restore(&kept).await;
    kept.retain(|path, _| files.contains_key(path));
    assert_eq!(kept, *files);
}

#[tokio::test]
async fn a_store_that_was_rolled_back_is_refused_and_filled_again() {
    let store = Store::new();
    let machine = store.machine();
    write(&store, &machine, &machine.open().await).await;
    store.roll_back();
    let files = expected(&[("a", "4"), ("only-2", ""), ("only-3", ""), ("only-4", "")]);
    check_refill(&store, &machine, &files).await;
}

#[tokio::test]
async fn what_another_machine_stored_after_a_rollback_stays_in_the_history() {
    let store = Store::new();
    let machine = store.machine();
    write(&store, &machine, &machine.open().await).await;
    store.roll_back();
    let other = store.machine();
    let mirror = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    for number in 0..6 {
        other.write("of-the-other", &number.to_string());
        assert!(mirror.sync().await.unwrap().is_complete());
    }
    for name in ["link", "only-2"] {
        symlink("of-the-other", other.dir().join(name)).unwrap();
    }
    assert!(mirror.sync().await.unwrap().is_complete());
    assert!(mirror.drain(Duration::ZERO).await.unwrap().is_complete());
    let entry = mirror.entry();
    let files = expected(&[("a", "4"), ("only-2", ""), ("only-3", ""), ("only-4", "")]);
    check_refill(&store, &machine, &files).await;
    let target = |path: &str| std::fs::read_link(machine.dir().join(path)).unwrap();
    assert_eq!(target("link"), Path::new("of-the-other"));
    let beside = std::fs::read_dir(machine.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = beside.filter_map(|name| name.into_string().ok()).collect();
    let beside = beside.iter().find(|name| name.starts_with("only-2.conflict-")).unwrap();
    assert_eq!(target(beside), Path::new("of-the-other"));
    let view = LogView::open(machine.store.clone(), keys(), Some(entry)).await.unwrap();
    let path = RelativePath::parse("of-the-other").unwrap();
    assert_eq!(view.read(&path).await.unwrap(), "5");
}

#[tokio::test]
async fn a_store_that_is_rolled_back_under_its_owner_removes_nothing() {
    let store = Store::new();
    let machine = store.machine();
    let mirror = machine.open().await;
    write(&store, &machine, &mirror).await;
    store.roll_back();
    machine.write("a", "5");
    let files = machine.files();
    // The owner finds its number free, because it does not read the log.
    mirror.sync().await.unwrap();
    for _ in 0..2 {
        let refused = mirror.refresh().await;
        assert!(matches!(refused, Err(SyncError::StoreReplaced { .. })), "{refused:?}");
        assert_eq!(machine.files(), files);
    }
    drop(mirror);
    check_refill(&store, &machine, &files).await;
}

#[tokio::test]
async fn refilling_keeps_what_another_machine_wrote_after_the_store_was_set_back() {
    let store = Store::new();
    let (a, b) = (store.machine(), store.machine());
    let mirror = a.open().await;
    a.write("a", "1");
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    store.back_up();
    a.write("a", "2");
    a.write("n", "only here");
    assert!(mirror.flush().await.unwrap().is_complete());
    drop(mirror);
    store.roll_back();
    let mirror = b.open().await;
    b.write("a", "of b");
    b.write("m", "only there");
    b.write("n/below", "where the other has a file");
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    let mirror = a.open_with(|mirror| mirror.refill()).await;
    let [first, second] = mirror.opened().conflicts.as_slice() else {
        panic!("{:?}", mirror.opened())
    };
    let (kept, below) = (first.kept_as.to_string(), second.kept_as.to_string());
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    let wanted = expected(&[
        ("a", "2"),
        ("n", "only here"),
        ("m", "only there"),
        (&kept, "of b"),
        (&below, "where the other has a file"),
    ]);
    assert_eq!(a.files(), wanted);
    store.check_restore(&wanted).await;
}

/// Deletes all objects of the log below a name.
async fn lose(machine: &Machine, below: &str) {
    let log = Key::parse(LOG).unwrap();
    let prefix = if below.is_empty() { log } else { log.join(below) };
    let listed: Vec<_> = machine.store.list(Some(&prefix)).try_collect().await.unwrap();
    assert!(!listed.is_empty());
    for object in listed {
        machine.store.delete(&object.location).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_that_discards_names_the_files_whose_content_the_store_lost() {
    let first = Machine::in_memory();
    let mirror = first.open().await;
    first.write("small", "1");
    first.write("large", &"2".repeat(100_000));
    mirror.close(CloseMode::KeepPending).await.unwrap();
    lose(&first, "blobs").await;
    first.store.delete(&key("large")).await.unwrap();
    let mirror = first.open().await;
    assert_eq!(mirror.opened().failed.len(), 1, "{:?}", mirror.opened());
    mirror.close(CloseMode::KeepPending).await.unwrap_err();
    let report = mirror.close(CloseMode::Discard).await.unwrap();
    let paths: Vec<_> = report.discarded.iter().map(|lost| lost.path.as_str()).collect();
    assert_eq!(paths, ["large"], "{report:?}");
    assert!(!first.dir().exists());
}

#[tokio::test]
async fn a_close_stores_everything_again_if_the_store_lost_the_log_meanwhile() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("small", "1");
    machine.write("large", &"2".repeat(100_000));
    assert!(mirror.flush().await.unwrap().is_complete());
    let files = machine.files();
    lose(&machine, "").await;
    let report = mirror.close(CloseMode::Discard).await.unwrap();
    assert!(report.discarded.is_empty(), "{report:?}");
    machine.open().await;
    assert_eq!(machine.files(), files);
}
