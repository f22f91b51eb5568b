//! Synchronisation of the directory to the store.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{
    Direction, Mirror, MirrorBuilder, Progress, SessionKeys, SkipReason, Undelete,
};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{Attribute, ObjectStoreExt};
use sandbox_core::RelativePath;

use testkit::{FailingStore, LatencyStore};

use crate::machine::{Machine, changed, expected, key, machines};

#[tokio::test]
async fn created_changed_and_removed_files_reach_the_store() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        machine.write("a.txt", "1");
        machine.write("d/é b.txt", "2");
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["a.txt", "d/é b.txt"]);
        assert_eq!(report.changed[0].key.as_ref().unwrap(), &key("a.txt"));
        assert_eq!(machine.objects().await, expected(&[("a.txt", "1"), ("d/é b.txt", "2")]));

        assert!(changed(&mirror.sync().await.unwrap()).is_empty(), "nothing changed");
        machine.write("a.txt", "3");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["a.txt"]);
        machine.remove("d/é b.txt");
        let report = mirror.sync().await.unwrap();
        assert_eq!((changed(&report).len(), report.deleted[0].as_str()), (0, "d/é b.txt"));
        assert_eq!(machine.objects().await, expected(&[("a.txt", "3")]));
        assert!(mirror.pending().is_empty());
    }
}

#[tokio::test]
async fn a_renamed_file_is_stored_by_one_entry_and_its_object_follows() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open().await;
    machine.write("a.txt", &"x".repeat(300_000));
    mirror.sync().await.unwrap();
    let blobs = machine.blobs().await;
    machine.rename("a.txt", "d/b.txt");
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.deleted.len()), (vec!["d/b.txt"], 1));
    mirror.flush().await.unwrap();
    assert_eq!(machine.blobs().await, blobs, "the content was not uploaded again");
    assert_eq!(machine.objects().await, machine.files());
}

#[tokio::test]
async fn many_removals_by_the_agent_need_no_confirmation() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for number in 0..60 {
        machine.write(&format!("f{number}"), "1");
    }
    mirror.sync().await.unwrap();
    for number in 0..55 {
        machine.remove(&format!("f{number}"));
    }
    machine.write("f59", "changed");
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.deleted.len()), (vec!["f59"], 55));
    assert_eq!(machine.objects().await.len(), 5);
    drop(mirror);
    machine.remove_all();
    machine.open().await;
    assert_eq!(machine.files().len(), 5);
}

#[tokio::test]
async fn many_removals_in_the_store_wait_for_confirmation() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for number in 0..60 {
        machine.write(&format!("f{number}"), "1");
    }
    mirror.sync().await.unwrap();
    for number in 0..55 {
        machine.store.delete(&key(&format!("f{number}"))).await.unwrap();
    }
    let report = mirror.refresh().await.unwrap();
    assert_eq!((report.held_back.len(), report.removed.len()), (55, 0));
    assert_eq!(machine.files().len(), 60);
    let report = mirror.refresh_with_removals().await.unwrap();
    assert_eq!((report.held_back.len(), report.removed.len()), (0, 55));
    assert_eq!(machine.files().len(), 5);
    assert!(mirror.sync().await.unwrap().changed.is_empty());
    let report = mirror.undelete(Undelete::LastRemoval).await.unwrap();
    assert_eq!(report.restored.len(), 55, "the removals of one call are undone together");
}

#[tokio::test]
async fn a_file_whose_object_another_writer_removed_is_removed_unless_it_was_changed() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for path in ["a", "b", "c"] {
        machine.write(path, "1");
    }
    mirror.sync().await.unwrap();
    machine.store.delete(&key("a")).await.unwrap();
    machine.store.delete(&key("b")).await.unwrap();
    machine.write("b", "changed");
    let report = mirror.refresh().await.unwrap();
    assert_eq!(report.removed.len(), 1);
    assert_eq!(machine.files(), expected(&[("b", "changed"), ("c", "1")]));
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["b"]);
    assert_eq!(machine.objects().await, machine.files());
}

