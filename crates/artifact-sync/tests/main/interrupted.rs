//! Restores and applications of the log that ended halfway, and a session that went on meanwhile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use artifact_sync::{CloseMode, Mirror, SyncError, Takeover};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore, write_file};

use crate::machine::{Machine, expected, key, keys};

/// More than the part of a content that an entry of the log holds.
const LARGE: usize = 100_000;

/// Machine of the first home, and one whose first opening of the same session has failed halfway.
async fn half_restored() -> (Machine, Machine) {
    let store = FailingStore::new();
    let first = Machine::new(Arc::clone(&store) as _);
    let mirror = open(&first, "first").await;
    first.write("small", "1");
    first.write("removed", "2");
    for number in 0..3 {
        first.write(&format!("large{number}"), &"3".repeat(LARGE + number));
    }
    give(mirror).await;
    let second = Machine::new(Arc::clone(&store) as _);
    for first_failure in 1.. {
        store.fail(Calls::Gets, first_failure, usize::MAX);
        let opened = second.try_open_with(|mirror| mirror.home("second", Takeover::Refuse)).await;
        opened.unwrap_err();
        if restoring(&second).join("small").exists() {
            break;
        }
    }
    store.recover();
    (first, second)
}

pub(crate) async fn open(machine: &Machine, home: &str) -> Mirror {
    machine.open_with(|mirror| mirror.home(home, Takeover::Refuse)).await
}

/// Stores everything and lets other homes have the session.
pub(crate) async fn give(mirror: Mirror) {
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
}

fn restoring(machine: &Machine) -> PathBuf {
    machine.dir().with_file_name("session~restoring")
}

#[tokio::test]
async fn a_session_that_is_deleted_after_half_a_restore_begins_anew() {
    let (first, second) = half_restored().await;
    let mirror = open(&first, "first").await;
    mirror.erase().await.unwrap();
    drop(mirror);
    let mirror = open(&second, "second").await;
    assert_eq!(second.files(), expected(&[]));
    assert!(mirror.sync().await.unwrap().changed.is_empty());
    second.write("new", "4");
    assert!(mirror.sync().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    let third = Machine::new(Arc::clone(&second.store));
    third.open().await;
    assert_eq!(third.files(), expected(&[("new", "4")]));
}

#[tokio::test]
async fn half_a_restore_continues_only_with_its_store() {
    let (first, mut second) = half_restored().await;
    let store = std::mem::replace(&mut second.store, Arc::new(InMemory::new()));
    let refused = second.try_open_with(|mirror| mirror).await.unwrap_err();
    assert!(matches!(refused, SyncError::StoreReplaced { .. }), "{refused:?}");
    assert!(!second.dir().exists());
    second.store = store;
    let mirror = open(&second, "second").await;
    assert_eq!(second.files(), first.files());
    drop(mirror);
}

#[tokio::test]
async fn a_refill_stores_the_files_of_half_a_restore() {
    let (_first, mut second) = half_restored().await;
    second.store = Arc::new(InMemory::new());
    let mirror = second.open_with(|mirror| mirror.refill()).await;
    assert!(mirror.flush().await.unwrap().is_complete());
    let files = second.files();
    assert!(files.contains_key("small"), "{:?}", files.keys());
    mirror.close(CloseMode::KeepPending).await.unwrap();
    second.open().await;
    assert_eq!(second.files(), files);
}

#[tokio::test]
async fn half_a_restore_keeps_nothing_that_left_the_session_meanwhile() {
    let (first, second) = half_restored().await;
    // What a killed process has left, also of a directory that other rules ignore.
    let left = restoring(&second);
    symlink("target", left.join("link")).unwrap();
    fs::create_dir_all(left.join("empty/below")).unwrap();
    write_file(&left, "node_modules/x", "5");
    write_file(&left, ".agent-tools-staged-0123456789abcdef0123456789abcdef", "6");
    let mirror = open(&first, "first").await;
    first.remove("removed");
    first.write("small", "changed");
    fs::create_dir(first.dir().join("link")).unwrap();
    first.write("link/f", "7");
    give(mirror).await;
    let mirror = open(&second, "second").await;
    let opened = mirror.opened();
    assert!(opened.conflicts.is_empty() && opened.failed.is_empty(), "{opened:?}");
    assert_eq!(second.files(), first.files());
    for gone in ["empty", "node_modules", "removed"] {
        assert!(!second.dir().join(gone).exists(), "{gone}");
    }
    let names = fs::read_dir(second.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with(".agent-tools")));
    let report = mirror.sync().await.unwrap();
    assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
}

