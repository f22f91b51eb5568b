//! Session directories that were deleted by hand, and objects that the store lost.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{CloseMode, Takeover, Undelete, open_directory};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::{RelativePath, with_causes};

use crate::machine::{Machine, changed, expected, key, machines};

#[tokio::test]
async fn a_directory_that_was_created_again_is_no_emptied_one() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        for number in 0..80 {
            machine.write(&format!("f{number}"), "1");
        }
        assert!(mirror.flush().await.unwrap().is_complete());
        assert!(mirror.release_if_idle().await.unwrap());
        drop(mirror);
        machine.remove_all();
        fs::create_dir(machine.dir()).unwrap();
        let mirror = machine.open().await;
        assert_eq!(machine.files().len(), 80);
        assert!(mirror.sync().await.unwrap().deleted.is_empty());
        drop(mirror);
        // An agent that empties the directory removes its files.
        for number in 0..80 {
            machine.remove(&format!("f{number}"));
        }
        let mirror = machine.open().await;
        assert_eq!(mirror.sync().await.unwrap().deleted.len(), 80);
    }
}

#[tokio::test]
async fn a_directory_that_is_deleted_while_it_is_open_removes_nothing_from_the_store() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("f", "1");
    assert!(mirror.sync().await.unwrap().is_complete());
    machine.remove_all();
    let error = mirror.sync().await.unwrap_err();
    assert!(error.to_string().contains("cannot use"), "{error}");
    drop(mirror);
    machine.open().await;
    assert_eq!(machine.files(), expected(&[("f", "1")]));
}

#[tokio::test]
async fn a_refill_stores_a_lost_content_again() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        machine.write("large", &"1".repeat(40_000));
        machine.write("small", "2");
        assert!(mirror.sync().await.unwrap().is_complete());
        for blob in machine.blobs().await {
            machine.store.delete(&Key::from(blob)).await.unwrap();
        }
        drop(mirror);
        let mirror = machine.open_with(|mirror| mirror.refill()).await;
        assert!(mirror.flush().await.unwrap().is_complete());
        assert!(!machine.blobs().await.is_empty());
        let files = machine.files();
        mirror.close(CloseMode::KeepPending).await.unwrap();
        machine.open().await;
        assert_eq!(machine.files(), files);
    }
}

#[tokio::test]
async fn closing_stores_a_lost_content_again() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        machine.write("large", &"1".repeat(40_000));
        machine.write("large.old", "");
        assert!(mirror.sync().await.unwrap().is_complete());
        machine.write("large.old", "2");
        assert!(mirror.sync().await.unwrap().is_complete());
        for blob in machine.blobs().await {
            machine.store.delete(&Key::from(blob)).await.unwrap();
        }
        let (files, objects) = (machine.files(), machine.objects().await);
        // A renamed file refers to the content of its old name.
        fs::rename(machine.dir().join("large"), machine.dir().join("renamed")).unwrap();
        assert!(mirror.sync().await.unwrap().is_complete());
        fs::rename(machine.dir().join("renamed"), machine.dir().join("large")).unwrap();
        assert!(mirror.sync().await.unwrap().is_complete());
        assert!(machine.blobs().await.is_empty());
        mirror.close(CloseMode::KeepPending).await.unwrap();
        assert_eq!(machine.blobs().await.len(), 1);
        assert_eq!(machine.objects().await, objects);
        // The content comes from the log.
        machine.store.delete(&key("large")).await.unwrap();
        let mirror = machine.open_with(|mirror| mirror.without_projection()).await;
        assert_eq!(machine.files(), files);
        let history = mirror.history(Some(&RelativePath::parse("large").unwrap())).await;
        assert!(history.is_ok_and(|versions| versions.len() > 1), "the history stays");
    }
}

#[tokio::test]
async fn a_session_with_a_lost_content_is_released() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("large", &"1".repeat(40_000));
    assert!(mirror.sync().await.unwrap().is_complete());
    mirror.drain(Duration::ZERO).await.unwrap();
    for blob in machine.blobs().await {
        machine.store.delete(&Key::from(blob)).await.unwrap();
    }
    machine.store.delete(&key("large")).await.unwrap();
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = other.open_with(|mirror| mirror.home("other", Takeover::Refuse)).await;
    assert_eq!(mirror.opened().failed.len(), 1, "{:?}", mirror.opened());
    other.write("new", "2");
    assert!(mirror.sync().await.unwrap().is_complete());
    let released = async {
        while !mirror.release_if_idle().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), released).await.unwrap();
}

