//! Sessions whose projection is turned off, and on again.

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{CloseMode, GarbageOptions, Mirror, MirrorBuilder, open_directory};
use object_store::ObjectStoreExt;
use testkit::ClockStore;

use crate::machine::{Machine, PREFIX, changed, expected, key, machines};

/// Age up to which a listing of the projection is recent.
const LISTED_JUST_NOW: Duration = Duration::from_secs(60 * 60);

async fn open_without(machine: &Machine) -> Mirror {
    machine.open_with(MirrorBuilder::without_projection).await
}

/// Opens with a projection, like a process that does not list it again within an hour.
async fn open_with(machine: &Machine) -> Mirror {
    machine.open_with(|mirror| mirror.listing_age(LISTED_JUST_NOW)).await
}

async fn sync(mirror: &Mirror) {
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
}

/// Asserts that opening changed no file.
fn assert_quiet(mirror: &Mirror) {
    let opened = mirror.opened();
    assert!(opened.restored.is_empty() && opened.removed.is_empty(), "{opened:?}");
    assert!(opened.conflicts.is_empty() && opened.problems().is_empty(), "{opened:?}");
}

#[tokio::test]
async fn files_are_stored_and_restored_without_objects_and_get_them_later() {
    for (machine, _place) in machines() {
        let mirror = open_without(&machine).await;
        machine.write("small", "1");
        machine.write("d/large", &"2".repeat(40_000));
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["d/large", "small"]);
        assert!(report.changed.iter().all(|changed| changed.key.is_none()), "{report:?}");
        mirror.close(CloseMode::KeepPending).await.unwrap();
        assert!(machine.objects().await.is_empty());

        let mirror = open_without(&machine).await;
        let files = expected(&[("small", "1"), ("d/large", &"2".repeat(40_000))]);
        assert_eq!(machine.files(), files);
        drop(mirror);
        let mirror = open_with(&machine).await;
        assert_quiet(&mirror);
        assert_eq!(machine.objects().await, files);
    }
}

#[tokio::test]
async fn objects_follow_what_happened_while_the_projection_was_off() {
    for (machine, _place) in machines() {
        let mirror = open_with(&machine).await;
        for path in ["changed", "removed", "renamed", "kept"] {
            machine.write(path, path);
        }
        sync(&mirror).await;
        drop(mirror);

        let mirror = open_without(&machine).await;
        machine.write("changed", "again");
        machine.remove("removed");
        machine.rename("renamed", "d/new name");
        machine.write("created", "created");
        sync(&mirror).await;
        let before = ["changed", "removed", "renamed", "kept"].map(|path| (path, path));
        assert_eq!(machine.objects().await, expected(&before), "the objects stay");
        drop(mirror);

        let mirror = open_with(&machine).await;
        assert_quiet(&mirror);
        let files = expected(&[
            ("changed", "again"),
            ("d/new name", "renamed"),
            ("created", "created"),
            ("kept", "kept"),
        ]);
        assert_eq!((machine.files(), machine.objects().await), (files.clone(), files));
    }
}

#[tokio::test]
async fn another_machine_that_has_a_projection_repairs_it() {
    for (machine, _place) in machines() {
        let mirror = open_with(&machine).await;
        machine.write("changed", "before");
        machine.write("removed", "before");
        sync(&mirror).await;
        mirror.close(CloseMode::KeepPending).await.unwrap();

        let second = Machine::new(Arc::clone(&machine.store));
        let mirror = open_without(&second).await;
        second.write("changed", "after");
        second.remove("removed");
        sync(&mirror).await;
        mirror.close(CloseMode::KeepPending).await.unwrap();

        let third = Machine::new(Arc::clone(&machine.store));
        let mirror = open_with(&third).await;
        assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
        let files = expected(&[("changed", "after")]);
        assert_eq!((third.files(), third.objects().await), (files.clone(), files));
    }
}

#[tokio::test]
async fn external_changes_wait_until_the_projection_is_on() {
    for (machine, _place) in machines() {
        let mirror = open_with(&machine).await;
        machine.write("replaced", "1");
        machine.write("vanished", "1");
        sync(&mirror).await;
        drop(mirror);
        let mirror = open_without(&machine).await;
        machine.put("replaced", "by another program").await;
        machine.put("new", "by another program").await;
        machine.store.delete(&key("vanished")).await.unwrap();
        let refreshed = mirror.refresh().await.unwrap();
        assert!(refreshed.restored.is_empty() && refreshed.removed.is_empty());
        assert_eq!(machine.files(), expected(&[("replaced", "1"), ("vanished", "1")]));
        drop(mirror);

        let mirror = open_with(&machine).await;
        assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
        let by_another = "by another program";
        let files = expected(&[("new", by_another), ("replaced", by_another)]);
        assert_eq!((machine.files(), machine.objects().await), (files.clone(), files));
    }
}

#[tokio::test]
async fn a_removed_file_stays_removed_however_long_the_projection_was_off() {
    let place = tempfile::tempdir().unwrap();
    // The local disk has no attributes, so only the log tells that the object is known.
    let (machine, clock) = without_attributes(&place);
    let mirror = open_with(&machine).await;
    machine.write("removed", "1");
    sync(&mirror).await;
    drop(mirror);
    let mirror = open_without(&machine).await;
    machine.remove("removed");
    sync(&mirror).await;
    for content in ["2", "3", "4"] {
        clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
        machine.write("kept", content);
        sync(&mirror).await;
        mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    }
    drop(mirror);
    let mirror = open_with(&machine).await;
    assert_quiet(&mirror);
    let files = expected(&[("kept", "4")]);
    assert_eq!((machine.files(), machine.objects().await), (files.clone(), files));
}