#[tokio::test]
async fn what_half_an_application_put_in_place_follows_the_log() {
    let store = FailingStore::new();
    let first = Machine::new(Arc::clone(&store) as _);
    let second = Machine::new(Arc::clone(&store) as _);
    let mirror = open(&first, "first").await;
    first.write("kept", "1");
    first.write("away", "2");
    symlink("away", first.dir().join("link-away")).unwrap();
    give(mirror).await;
    let mirror = open(&second, "second").await;
    give(mirror).await;

    let mirror = open(&first, "first").await;
    symlink("old", first.dir().join("removed")).unwrap();
    symlink("old", first.dir().join("led")).unwrap();
    fs::create_dir(first.dir().join("directory")).unwrap();
    first.write("above/below/f", "3");
    first.write("large", &"4".repeat(LARGE));
    let away = first.dir().join("away");
    let times = fs::metadata(&away).unwrap().modified().unwrap();
    first.remove("away");
    fs::remove_file(first.dir().join("link-away")).unwrap();
    give(mirror).await;
    // The second machine applies a part of this, and its process ends.
    fail_at_the_content(&store, &second).await;
    symlink("old", second.dir().join("removed")).unwrap();
    symlink("old", second.dir().join("led")).unwrap();
    fs::create_dir(second.dir().join("directory")).unwrap();
    fs::create_dir_all(second.dir().join("above/below")).unwrap();
    assert!(!second.dir().join("away").exists(), "removals come first");

    let mirror = open(&first, "first").await;
    first.remove("large");
    fs::remove_file(first.dir().join("removed")).unwrap();
    fs::remove_file(first.dir().join("led")).unwrap();
    symlink("new", first.dir().join("led")).unwrap();
    fs::remove_dir(first.dir().join("directory")).unwrap();
    fs::remove_dir_all(first.dir().join("above")).unwrap();
    first.write("away", "2");
    fs::File::options().write(true).open(&away).unwrap().set_modified(times).unwrap();
    symlink("away", first.dir().join("link-away")).unwrap();
    give(mirror).await;

    let mirror = open(&second, "second").await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    let read = |machine: &Machine| {
        let entries = fs::read_dir(machine.dir()).unwrap().map(|entry| entry.unwrap());
        let mut found: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read_link(entry.path()).ok())).collect();
        found.sort();
        found
    };
    assert_eq!(read(&second), read(&first));
    let report = mirror.sync().await.unwrap();
    assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
    give(mirror).await;
    let mirror = open(&first, "first").await;
    assert!(mirror.opened().removed.is_empty(), "{:?}", mirror.opened());
    assert_eq!(read(&first), read(&second));
}

/// Opens the session while no content can be fetched.
pub(crate) async fn fail_at_the_content(store: &FailingStore, machine: &Machine) {
    for first_failure in 1.. {
        store.fail(Calls::Gets, first_failure, usize::MAX);
        let opened = machine.try_open_with(|mirror| mirror.home("second", Takeover::Refuse)).await;
        let has_log = opened.is_err() && has_begun_to_apply(machine);
        if has_log {
            break;
        }
        assert!(opened.is_err() || opened.unwrap().opened().unavailable.is_some());
    }
    store.recover();
}