#[tokio::test]
async fn a_lost_content_is_given_up_as_the_refusal_says() {
    for is_discarded in [false, true] {
        let machine = Machine::in_memory();
        let without_projection = || machine.open_with(|mirror| mirror.without_projection());
        let mirror = without_projection().await;
        machine.write("large", &"1".repeat(200_000));
        assert!(mirror.sync().await.unwrap().is_complete());
        mirror.close(CloseMode::KeepPending).await.unwrap();
        machine.store.delete(&Key::parse(&machine.blobs().await[0]).unwrap()).await.unwrap();
        let mirror = without_projection().await;
        let refused = mirror.close(CloseMode::KeepPending).await.unwrap_err();
        let text = with_causes(&refused);
        assert!(text.contains("create \"large\"") && text.contains("discard"), "{text}");
        drop(mirror);
        let mirror = without_projection().await;
        if is_discarded {
            mirror.close(CloseMode::Discard).await.unwrap();
            assert!(!machine.dir().exists());
            continue;
        }
        machine.write("large", "");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["large"]);
        machine.remove("large");
        assert_eq!(mirror.sync().await.unwrap().deleted.len(), 1);
        mirror.close(CloseMode::KeepPending).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_content_is_reported_and_the_rest_is_restored() {
    let machine = Machine::in_memory();
    let large = "1".repeat(200_000);
    {
        let mirror = machine.open_with(|mirror| mirror.without_projection()).await;
        machine.write("large", &large);
        machine.write("small", "2");
        assert!(mirror.sync().await.unwrap().is_complete());
        assert!(mirror.release_if_idle().await.unwrap());
    }
    let blobs = machine.blobs().await;
    let blob = Key::parse(&blobs[0]).unwrap();
    let content = machine.store.get(&blob).await.unwrap().bytes().await.unwrap();
    machine.store.delete(&blob).await.unwrap();
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = other.open_with(|mirror| mirror.without_projection()).await;
    assert_eq!(mirror.opened().failed.len(), 1, "{:?}", mirror.opened());
    assert_eq!(other.files(), expected(&[("small", "2")]));
    assert!(mirror.sync().await.unwrap().deleted.is_empty(), "the absence is no removal");
    let refused = mirror.close(CloseMode::KeepPending).await.unwrap_err();
    assert!(with_causes(&refused).contains("the working copy does not have it"), "{refused:?}");
    drop(mirror);
    machine.store.put(&blob, content.into()).await.unwrap();
    let mirror = other.open_with(|mirror| mirror.without_projection()).await;
    assert!(mirror.opened().failed.is_empty());
    assert_eq!(other.files(), expected(&[("large", &large), ("small", "2")]));
}

#[tokio::test]
async fn the_last_copy_of_a_file_is_not_removed_with_its_object() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("large", &"1".repeat(200_000));
    assert!(mirror.flush().await.unwrap().is_complete());
    for lost in machine.blobs().await {
        machine.store.delete(&Key::parse(lost).unwrap()).await.unwrap();
    }
    machine.store.delete(&key("large")).await.unwrap();
    let report = mirror.refresh().await.unwrap();
    assert!(report.removed.is_empty(), "{report:?}");
    assert!(machine.dir().join("large").exists());
}

#[tokio::test]
async fn an_external_object_that_collides_with_a_directory_or_a_file_gets_another_name() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/x", "mine");
    machine.write("f", "mine too");
    assert!(mirror.flush().await.unwrap().is_complete());
    machine.put("d", "other").await;
    machine.put("f/below/z", "another").await;
    let report = mirror.refresh().await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let files = machine.files();
    assert_eq!((files["d/x"].as_str(), files["f"].as_str()), ("mine", "mine too"));
    assert_eq!(report.conflicts.len(), 2, "{report:?}");
    for (conflict, content) in report.conflicts.iter().zip(["other", "another"]) {
        assert_eq!(files[conflict.kept_as.as_str()], content, "{conflict:?}");
    }
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(mirror.sync().await.unwrap().deleted.is_empty());
    let again = mirror.refresh().await.unwrap();
    assert!(again.conflicts.is_empty() && again.restored.is_empty(), "{again:?}");
    assert!(mirror.release_if_idle().await.unwrap());
    let other = Machine::new(Arc::clone(&machine.store));
    other.open().await;
    assert_eq!(other.files(), files);
}

#[tokio::test]
async fn a_file_without_an_object_and_one_in_place_of_a_directory_do_not_keep_the_session() {
    let place = tempfile::tempdir().unwrap();
    let open = || open_directory(&place.path().join("store")).unwrap();
    let (a, b) = (Machine::new(open().store), Machine::new(open().store));
    let mirror = a.open().await;
    a.write("d/x", "1");
    a.write("no key#1", "2");
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap(), "no retry can put that object");
    drop(mirror);
    drop(b.open().await);
    let mirror = a.open().await;
    fs::remove_dir_all(a.dir().join("d")).unwrap();
    a.write("d", "3");
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    let mirror = b.open().await;
    mirror.flush().await.unwrap();
    assert!(mirror.release_if_idle().await.unwrap(), "the old object is known to be gone");
    assert_eq!(b.files(), a.files());
}

