//! Synchronisation of the directory to the store.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use artifact_sync::{Direction, Mirror, Progress, SkipReason};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{Attribute, ObjectStoreExt};
use sandbox_core::{RelativePath, SessionDir};

use testkit::{Calls, FailingStore};

use crate::machine::{Machine, changed, expected, key, machines};

#[tokio::test]
async fn created_changed_and_removed_files_reach_the_store() {
    for (machine, _store) in machines() {
        let mirror = machine.open();
        machine.write("a.txt", "1");
        machine.write("d/é b.txt", "2");
        let report = mirror.sync().await;
        assert_eq!(changed(&report), ["a.txt", "d/é b.txt"]);
        assert_eq!(report.changed[0].key.as_ref().unwrap(), &key("a.txt"));
        assert_eq!(machine.objects().await, expected(&[("a.txt", "1"), ("d/é b.txt", "2")]));

        assert!(changed(&mirror.sync().await).is_empty(), "nothing changed");
        machine.write("a.txt", "3");
        assert_eq!(changed(&mirror.sync().await), ["a.txt"]);
        machine.remove("d/é b.txt");
        let report = mirror.sync().await;
        assert_eq!((changed(&report).len(), report.deleted[0].as_str()), (0, "d/é b.txt"));
        assert_eq!(machine.objects().await, expected(&[("a.txt", "3")]));
        assert!(mirror.pending().is_empty());
    }
}

#[tokio::test]
async fn the_store_copies_a_large_renamed_file_and_others_are_uploaded() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open();
    let large = "x".repeat(300_000);
    machine.write("a.txt", &large);
    machine.write("small", "1");
    mirror.sync().await;
    let puts = store.count(Calls::Puts);
    machine.rename("a.txt", "d/b.txt");
    let report = mirror.sync().await;
    assert_eq!((changed(&report), report.deleted.len()), (vec!["d/b.txt"], 1));
    assert_eq!(store.count(Calls::Puts), puts, "no upload");
    assert_eq!(machine.objects().await, machine.files());

    // A new media type prevents a copy, and a small file is uploaded.
    machine.rename("d/b.txt", "b.md");
    machine.rename("small", "little");
    mirror.sync().await;
    assert_eq!(store.count(Calls::Puts), puts + 2);
    // Another writer replaced the object under the old name, so it is neither copied nor removed.
    machine.rename("b.md", "c.md");
    machine.put("b.md", &"y".repeat(300_000)).await;
    let puts = store.count(Calls::Puts);
    mirror.sync().await;
    assert_eq!(store.count(Calls::Puts), puts + 1);
    let objects = machine.objects().await;
    assert!(objects["c.md"] == large && objects["b.md"].starts_with('y'));
}

#[tokio::test]
async fn many_removals_at_once_wait_for_confirmation() {
    let machine = Machine::in_memory();
    machine.put("upload", "the user's").await;
    let mirror = machine.open();
    mirror.restore().await.unwrap();
    for number in 0..60 {
        machine.write(&format!("f{number}"), "1");
    }
    mirror.sync().await;
    for number in 0..55 {
        machine.remove(&format!("f{number}"));
    }
    machine.write("f59", "changed");
    let report = mirror.sync().await;
    assert_eq!(
        (changed(&report), report.held_back.len(), report.deleted.len()),
        (vec!["f59"], 55, 0)
    );
    assert_eq!(machine.objects().await.len(), 61);
    assert!(mirror.pending()[0].reason.contains("confirmed"));
    drop(mirror);
    // The held-back files are not fetched again while the directory exists.
    let mirror = machine.open();
    assert!(mirror.refresh().await.unwrap().restored.is_empty());
    let report = mirror.sync_with_removals().await;
    assert_eq!((report.held_back.len(), report.deleted.len()), (0, 55));
    assert_eq!(machine.objects().await.len(), 6);
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn an_object_that_another_writer_removed_stays_removed_until_the_file_changes() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    machine.write("b", "1");
    mirror.sync().await;
    machine.store.delete(&key("a")).await.unwrap();
    mirror.refresh().await.unwrap();
    assert!(changed(&mirror.sync().await).is_empty());
    assert_eq!(machine.objects().await, expected(&[("b", "1")]));
    machine.write("a", "2");
    assert_eq!(changed(&mirror.sync().await), ["a"]);
    // A store that lost everything is filled again.
    for path in ["a", "b"] {
        machine.store.delete(&key(path)).await.unwrap();
    }
    mirror.refresh().await.unwrap();
    assert_eq!(changed(&mirror.sync().await), ["a", "b"]);
}

#[tokio::test]
async fn a_file_replaced_by_one_with_an_older_time_and_the_same_size_is_a_change() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    let before = std::fs::metadata(machine.dir().join("a")).unwrap().modified().unwrap();
    mirror.sync().await;
    machine.write("b", "2");
    std::fs::File::options()
        .write(true)
        .open(machine.dir().join("b"))
        .unwrap()
        .set_modified(before)
        .unwrap();
    std::fs::rename(machine.dir().join("b"), machine.dir().join("a")).unwrap();
    assert_eq!(changed(&mirror.sync().await), ["a"]);
    assert_eq!(machine.objects().await, expected(&[("a", "2")]));
}

