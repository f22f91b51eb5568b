//! History: older states can be read, and older versions return as new ones.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use artifact_sync::{
    CloseMode, HistoryKind, HistoryOrigin, LogView, Mirror, SyncError, Takeover, Undelete,
};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use testkit::read_files;

use crate::machine::{LOG, Machine, changed, expected, key, keys};

fn path(path: &str) -> RelativePath {
    RelativePath::parse(path).unwrap()
}

async fn view(machine: &Machine, at: Option<u64>) -> Result<LogView, SyncError> {
    LogView::open(Arc::clone(&machine.store), keys(), at).await
}

async fn sync(mirror: &Mirror) -> u64 {
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
    report.entry
}

/// Returns the content of a blob.
fn large(seed: char) -> String {
    seed.to_string().repeat(40_000)
}

#[tokio::test]
async fn history_names_the_changes_of_each_entry_and_begins_with_the_newest() {
    let machine = Machine::in_memory();
    let mirror = machine.open_with(|mirror| mirror.home("here", Takeover::Steal)).await;
    machine.write("a", "1");
    machine.write("d/b", "22");
    let first = sync(&mirror).await;
    machine.write("a", "333");
    machine.remove("d/b");
    let second = sync(&mirror).await;
    machine.put("e", "by a person").await;
    mirror.refresh().await.unwrap();

    let history = mirror.history(None).await.unwrap();
    let numbers: Vec<u64> = history.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=mirror.entry()).rev().collect::<Vec<_>>());
    let find = |number| history.iter().find(|entry| entry.number == number).unwrap();
    assert_eq!(find(1).owned_by.as_deref(), Some("here"));
    let describe = |number| -> Vec<(String, HistoryKind, Option<u64>)> {
        let changes = find(number).changes.iter();
        changes.map(|change| (change.path.clone(), change.kind, change.size)).collect()
    };
    let created = |path: &str, size| (path.to_owned(), HistoryKind::Created, Some(size));
    assert_eq!(describe(first), [created("a", 1), created("d/b", 2)]);
    assert_eq!(
        describe(second),
        [
            ("d/b".to_owned(), HistoryKind::Removed, None),
            ("a".to_owned(), HistoryKind::Changed, Some(3)),
            // An empty directory has a line of its own.
            ("d".to_owned(), HistoryKind::Created, None)
        ]
    );
    assert_eq!(history[0].changes[0].origin, HistoryOrigin::External);
    assert!(history[0].time > 0);

    let of_directory = mirror.history(Some(&path("d"))).await.unwrap();
    let of_directory: Vec<_> =
        of_directory.iter().map(|entry| (entry.number, entry.changes.len())).collect();
    assert_eq!(of_directory, [(second, 2), (first, 1)]);
    let json = serde_json::to_string(&history).unwrap();
    let again: Vec<artifact_sync::HistoryEntry> = serde_json::from_str(&json).unwrap();
    assert_eq!(again, history);
}

#[tokio::test]
async fn a_view_has_the_state_of_any_retained_entry_and_appends_nothing() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    machine.write("d/b", &large('b'));
    let mode = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(machine.dir().join("a"), mode).unwrap();
    let first = sync(&mirror).await;
    machine.write("a", "2");
    machine.remove("d/b");
    let second = sync(&mirror).await;

    let old = view(&machine, Some(first)).await.unwrap();
    let files: Vec<_> = old.files().map(|file| (file.path, file.size, file.mode)).collect();
    assert_eq!(files, [("a".to_owned(), 1, 0o750), ("d/b".to_owned(), 40_000, 0o644)]);
    assert_eq!(old.read(&path("a")).await.unwrap(), "1");
    assert_eq!(old.read(&path("d/b")).await.unwrap(), large('b'));
    let missing = old.read(&path("x")).await;
    assert!(matches!(missing, Err(SyncError::NoVersion { number, .. }) if number == first));
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("fork");
    let report = old.restore_to(&target).await.unwrap();
    assert_eq!((report.restored.len(), report.failed.len()), (2, 0));
    assert_eq!(read_files(&target), expected(&[("a", "1"), ("d/b", &large('b'))]));
    let mode = std::fs::metadata(target.join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    assert!(matches!(old.restore_to(&target).await, Err(SyncError::Index { .. })));

    let new = view(&machine, None).await.unwrap();
    assert_eq!((new.entry(), new.files().count()), (second, 1));
    let missing = view(&machine, Some(99)).await.unwrap_err();
    let SyncError::NoEntry { number: 99, oldest: 1, last } = missing else { panic!("{missing:?}") };
    assert_eq!(last, second);
    machine.write("c", "the session goes on");
    assert_eq!(sync(&mirror).await, second + 1);
}

