//! Restore from the store into the directory.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use object_store::ObjectStoreExt;

use crate::machine::{Machine, changed, expected, key, machines};

#[tokio::test]
async fn another_machine_gets_everything_and_has_nothing_to_upload() {
    for (first, _store) in machines() {
        let mirror = first.open();
        first.write("a", "1");
        first.write("d/e/f", "2");
        first.put("upload", "3").await;
        mirror.sync().await;
        let second = Machine::new(Arc::clone(&first.store));
        let mirror = second.open();
        let report = mirror.restore().await.unwrap();
        assert_eq!((report.restored.len(), report.problems()), (3, vec![]));
        assert_eq!(second.files(), expected(&[("a", "1"), ("d/e/f", "2"), ("upload", "3")]));
        let report = mirror.sync().await;
        assert!(
            report.changed.is_empty() && report.deleted.is_empty() && report.pending.is_empty()
        );
    }
}

#[tokio::test]
async fn after_a_restart_local_files_win_and_newer_objects_are_fetched() {
    for (machine, _store) in machines() {
        let mirror = machine.open();
        for path in ["kept", "edited", "replaced", "both", "removed"] {
            machine.write(path, "old");
        }
        mirror.sync().await;
        drop(mirror);
        machine.write("edited", "edited here");
        machine.write("both", "edited here");
        machine.remove("removed");
        machine.write("made", "here");
        for path in ["replaced", "both", "uploaded"] {
            machine.put(path, "from elsewhere").await;
        }
        let mirror = machine.open();
        let report = mirror.restore().await.unwrap();
        let restored: Vec<_> = report.restored.iter().map(|path| path.as_str()).collect();
        assert_eq!(restored, ["replaced", "uploaded"]);
        let files = expected(&[
            ("kept", "old"),
            ("edited", "edited here"),
            ("replaced", "from elsewhere"),
            ("both", "edited here"),
            ("made", "here"),
            ("uploaded", "from elsewhere"),
        ]);
        assert_eq!(machine.files(), files);
        let report = mirror.sync().await;
        assert_eq!(changed(&report), ["both", "edited", "made"]);
        // Both sides hold both versions of the conflicting file.
        let [conflict] = report.conflicts.as_slice() else { panic!("{report:?}") };
        assert_eq!(conflict.path.as_str(), "both");
        let mut files = files;
        files.insert(conflict.kept_as.to_string(), "from elsewhere".to_owned());
        assert_eq!(machine.files(), files);
        assert_eq!(machine.objects().await, files);
        assert!(mirror.sync().await.conflicts.is_empty(), "reported once");
    }
}

#[tokio::test]
async fn an_object_is_replaced_only_after_a_copy_was_kept() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    mirror.sync().await;
    machine.put("a", "from elsewhere").await;
    machine.write("a", "2");
    let kept_as = mirror.sync().await.conflicts[0].kept_as.to_string();
    drop(mirror);
    // The same conflict if the name of the copy is taken, in the directory or in the store.
    for taken_here in [true, false] {
        let machine = Machine::in_memory();
        let mirror = machine.open();
        machine.write("a", "1");
        mirror.sync().await;
        machine.put("a", "from elsewhere").await;
        machine.write("a", "2");
        if taken_here {
            std::os::unix::fs::symlink("a", machine.dir().join(&kept_as)).unwrap();
        } else {
            machine.put(&kept_as, "of another writer").await;
        }
        let report = mirror.sync().await;
        assert!(
            report.pending.iter().any(|pending| pending.reason.contains("is taken")),
            "{report:?}"
        );
        assert_eq!(machine.objects().await["a"], "from elsewhere");
    }
}

