//! Restore from the store into the directory.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use object_store::ObjectStoreExt;

use crate::machine::{Machine, changed, expected, key, machines};

#[tokio::test]
async fn another_machine_gets_everything_and_has_nothing_to_upload() {
    for (first, _store) in machines() {
        let mirror = first.open().await;
        first.write("a", "1");
        first.write("d/e/f", "2");
        first.put("upload", "3").await;
        mirror.sync().await.unwrap();
        let second = Machine::new(Arc::clone(&first.store));
        let mirror = second.open().await;
        let report = mirror.opened().clone();
        assert_eq!((report.restored.len(), report.problems()), (3, vec![]));
        assert_eq!(second.files(), expected(&[("a", "1"), ("d/e/f", "2"), ("upload", "3")]));
        let report = mirror.sync().await.unwrap();
        assert!(
            report.changed.is_empty() && report.deleted.is_empty() && report.pending.is_empty()
        );
    }
}

#[tokio::test]
async fn after_a_restart_local_files_win_and_newer_objects_are_fetched() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        for path in ["kept", "edited", "replaced", "both", "removed"] {
            machine.write(path, "old");
        }
        mirror.sync().await.unwrap();
        drop(mirror);
        machine.write("edited", "edited here");
        machine.write("both", "edited here");
        machine.remove("removed");
        machine.write("made", "here");
        for path in ["replaced", "both", "uploaded"] {
            machine.put(path, "from elsewhere").await;
        }
        let mirror = machine.open().await;
        let report = mirror.opened().clone();
        let restored: Vec<_> = report.restored.iter().map(|path| path.as_str()).collect();
        assert_eq!(restored, ["both", "replaced", "uploaded"]);
        let [conflict] = report.conflicts.as_slice() else { panic!("{report:?}") };
        assert_eq!(conflict.path.as_str(), "both");
        let mut files = expected(&[
            ("kept", "old"),
            ("edited", "edited here"),
            ("replaced", "from elsewhere"),
            ("both", "from elsewhere"),
            ("made", "here"),
            ("uploaded", "from elsewhere"),
        ]);
        files.insert(conflict.kept_as.to_string(), "edited here".to_owned());
        assert_eq!(machine.files(), files);
        let report = mirror.flush().await.unwrap();
        assert_eq!(changed(&report), [conflict.kept_as.as_str(), "edited", "made"]);
        assert_eq!(report.deleted[0].as_str(), "removed");
        assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
        assert_eq!(machine.files(), files);
        assert_eq!(machine.objects().await, files);
    }
}

#[tokio::test]
async fn an_object_that_was_replaced_during_a_call_takes_the_path_and_both_versions_stay() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    mirror.sync().await.unwrap();
    machine.put("a", "from elsewhere").await;
    machine.write("a", "2");
    let report = mirror.sync().await.unwrap();
    let [conflict] = report.conflicts.as_slice() else { panic!("{report:?}") };
    let mut files = expected(&[("a", "from elsewhere")]);
    files.insert(conflict.kept_as.to_string(), "2".to_owned());
    assert_eq!(machine.files(), files);
    mirror.flush().await.unwrap();
    assert_eq!(machine.objects().await, files);
    assert!(mirror.sync().await.unwrap().conflicts.is_empty(), "reported once");
}

#[tokio::test]
async fn a_removed_file_never_returns_and_a_new_object_does() {
    for (machine, _store) in machines() {
        machine.put("upload", "the user's").await;
        let mirror = machine.open().await;
        machine.write("own", "the agent's");
        mirror.sync().await.unwrap();
        machine.remove("own");
        machine.remove("upload");
        let report = mirror.sync().await.unwrap();
        assert_eq!(report.deleted.len(), 2);
        assert!(machine.objects().await.is_empty());

        // Neither file returns, at the next open or after a removal of the directory.
        drop(mirror);
        let mirror = machine.open().await;
        assert!(mirror.opened().restored.is_empty());
        drop(mirror);
        machine.remove_all();
        let mirror = machine.open().await;
        assert!(mirror.opened().restored.is_empty());

        machine.put("upload", "the user's second").await;
        assert_eq!(mirror.refresh().await.unwrap().restored.len(), 1);
        assert_eq!(machine.files(), expected(&[("upload", "the user's second")]));
    }
}

#[tokio::test]
async fn a_recreated_directory_is_never_taken_for_an_emptied_one() {
    for (machine, _store) in machines() {
        let mirror = machine.open().await;
        machine.write("precious", "1");
        mirror.sync().await.unwrap();
        drop(mirror);
        machine.remove_all();
        let mirror = machine.open().await;
        // Even without a restore first.
        let report = mirror.sync().await.unwrap();
        assert!(report.deleted.is_empty());
        assert_eq!(machine.objects().await, expected(&[("precious", "1")]));
    }
}

#[tokio::test]
async fn an_object_that_vanished_before_a_cold_opening_is_put_again() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "1");
    mirror.sync().await.unwrap();
    drop(mirror);
    machine.store.delete(&key("a")).await.unwrap();
    let second = Machine::new(Arc::clone(&machine.store));
    second.open().await;
    assert_eq!(second.files(), expected(&[("a", "1")]));
    assert_eq!(second.objects().await, expected(&[("a", "1")]));
}

#[tokio::test]
async fn directory_markers_ignored_trees_and_excluded_names_are_not_fetched() {
    let machine = Machine::in_memory();
    machine.put("dir", "").await;
    for path in ["dir/file", "node_modules/x", "skills/s/SKILL.md", "a/.git/HEAD"] {
        machine.put(path, "1").await;
    }
    machine.put("empty", "").await;
    let mirror = machine.open().await;
    assert!(mirror.opened().problems().is_empty());
    assert_eq!(machine.files(), expected(&[("dir/file", "1"), ("empty", "")]));
}

#[tokio::test]
async fn no_file_is_written_through_a_symlink_that_leads_out() {
    let machine = Machine::in_memory();
    let outside = tempfile::tempdir().unwrap();
    let mirror = machine.open().await;
    symlink(outside.path(), machine.dir().join("d")).unwrap();
    symlink(outside.path().join("f"), machine.dir().join("f")).unwrap();
    machine.put("d/planted", "x").await;
    machine.put("f", "x").await;
    for pulled in ["d/planted", "f"] {
        assert!(mirror.pull_key(key(pulled).as_ref()).await.is_err(), "{pulled}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_object_that_cannot_be_written_does_not_block_the_others() {
    let machine = Machine::in_memory();
    machine.put("a", "file").await;
    machine.put("a/b", "below a file").await;
    machine.put("c", "fine").await;
    let mirror = machine.open().await;
    let report = mirror.opened().clone();
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(machine.files().contains_key("c"));
}