#[tokio::test]
async fn a_version_returns_as_a_new_one_and_unstored_content_is_kept_beside() {
    for size in [1, 40_000] {
        let machine = Machine::in_memory();
        let mirror = machine.open().await;
        let old = "1".repeat(size);
        machine.write("d/a", &old);
        let first = sync(&mirror).await;
        machine.write("d/a", "2");
        let second = sync(&mirror).await;
        let blobs = machine.blobs().await.len();

        let restored = mirror.restore_version(&path("d/a"), first).await.unwrap();
        assert_eq!((restored.entry, restored.conflicts.len()), (second + 1, 0));
        assert_eq!(machine.files(), expected(&[("d/a", &old)]));
        assert_eq!(machine.objects().await, expected(&[("d/a", &old)]));
        // Only contents of the current state are referred to again.
        assert_eq!(machine.blobs().await.len(), blobs * 2);
        assert_eq!(sync(&mirror).await, second + 1, "nothing is left to store");

        machine.write("d/a", "not stored");
        let restored = mirror.restore_version(&path("d/a"), second).await.unwrap();
        let kept_as = restored.conflicts[0].kept_as.as_str();
        let wanted = expected(&[("d/a", "2"), (kept_as, "not stored")]);
        assert_eq!(machine.files(), wanted);
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), [kept_as]);
        assert_eq!(machine.objects().await, wanted);
        drop(mirror);
        let other = Machine::new(Arc::clone(&machine.store));
        other.open().await;
        assert_eq!(other.files(), wanted);
    }
}

#[tokio::test]
async fn a_version_that_is_current_appends_nothing() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    std::os::unix::fs::symlink("a", machine.dir().join("link")).unwrap();
    let first = sync(&mirror).await;
    machine.write("b", "2");
    let second = sync(&mirror).await;
    for name in ["a", "link"] {
        let restored = mirror.restore_version(&path(name), first).await.unwrap();
        assert!(restored.is_unchanged && restored.conflicts.is_empty(), "{restored:?}");
        assert_eq!((restored.entry, mirror.entry()), (second, second));
    }
    // The log has the version, but the directory does not.
    machine.write("a", "not stored");
    machine.remove("link");
    let restored = mirror.restore_version(&path("a"), first).await.unwrap();
    assert!(!restored.is_unchanged && restored.conflicts.len() == 1, "{restored:?}");
    let restored = mirror.restore_version(&path("link"), first).await.unwrap();
    assert!(!restored.is_unchanged, "{restored:?}");
    assert_eq!(machine.files()["a"], "1");
    assert_eq!(std::fs::read_link(machine.dir().join("link")).unwrap().to_str(), Some("a"));
    // The mode belongs to the version.
    let mode = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(machine.dir().join("a"), mode).unwrap();
    sync(&mirror).await;
    let restored = mirror.restore_version(&path("a"), first).await.unwrap();
    assert!(!restored.is_unchanged, "{restored:?}");
    let mode = std::fs::metadata(machine.dir().join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(sync(&mirror).await, restored.entry, "the mode stays");
}