#[tokio::test]
async fn a_file_replaced_by_one_with_an_older_time_and_the_same_size_is_a_change() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    let before = std::fs::metadata(machine.dir().join("a")).unwrap().modified().unwrap();
    mirror.sync().await.unwrap();
    machine.write("b", "2");
    std::fs::File::options()
        .write(true)
        .open(machine.dir().join("b"))
        .unwrap()
        .set_modified(before)
        .unwrap();
    std::fs::rename(machine.dir().join("b"), machine.dir().join("a")).unwrap();
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["a"]);
    assert_eq!(machine.objects().await, expected(&[("a", "2")]));
}

#[tokio::test]
async fn a_touched_file_with_the_same_content_is_not_reported() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    mirror.sync().await.unwrap();
    machine.write("a", "1");
    assert!(changed(&mirror.sync().await.unwrap()).is_empty());
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn a_directory_can_replace_a_file_and_the_reverse() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        machine.write("a", "file");
        machine.write("b/c", "below");
        mirror.sync().await.unwrap();
        machine.remove("a");
        machine.write("a/d", "below");
        std::fs::remove_dir_all(machine.dir().join("b")).unwrap();
        machine.write("b", "file");
        let report = mirror.flush().await.unwrap();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(machine.objects().await, expected(&[("a/d", "below"), ("b", "file")]));
    }
}

#[tokio::test]
async fn files_whose_names_no_key_can_represent_are_stored_without_an_object() {
    for (machine, store) in machines() {
        let mirror = machine.open().await;
        let long = "n".repeat(255);
        for name in ["new\nline", &long, "staged#1"] {
            machine.write(name, "x");
        }
        machine.write("a%20b#.txt", "kept");
        let report = mirror.sync().await.unwrap();
        assert!(report.is_complete() && report.skipped.is_empty(), "{report:?}");
        let without: Vec<_> = report.changed.iter().filter(|file| file.key.is_none()).collect();
        // A local store keeps running uploads beside their targets, so it rejects some names.
        assert_eq!(without.len(), if store.is_some() { 3 } else { 1 }, "{report:?}");
        assert!(mirror.pending().is_empty());
        assert_eq!(machine.objects().await.get("a%20b#.txt").unwrap(), "kept");
        drop(mirror);
        let files = machine.files();
        machine.remove_all();
        machine.open().await;
        assert_eq!(machine.files(), files);
    }
}

#[tokio::test]
async fn large_files_survive_a_round_trip_in_parts() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        let content: String = (0..2_500_000).map(|number: u32| format!("{number:08}")).collect();
        machine.write("large", &content);
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["large"]);
        machine.write("large", &content);
        assert!(changed(&mirror.sync().await.unwrap()).is_empty(), "the same content");
        drop(mirror);
        machine.remove_all();
        machine.open().await;
        assert!(machine.files()["large"] == content);
    }
}

#[tokio::test]
async fn many_large_files_of_one_call_share_the_memory_for_uploads() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        let names: Vec<String> = (0..12).map(|number| format!("large{number:02}")).collect();
        for name in &names {
            machine.write(name, &name.repeat(1_300_000));
        }
        let report = mirror.flush().await.unwrap();
        assert!(report.is_complete(), "{:?}", report.pending.first());
        assert_eq!(changed(&report), names);
        drop(mirror);
        machine.remove_all();
        machine.open().await;
        assert!(names.iter().all(|name| machine.files()[name] == name.repeat(1_300_000)));
    }
}

#[tokio::test]
async fn media_type_and_executable_bit_are_stored_as_attributes() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("run.sh", "#!/bin/sh");
    std::fs::set_permissions(machine.dir().join("run.sh"), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    machine.write("page.html", "<p>");
    mirror.sync().await.unwrap();
    let attributes = machine.store.get(&key("page.html")).await.unwrap().attributes;
    assert_eq!(attributes.get(&Attribute::ContentType).unwrap().as_ref(), "text/html");
    drop(mirror);
    machine.remove_all();
    machine.open().await;
    let mode =
        |path| std::fs::metadata(machine.dir().join(path)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("page.html"), 0);
}

#[tokio::test]
async fn one_file_is_stored_without_a_scan_of_the_others() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    machine.write("b", "2");
    let report = mirror.put_file(&RelativePath::parse("a").unwrap()).await.unwrap();
    assert_eq!(changed(&report), ["a"]);
    assert_eq!(machine.objects().await, expected(&[("a", "1")]));
    machine.write("a", "1");
    let again = mirror.put_file(&RelativePath::parse("a").unwrap()).await.unwrap();
    assert_eq!(again.changed[0].key, report.changed[0].key, "reported again for the same content");
    for nothing in ["absent", "absent/too", "node_modules/x"] {
        let report = mirror.put_file(&RelativePath::parse(nothing).unwrap()).await.unwrap();
        assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
    }
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["b"]);
}