#[tokio::test]
async fn a_touched_file_with_the_same_content_is_not_reported() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    mirror.sync().await;
    machine.write("a", "1");
    assert!(changed(&mirror.sync().await).is_empty());
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn a_directory_can_replace_a_file_and_the_reverse() {
    for (machine, _store) in machines() {
        let mirror = machine.open();
        machine.write("a", "file");
        machine.write("b/c", "below");
        mirror.sync().await;
        machine.remove("a");
        machine.write("a/d", "below");
        std::fs::remove_dir_all(machine.dir().join("b")).unwrap();
        machine.write("b", "file");
        let report = mirror.sync().await;
        assert!(report.pending.is_empty(), "{report:?}");
        assert_eq!(machine.objects().await, expected(&[("a/d", "below"), ("b", "file")]));
    }
}

#[tokio::test]
async fn names_without_a_valid_key_are_skipped_and_not_pending() {
    for (machine, store) in machines() {
        let mirror = machine.open();
        machine.write("new\nline", "x");
        let long = "n".repeat(255);
        machine.write(&long, "x");
        machine.write("staged#1", "x");
        machine.write("a%20b#.txt", "kept");
        let report = mirror.sync().await;
        let skipped: Vec<_> = report.skipped.iter().map(|skipped| skipped.path.as_str()).collect();
        // A local store keeps running uploads beside their targets, so it rejects some names.
        let expected =
            if store.is_some() { vec!["new\nline", &long, "staged#1"] } else { vec!["new\nline"] };
        let mut sorted = skipped.clone();
        sorted.sort_unstable();
        let mut wanted = expected.clone();
        wanted.sort_unstable();
        assert_eq!(sorted, wanted);
        assert!(report.pending.is_empty() && mirror.pending().is_empty(), "{report:?}");
        assert_eq!(machine.objects().await.get("a%20b#.txt").unwrap(), "kept");
    }
}

#[tokio::test]
async fn large_files_survive_a_round_trip_in_parts() {
    for (machine, _store) in machines() {
        let mirror = machine.open();
        let content: String = (0..2_500_000).map(|number: u32| format!("{number:08}")).collect();
        machine.write("large", &content);
        assert_eq!(changed(&mirror.sync().await), ["large"]);
        machine.write("large", &content);
        assert!(changed(&mirror.sync().await).is_empty(), "the same content");
        drop(mirror);
        machine.remove_all();
        machine.open().restore().await.unwrap();
        assert!(machine.files()["large"] == content);
    }
}

#[tokio::test]
async fn media_type_and_executable_bit_are_stored_as_attributes() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("run.sh", "#!/bin/sh");
    std::fs::set_permissions(machine.dir().join("run.sh"), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    machine.write("page.html", "<p>");
    mirror.sync().await;
    let attributes = machine.store.get(&key("page.html")).await.unwrap().attributes;
    assert_eq!(attributes.get(&Attribute::ContentType).unwrap().as_ref(), "text/html");
    drop(mirror);
    machine.remove_all();
    machine.open().restore().await.unwrap();
    let mode =
        |path| std::fs::metadata(machine.dir().join(path)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("page.html"), 0);
}

#[tokio::test]
async fn one_file_is_stored_without_a_scan_of_the_others() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    machine.write("b", "2");
    let report = mirror.put_file(&RelativePath::parse("a").unwrap()).await;
    assert_eq!(changed(&report), ["a"]);
    assert_eq!(machine.objects().await, expected(&[("a", "1")]));
    machine.write("a", "1");
    let again = mirror.put_file(&RelativePath::parse("a").unwrap()).await;
    assert_eq!(again.changed, report.changed, "the key is reported again for the same content");
    for nothing in ["absent", "absent/too", "node_modules/x"] {
        let report = mirror.put_file(&RelativePath::parse(nothing).unwrap()).await;
        assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
    }
    assert_eq!(changed(&mirror.sync().await), ["b"]);
}

#[tokio::test]
async fn overlapping_calls_report_each_change_once() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    for number in 0..50 {
        machine.write(&format!("f{number}"), "x");
    }
    let (a, b) = tokio::join!(mirror.sync(), mirror.sync());
    assert_eq!(a.changed.len() + b.changed.len(), 50);
}

#[tokio::test]
async fn a_file_that_grew_too_large_is_reported_and_its_object_is_kept() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("f", "1");
    mirror.sync().await;
    // A sparse file takes no disk space.
    std::fs::File::options()
        .write(true)
        .open(machine.dir().join("f"))
        .unwrap()
        .set_len(6 << 30)
        .unwrap();
    let report = mirror.sync().await;
    assert_eq!(report.skipped[0].reason, SkipReason::TooLarge { size: 6 << 30 });
    assert!(report.deleted.is_empty() && report.pending.is_empty());
    assert_eq!(machine.objects().await, expected(&[("f", "1")]));
}

#[tokio::test]
async fn links_come_from_the_linker() {
    let (machine, _store) = machines().pop().unwrap();
    let mirror: Mirror = machine.open();
    machine.write("a b.txt", "linked");
    let report = mirror.sync().await;
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
    let open = |name: &str| {
        let dir = Arc::new(SessionDir::create(&place.path().join(name)).unwrap());
        for file in ["a", "b", "c"].iter().filter(|_| name == "first") {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let mirror = Mirror::builder(dir, store.clone(), Key::from("p"))
            .state_dir(place.path().join(format!("{name}-state")));
        mirror.progress(recorder.clone()).open().unwrap()
    };
    open("first").sync().await;
    open("second").restore().await.unwrap();
    let reported = |direction| (1..=3).map(move |done| (direction, done, 3));
    let expected: Vec<_> =
        reported(Direction::Upload).chain(reported(Direction::Download)).collect();
    assert_eq!(*recorder.0.lock().unwrap(), expected);
}