/// Time by which the clocks of a machine and a store differ.
const DEVIATION: Duration = Duration::from_secs(60 * 60);

/// Returns a machine with a store that keeps no attributes, and the store's clock.
fn without_attributes(place: &tempfile::TempDir) -> (Machine, Arc<ClockStore>) {
    let clock = ClockStore::new(open_directory(&place.path().join("store")).unwrap().store);
    (Machine::new(clock.clone()), clock)
}

#[tokio::test]
async fn an_object_whose_deletion_was_interrupted_stays_removed_by_a_slow_clock() {
    let place = tempfile::tempdir().unwrap();
    let (machine, clock) = without_attributes(&place);
    clock.advance(DEVIATION);
    let mirror = open_with(&machine).await;
    machine.write("removed", "1");
    sync(&mirror).await;
    drop(mirror);
    let mirror = open_without(&machine).await;
    machine.remove("removed");
    sync(&mirror).await;
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    // This machine has not seen the object.
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = other.open().await;
    assert_quiet(&mirror);
    assert_eq!((other.files(), other.objects().await), (expected(&[]), expected(&[])));
}

#[tokio::test]
async fn an_upload_after_the_removal_is_adopted_by_a_fast_clock() {
    let place = tempfile::tempdir().unwrap();
    let (machine, clock) = without_attributes(&place);
    clock.fall_behind(DEVIATION);
    let mirror = machine.open().await;
    machine.write("removed", "1");
    sync(&mirror).await;
    machine.remove("removed");
    sync(&mirror).await;
    drop(mirror);
    clock.advance(Duration::from_secs(10));
    machine.put("removed", "1").await;
    let mirror = machine.open().await;
    let files = expected(&[("removed", "1")]);
    assert_eq!((machine.files(), machine.objects().await), (files.clone(), files));
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
}

#[tokio::test]
async fn erasing_a_session_deletes_the_objects_of_an_earlier_projection() {
    let machine = Machine::in_memory();
    let mirror = open_with(&machine).await;
    machine.write("a", "1");
    sync(&mirror).await;
    drop(mirror);
    let mirror = open_without(&machine).await;
    mirror.erase().await.unwrap();
    assert!(machine.objects().await.is_empty());
}

#[tokio::test]
async fn a_file_takes_the_name_of_a_directory_that_was_emptied_in_the_store() {
    for large in [1, 9 << 20] {
        let place = tempfile::tempdir().unwrap();
        let opened = open_directory(&place.path().join("store")).unwrap();
        let machine = Machine::new(Arc::clone(&opened.store));
        let capabilities = opened.capabilities.clone();
        let mirror = machine.open_with(|mirror| mirror.capabilities(capabilities)).await;
        machine.write("d/below/x", "1");
        machine.write("kept/x", "1");
        sync(&mirror).await;
        mirror.flush().await.unwrap();
        for file in ["d/below/x", "kept/x"] {
            std::fs::remove_file(place.path().join("store").join(PREFIX).join(file)).unwrap();
        }
        // Programs other than the mirror may use the directory.
        testkit::write_file(&place.path().join("store").join(PREFIX), "kept/tab\there", "");
        mirror.refresh().await.unwrap();
        assert!(machine.files().is_empty(), "{:?}", machine.files());
        machine.remove_all();
        std::fs::create_dir(machine.dir()).unwrap();
        drop(mirror);
        let capabilities = opened.capabilities.clone();
        let mirror = machine.open_with(|mirror| mirror.capabilities(capabilities)).await;
        machine.write("d", &"2".repeat(large));
        machine.write("kept", "2");
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["d", "kept"], "{report:?}");
        mirror.flush().await.unwrap();
        let object = opened.store.head(&key("d")).await.unwrap();
        assert_eq!(object.size, large as u64);
        // What no retry can put keeps no session.
        while !mirror.release_if_idle().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(place.path().join("store").join(PREFIX).join("kept/tab\there").exists());
    }
}

#[tokio::test]
async fn removing_a_file_of_another_machine_removes_its_object() {
    let (first, _place) = machines().pop().unwrap();
    let in_memory = (Machine::in_memory(), None);
    for (a, _place) in [in_memory, (first, _place)] {
        let b = Machine::new(a.store.clone());
        let here = open_with(&a).await;
        a.write("keep", "1");
        sync(&here).await;
        while !here.release_if_idle().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let there = open_with(&b).await;
        for file in ["f", "g", "d/h", "d/i"] {
            b.write(file, file);
        }
        sync(&there).await;
        there.drain(Duration::ZERO).await.unwrap();
        // The first machine has not listed the objects since.
        sync(&here).await;
        a.remove("f");
        a.rename("g", "gg");
        std::fs::remove_dir_all(a.dir().join("d")).unwrap();
        a.write("d", "2");
        sync(&here).await;
        let files = expected(&[("keep", "1"), ("gg", "g"), ("d", "2")]);
        let followed = async {
            while a.objects().await != files {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
        assert_eq!(a.files(), files);
    }
}