/// Returns whether the journal says that the application of the log has not ended.
fn has_begun_to_apply(machine: &Machine) -> bool {
    let journal = fs::read_to_string(machine.state().join("journal")).unwrap();
    // Other records may follow, such as a signature that is taken anew.
    let last = journal.lines().rfind(|line| line.contains(r#""applying""#));
    last.is_some_and(|line| !line.contains(r#""number":0"#))
}

#[tokio::test]
async fn what_a_program_has_changed_stays_although_the_log_had_the_same() {
    let first = Machine::in_memory();
    let second = Machine::new(Arc::clone(&first.store));
    let mirror = open(&first, "first").await;
    first.write("removed", "1");
    first.write("kept/x", "2");
    symlink("old", first.dir().join("led")).unwrap();
    give(mirror).await;
    let mirror = open(&second, "second").await;
    give(mirror).await;

    fs::create_dir(second.dir().join("own")).unwrap();
    second.remove("removed");
    second.remove("kept/x");
    fs::remove_file(second.dir().join("led")).unwrap();
    symlink("new", second.dir().join("led")).unwrap();

    let mirror = open(&first, "first").await;
    let removed = first.dir().join("removed");
    let times = fs::metadata(&removed).unwrap().modified().unwrap();
    first.remove("removed");
    first.write("own/t", "3");
    first.write("kept/y", "4");
    fs::remove_file(first.dir().join("led")).unwrap();
    symlink("new", first.dir().join("led")).unwrap();
    assert!(mirror.flush().await.unwrap().is_complete());
    fs::write(&removed, "1").unwrap();
    fs::File::options().write(true).open(&removed).unwrap().set_modified(times).unwrap();
    fs::remove_dir_all(first.dir().join("own")).unwrap();
    first.remove("kept/y");
    fs::remove_file(first.dir().join("led")).unwrap();
    symlink("old", first.dir().join("led")).unwrap();
    give(mirror).await;

    let mirror = open(&second, "second").await;
    give(mirror).await;
    assert!(second.dir().join("own").is_dir());
    assert!(second.dir().join("kept").is_dir());
    assert!(!second.dir().join("removed").exists());
    assert_eq!(fs::read_link(second.dir().join("led")).unwrap().to_str(), Some("new"));
    open(&first, "first").await;
    assert!(first.dir().join("own").is_dir() && !first.dir().join("removed").exists());
}

#[tokio::test]
async fn half_a_restore_does_not_continue_with_a_longer_log_of_another_store() {
    let (_first, mut second) = half_restored().await;
    let other = Machine::in_memory();
    let mirror = open(&other, "other").await;
    for number in 0..9 {
        other.write(&format!("n{number}"), "1");
        assert!(mirror.flush().await.unwrap().is_complete());
    }
    assert!(mirror.release_if_idle().await.unwrap());
    second.store = Arc::clone(&other.store);
    let refused = second.try_open_with(|mirror| mirror).await.unwrap_err();
    assert!(matches!(refused, SyncError::StoreReplaced { .. }), "{refused:?}");
    assert!(restoring(&second).join("small").exists());
}

#[tokio::test]
async fn a_working_copy_that_has_a_lost_content_keeps_it() {
    for half in [false, true] {
        let store = FailingStore::new();
        let first = Machine::new(Arc::clone(&store) as _);
        let second = Machine::new(Arc::clone(&store) as _);
        let mirror = open(&first, "first").await;
        first.write("f", &"1".repeat(LARGE));
        give(mirror).await;
        if half {
            write_file(&restoring(&second), "f", "1".repeat(LARGE));
        } else {
            assert!(open(&second, "second").await.release_if_idle().await.unwrap());
        }
        let mirror = open(&first, "first").await;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(first.dir().join("f"), mode.clone()).unwrap();
        give(mirror).await;
        for lost in first.blobs().await {
            store.delete(&Key::parse(lost).unwrap()).await.unwrap();
        }
        store.delete(&key("f")).await.unwrap();
        let mirror = open(&second, "second").await;
        assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
        assert_eq!(fs::read(second.dir().join("f")).unwrap().len(), LARGE);
        let found = fs::metadata(second.dir().join("f")).unwrap().permissions();
        assert_eq!(found.mode() & 0o777, mode.mode());
        mirror.close(CloseMode::KeepPending).await.unwrap();
        open(&second, "second").await;
        assert_eq!(fs::read(second.dir().join("f")).unwrap().len(), LARGE);
    }
}

#[tokio::test]
async fn each_version_that_is_kept_beside_is_reported_under_its_name() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    let link = machine.dir().join("link");
    for target in ["1", "2"] {
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        assert!(mirror.flush().await.unwrap().is_complete());
    }
    for (content, suffix) in [("first", ""), ("second", "-2")] {
        fs::remove_file(&link).unwrap();
        machine.write("link", content);
        let path = RelativePath::parse("link").unwrap();
        let restored = mirror.restore_version(&path, 1).await.unwrap();
        let conflicts = &restored.conflicts;
        assert!(conflicts.len() == 1, "{restored:?}");
        let kept_as = conflicts[0].kept_as.as_str();
        assert!(kept_as.ends_with(suffix), "{kept_as}");
        assert_eq!(fs::read(machine.dir().join(kept_as)).unwrap(), content.as_bytes());
    }
}

#[tokio::test]
async fn what_an_interrupted_opening_fetched_is_not_shown_as_pending() {
    let store = FailingStore::new();
    let first = Machine::new(Arc::clone(&store) as _);
    let second = Machine::new(Arc::clone(&store) as _);
    let mirror = open(&first, "first").await;
    first.write("kept", "1");
    give(mirror).await;
    give(open(&second, "second").await).await;
    let mirror = open(&first, "first").await;
    first.write("small", "2");
    first.write("large", &"3".repeat(LARGE));
    give(mirror).await;
    fail_at_the_content(&store, &second).await;
    assert!(second.dir().join("small").exists(), "small files come first");
    let inspected = artifact_sync::Mirror::builder(second.dir(), second.store.clone(), keys());
    let status = inspected.state_dir(second.state()).exclude("skills").inspect().unwrap();
    assert!(status.pending.is_empty(), "{status:?}");
    assert_eq!(status.undecided[0].path.as_str(), "small", "{status:?}");
    let mirror = open(&second, "second").await;
    let status = mirror.status();
    assert!(status.pending.is_empty() && status.undecided.is_empty(), "{status:?}");
    assert!(!status.is_taken_over);
}