#[tokio::test]
async fn overlapping_calls_report_each_change_once() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for number in 0..50 {
        machine.write(&format!("f{number}"), "x");
    }
    let (a, b) = tokio::join!(mirror.sync(), mirror.sync());
    assert_eq!(a.unwrap().changed.len() + b.unwrap().changed.len(), 50);
}

#[tokio::test]
async fn a_file_that_grew_too_large_is_reported_and_its_object_is_kept() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("f", "1");
    mirror.sync().await.unwrap();
    // A sparse file takes no disk space.
    std::fs::File::options()
        .write(true)
        .open(machine.dir().join("f"))
        .unwrap()
        .set_len(6 << 30)
        .unwrap();
    let report = mirror.sync().await.unwrap();
    assert_eq!(report.skipped[0].reason, SkipReason::TooLarge { size: 6 << 30 });
    assert!(report.deleted.is_empty() && report.pending.is_empty());
    assert_eq!(machine.objects().await, expected(&[("f", "1")]));
}

#[tokio::test]
async fn links_come_from_the_linker() {
    let (machine, _store) = machines().pop().unwrap();
    let mirror: Mirror = machine.open().await;
    machine.write("a b.txt", "linked");
    let report = mirror.sync().await.unwrap();
    let url = url::Url::parse(report.changed[0].url.as_deref().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(url.to_file_path().unwrap()).unwrap(), "linked");
}

/// Receiver that records every report.
#[derive(Debug, Default)]
struct Recorder(std::sync::Mutex<Vec<(Direction, usize, usize)>>);

impl Progress for Recorder {
    fn advanced(&self, direction: Direction, done: usize, total: usize) {
        self.0.lock().unwrap().push((direction, done, total));
    }
}

#[tokio::test]
async fn progress_is_reported_file_by_file() {
    let place = tempfile::tempdir().unwrap();
    let store = Arc::new(InMemory::new());
    let recorder = Arc::new(Recorder::default());
    let open = async |name: &str| {
        let dir = place.path().join(name);
        let keys = SessionKeys::at(Key::from("p"), Key::from("l"));
        let mirror = Mirror::builder(dir, store.clone(), keys)
            .state_dir(place.path().join(format!("{name}-state")));
        mirror.progress(recorder.clone()).open().await.unwrap()
    };
    let first = open("first").await;
    for file in ["a", "b", "c"] {
        std::fs::write(place.path().join("first").join(file), "x").unwrap();
    }
    first.sync().await.unwrap();
    open("second").await;
    let reported = |direction| (1..=3).map(move |done| (direction, done, 3));
    let expected: Vec<_> =
        reported(Direction::Upload).chain(reported(Direction::Download)).collect();
    assert_eq!(*recorder.0.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_flush_goes_on_as_long_as_it_makes_progress() {
    let machine = Machine::new(LatencyStore::new(Duration::from_secs(2)));
    let patient = |mirror: MirrorBuilder| {
        mirror.deadline(Duration::from_secs(1)).patience(Duration::from_secs(10))
    };
    let mirror = machine.open_with(patient).await;
    for number in 0..200 {
        machine.write(&format!("f{number}"), &format!("{number} {}", "x".repeat(40_000)));
    }
    let began = tokio::time::Instant::now();
    assert!(!mirror.sync().await.unwrap().is_complete());
    assert!(began.elapsed() < Duration::from_secs(3));
    let report = mirror.flush().await.unwrap();
    assert!(report.is_complete(), "{:?}", report.pending.first());
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_gives_up_without_progress() {
    let machine = Machine::new(FailingStore::hanging());
    let patient = |mirror: MirrorBuilder| mirror.patience(Duration::from_secs(20));
    let mirror = machine.open_with(patient).await;
    machine.write("f", &"x".repeat(40_000));
    let began = tokio::time::Instant::now();
    assert!(!mirror.flush().await.unwrap().is_complete());
    assert!(began.elapsed() < Duration::from_secs(80), "{:?}", began.elapsed());
}