#[tokio::test]
async fn removing_a_file_deletes_its_object_only_if_the_session_created_it() {
    for (machine, _store) in machines() {
        machine.put("upload", "the user's").await;
        let mirror = machine.open();
        mirror.restore().await.unwrap();
        machine.write("own", "the agent's");
        mirror.sync().await;
        machine.remove("own");
        machine.remove("upload");
        let report = mirror.sync().await;
        assert_eq!(report.deleted.len(), 2);
        assert_eq!(machine.objects().await, expected(&[("upload", "the user's")]));

        // Neither file returns, at the next open or after a removal of the directory.
        drop(mirror);
        let mirror = machine.open();
        assert!(mirror.restore().await.unwrap().restored.is_empty());
        drop(mirror);
        machine.remove_all();
        let mirror = machine.open();
        assert!(mirror.restore().await.unwrap().restored.is_empty());

        // A new version is fetched.
        machine.put("upload", "the user's second").await;
        assert_eq!(mirror.restore().await.unwrap().restored.len(), 1);
        assert_eq!(machine.files(), expected(&[("upload", "the user's second")]));
    }
}

#[tokio::test]
async fn the_origin_of_a_file_survives_a_close_and_another_machine() {
    for (machine, store) in machines() {
        let mirror = machine.open();
        machine.write("own", "1");
        machine.put("upload", "2").await;
        mirror.restore().await.unwrap();
        mirror.sync().await;
        drop(mirror);
        machine.remove_all();
        let mirror = machine.open();
        mirror.restore().await.unwrap();
        machine.remove("own");
        machine.remove("upload");
        mirror.sync().await;
        assert_eq!(machine.objects().await, expected(&[("upload", "2")]));

        machine.write("other", "3");
        mirror.sync().await;
        let second = Machine::new(Arc::clone(&machine.store));
        let mirror = second.open();
        mirror.restore().await.unwrap();
        second.remove("other");
        mirror.sync().await;
        // A store without attributes loses the origin, and the object is kept.
        assert_eq!(second.objects().await.contains_key("other"), store.is_some());
    }
}

#[tokio::test]
async fn a_recreated_directory_is_never_taken_for_an_emptied_one() {
    for (machine, _store) in machines() {
        let mirror = machine.open();
        machine.write("precious", "1");
        mirror.sync().await;
        drop(mirror);
        machine.remove_all();
        let mirror = machine.open();
        // Even without a restore first.
        let report = mirror.sync().await;
        assert!(report.deleted.is_empty());
        assert_eq!(machine.objects().await, expected(&[("precious", "1")]));
    }
}

#[tokio::test]
async fn a_lost_object_is_uploaded_again() {
    let machine = Machine::in_memory();
    let mirror = machine.open();
    machine.write("a", "1");
    mirror.sync().await;
    machine.store.delete(&key("a")).await.unwrap();
    mirror.restore().await.unwrap();
    assert_eq!(machine.files(), expected(&[("a", "1")]));
    mirror.sync().await;
    assert_eq!(machine.objects().await, expected(&[("a", "1")]));
}

#[tokio::test]
async fn directory_markers_ignored_trees_and_excluded_names_are_not_fetched() {
    let machine = Machine::in_memory();
    machine.put("dir", "").await;
    for path in ["dir/file", "node_modules/x", "skills/s/SKILL.md", "a/.git/HEAD"] {
        machine.put(path, "1").await;
    }
    machine.put("empty", "").await;
    let mirror = machine.open();
    assert!(mirror.restore().await.unwrap().problems().is_empty());
    assert_eq!(machine.files(), expected(&[("dir/file", "1"), ("empty", "")]));
}

#[tokio::test]
async fn no_file_is_written_through_a_symlink_that_leads_out() {
    let machine = Machine::in_memory();
    let outside = tempfile::tempdir().unwrap();
    let mirror = machine.open();
    symlink(outside.path(), machine.dir().join("d")).unwrap();
    symlink(outside.path().join("f"), machine.dir().join("f")).unwrap();
    machine.put("d/planted", "x").await;
    machine.put("f", "x").await;
    mirror.restore().await.unwrap();
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
    let mirror = machine.open();
    let report = mirror.restore().await.unwrap();
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(machine.files().contains_key("c"));
}