#[tokio::test]
async fn versions_that_do_not_exist_are_refused() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/a", "1");
    let first = sync(&mirror).await;
    machine.remove("d/a");
    std::fs::remove_dir(machine.dir().join("d")).unwrap();
    machine.write("d", "now a file");
    sync(&mirror).await;
    let error = |at: u64, of: &str| {
        let (mirror, of) = (&mirror, path(of));
        async move { mirror.restore_version(&of, at).await.unwrap_err() }
    };
    let missing = error(9, "d/a").await;
    assert_eq!(
        missing.to_string(),
        "the session log has no entry 9 yet; it has the entries 1 to 2",
        "{missing:?}"
    );
    let missing = error(0, "d/a").await;
    let text = "the session log no longer retains entry 0; it has the entries 1 to 2";
    assert_eq!(missing.to_string(), text, "{missing:?}");
    assert!(matches!(error(first, "d").await, SyncError::DirectoryVersion { .. }));
    assert!(matches!(error(first, "d/a").await, SyncError::Occupied { kind: "file", .. }));
    machine.remove("d");
    std::os::unix::fs::symlink("elsewhere", machine.dir().join("d")).unwrap();
    sync(&mirror).await;
    assert!(matches!(error(first, "d/a").await, SyncError::Occupied { kind: "symlink", .. }));
    assert!(matches!(error(first, "x").await, SyncError::NoVersion { .. }));
}

#[tokio::test]
async fn removed_paths_return_with_their_contents_modes_and_links() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/old", "removed earlier");
    sync(&mirror).await;
    machine.remove("d/old");
    let earlier = sync(&mirror).await;
    machine.write("d/a", "1");
    machine.write("d/e/b", &large('b'));
    machine.write("other", "stays");
    std::os::unix::fs::symlink("a", machine.dir().join("d/link")).unwrap();
    std::fs::create_dir(machine.dir().join("d/empty")).unwrap();
    sync(&mirror).await;
    std::fs::remove_dir_all(machine.dir().join("d")).unwrap();
    let removal = sync(&mirror).await;
    assert_eq!(machine.objects().await, expected(&[("other", "stays")]));

    let report = mirror.undelete(Undelete::Paths(vec![path("d"), path("never")])).await.unwrap();
    let restored: Vec<_> = report.restored.iter().map(RelativePath::as_str).collect();
    assert_eq!(restored, ["d", "d/a", "d/e/b", "d/empty", "d/link"], "{report:?}");
    assert_eq!((report.unknown, report.failed.len()), (vec![path("never")], 0));
    let wanted = expected(&[("d/a", "1"), ("d/e/b", &large('b')), ("other", "stays")]);
    let regular = |machine: &Machine| {
        let mut files = machine.files();
        files.remove("d/link");
        files
    };
    assert_eq!(regular(&machine), wanted);
    assert_eq!(std::fs::read_link(machine.dir().join("d/link")).unwrap().to_str(), Some("a"));
    assert!(machine.dir().join("d/empty").is_dir());
    assert_eq!(machine.objects().await, wanted);
    let entry = report.entry;
    assert_eq!(sync(&mirror).await, entry, "nothing is left to store");

    let again = mirror.undelete(Undelete::RemovedBy(removal)).await.unwrap();
    assert_eq!((again.restored.len(), again.existing.len()), (0, 5));
    let old = mirror.undelete(Undelete::RemovedBy(earlier)).await.unwrap();
    assert_eq!(old.restored, [path("d/old")]);
    machine.remove("other");
    sync(&mirror).await;
    machine.write("other", "written again, and not stored");
    let last = mirror.undelete(Undelete::LastRemoval).await.unwrap();
    assert_eq!((last.restored.len(), last.existing), (0, vec![path("other")]));
    assert!(matches!(
        mirror.undelete(Undelete::RemovedBy(1)).await,
        Err(SyncError::NoRemoval { number: 1 })
    ));
    assert!(matches!(
        mirror.undelete(Undelete::RemovedBy(99)).await,
        Err(SyncError::NoEntry { number: 99, .. })
    ));
}