#[tokio::test]
async fn an_unchanged_symlink_is_no_conflict_after_the_journal_is_lost() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("f", "1");
    std::os::unix::fs::symlink("f", machine.dir().join("link")).unwrap();
    assert!(mirror.flush().await.unwrap().is_complete());
    drop(mirror);
    fs::remove_dir_all(machine.state()).unwrap();
    let mirror = machine.open().await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    assert_eq!(fs::read_dir(machine.dir()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_removed_directory_that_has_ignored_files_elsewhere_stays_removed() {
    let a = Machine::in_memory();
    let b = Machine::new(Arc::clone(&a.store));
    let turn = async |machine: &Machine, change: &dyn Fn()| {
        let mirror = machine.open().await;
        change();
        assert!(mirror.flush().await.unwrap().is_complete());
        assert!(mirror.release_if_idle().await.unwrap());
    };
    turn(&a, &|| a.write("g/x", "1")).await;
    turn(&b, &|| b.write("g/__pycache__/j", "ignored")).await;
    turn(&a, &|| fs::remove_dir_all(a.dir().join("g")).unwrap()).await;
    for machine in [&b, &a, &b] {
        turn(machine, &|| {}).await;
    }
    assert!(!a.dir().join("g").exists() && b.dir().join("g/__pycache__/j").exists());
    let mirror = a.open().await;
    assert_eq!(mirror.undelete(Undelete::LastRemoval).await.unwrap().restored.len(), 1);
}

#[tokio::test]
async fn objects_that_a_repeated_listing_names_twice_are_adopted_once() {
    let place = tempfile::tempdir().unwrap();
    let machine = Machine::new(open_directory(&place.path().join("store")).unwrap().store);
    let mirror = machine.open().await;
    for number in 0..6 {
        machine.write(&format!("f{number}"), "mine");
    }
    assert!(mirror.flush().await.unwrap().is_complete());
    for number in 0..6 {
        machine.put(&format!("f{number}"), "of another program").await;
    }
    // No key can represent this name, so the listing begins again, and its end may be missing.
    let prefix = place.path().join("store").join(crate::machine::PREFIX);
    fs::write(prefix.join("tab\there"), "odd").unwrap();
    let report = mirror.refresh().await.unwrap();
    assert!(report.conflicts.is_empty() && !report.restored.is_empty(), "{report:?}");
    assert_eq!(machine.files().len(), 6, "{:?}", machine.files());
}

/// Returns two machines that share a store on the local disk, which keeps no attributes.
fn on_disk() -> (tempfile::TempDir, Machine, Machine) {
    let place = tempfile::tempdir().unwrap();
    let machine = || Machine::new(open_directory(&place.path().join("store")).unwrap().store);
    let (a, b) = (machine(), machine());
    (place, a, b)
}

async fn turn(machine: &Machine, change: impl FnOnce()) {
    let mirror = machine.open().await;
    assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
    change();
    assert!(mirror.flush().await.unwrap().is_complete());
    assert!(mirror.release_if_idle().await.unwrap(), "the session is not kept");
}

#[tokio::test]
async fn objects_below_a_file_get_another_name_on_the_local_disk_too() {
    let (_place, a, b) = on_disk();
    turn(&a, || {
        a.write("f", "1");
        std::os::unix::fs::symlink("f", a.dir().join("link")).unwrap();
    })
    .await;
    a.put("link/t", "other").await;
    for machine in [&a, &b, &a] {
        turn(machine, || {}).await;
        let files = machine.files();
        let kept = files.iter().filter(|(_, content)| *content == "other").count();
        assert_eq!(kept, 1, "{files:?}");
        assert!(machine.dir().join("link").is_symlink());
    }
}

#[tokio::test]
async fn looking_at_an_object_of_a_removed_directory_creates_no_directory() {
    for is_file in [false, true] {
        let (_place, a, b) = on_disk();
        turn(&a, || a.write("z", "0")).await;
        turn(&b, || {}).await;
        turn(&a, || a.write("k/s/t", "1")).await;
        // Without a listing, this machine has not seen the object.
        let mirror = b.open_with(|mirror| mirror.listing_age(Duration::from_secs(600))).await;
        fs::remove_dir_all(b.dir().join("k")).unwrap();
        if is_file {
            b.write("k", "a file");
        }
        assert!(mirror.flush().await.unwrap().is_complete());
        mirror.refresh().await.unwrap();
        assert!(mirror.flush().await.unwrap().is_complete());
        assert!(mirror.release_if_idle().await.unwrap(), "the session is not kept");
        drop(mirror);
        for machine in [&a, &b] {
            turn(machine, || {}).await;
            assert_eq!(machine.dir().join("k").exists(), is_file);
            assert_eq!(machine.files().len(), 1 + usize::from(is_file));
        }
        assert_eq!(a.objects().await, a.files());
    }
}