#[tokio::test]
async fn a_deleted_session_is_recognised_without_its_history() {
    let machine = Machine::in_memory();
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = machine.open().await;
    machine.write("a", "1");
    sync(&mirror).await;
    drop(mirror);
    let sleeping = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    drop(sleeping);
    let mirror = machine.open().await;
    mirror.erase().await.unwrap();
    assert!(matches!(view(&machine, None).await, Err(SyncError::Erased)));
    let opened = other.try_open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    assert!(matches!(opened, Err(SyncError::Erased)), "{opened:?}");
    let opened = other.try_open_with(|mirror| mirror.home("other", Takeover::Steal).refill()).await;
    assert!(matches!(opened, Err(SyncError::Erased)), "{opened:?}");
    // The id begins anew.
    let cold = Machine::new(Arc::clone(&machine.store));
    let mirror = cold.open().await;
    assert!(cold.files().is_empty());
    cold.write("b", "2");
    sync(&mirror).await;
    drop(mirror);
    let opened = other.try_open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    assert!(matches!(opened, Err(SyncError::Erased)), "{opened:?}");
    let cold = Machine::new(Arc::clone(&machine.store));
    cold.open().await;
    assert_eq!(cold.files().len(), 1);
}

#[tokio::test]
async fn a_lost_log_begins_again_with_the_working_copy() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    machine.write("d/b", &large('b'));
    sync(&mirror).await;
    machine.write("c", "3");
    sync(&mirror).await;
    drop(mirror);
    // The newest version of another machine exists in the projection only.
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    other.write("of-the-other", "o");
    other.write("a", "newer");
    sync(&mirror).await;
    mirror.close(CloseMode::KeepPending).await.unwrap();
    let log = Key::parse(LOG).unwrap();
    let lost: Vec<_> = futures::TryStreamExt::try_collect::<Vec<_>>(
        object_store::ObjectStore::list(&*machine.store, Some(&log)),
    )
    .await
    .unwrap();
    for meta in lost {
        machine.store.delete(&meta.location).await.unwrap();
    }
    machine.store.delete(&key("c")).await.unwrap();

    let refused = machine.try_open_with(|mirror| mirror).await;
    assert!(matches!(refused, Err(SyncError::StoreReplaced { number: 2 })), "{refused:?}");
    let mirror = machine.open_with(|mirror| mirror.refill()).await;
    assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
    mirror.flush().await.unwrap();
    let files = machine.files();
    assert_eq!((&*files["d/b"], &*files["of-the-other"]), (&*large('b'), "o"));
    assert_eq!(files["a"], "newer", "the projection has a version that this machine never saw");
    assert_eq!(files["c"], "3", "an object that was lost too is put again");
    assert!(files.iter().any(|(path, content)| path.starts_with("a.conflict-") && content == "1"));
    assert_eq!(machine.objects().await, files);
    drop(mirror);
    let cold = Machine::new(Arc::clone(&machine.store));
    cold.open().await;
    assert_eq!(cold.files(), files);
}

#[tokio::test]
async fn a_removed_path_below_a_new_symlink_does_not_exist() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/f", "1");
    machine.write("elsewhere/f", "2");
    mirror.sync().await.unwrap();
    std::fs::remove_dir_all(machine.dir().join("d")).unwrap();
    std::os::unix::fs::symlink("elsewhere", machine.dir().join("d")).unwrap();
    mirror.sync().await.unwrap();
    let report = mirror.undelete(Undelete::Paths(vec![path("d/f")])).await.unwrap();
    assert!(report.existing.is_empty() && report.restored.is_empty(), "{report:?}");
    assert!(report.failed[0].reason.contains("d is in the place of d/f"), "{report:?}");
}

#[tokio::test]
async fn a_directory_has_no_version_and_an_unknown_key_no_object() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/f", "1");
    let at = mirror.sync().await.unwrap().entry;
    let error = mirror.restore_version(&path("d"), at).await.unwrap_err();
    assert!(matches!(error, SyncError::DirectoryVersion { .. }), "{error:?}");
    assert!(error.to_string().contains("session undelete ID d"), "{error}");
    let error = mirror.restore_version(&path("e"), at).await.unwrap_err();
    assert!(matches!(error, SyncError::NoVersion { .. }), "{error:?}");
    let error = mirror.pull_key(key("none").as_ref()).await.unwrap_err();
    assert!(matches!(error, SyncError::NoObject { .. }), "{error:?}");
    assert!(!error.is_retryable());
}
