//! Files that are not mirrored because of ignore rules.

use artifact_sync::{ChangeSource, IgnoreRules, SkipReason};
use sandbox_core::{RelativePath, STAGED_PREFIX};

use crate::machine::{Machine, changed, expected};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55";

#[tokio::test]
async fn ignored_trees_are_not_stored_and_special_files_are_reported_once() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for ignored in ["node_modules/a", "x/.git/config", "skills/s/SKILL.md", "x/__pycache__/y.pyc"] {
        machine.write(ignored, "ignored");
    }
    machine.write("x/skills/kept", "1");
    let _socket = std::os::unix::net::UnixListener::bind(machine.dir().join("socket")).unwrap();
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), ["x/skills/kept"]);
    let skipped: Vec<_> =
        report.skipped.iter().map(|skipped| (skipped.path.as_str(), &skipped.reason)).collect();
    assert_eq!(skipped, [("socket", &SkipReason::Special)]);
    assert!(mirror.sync().await.unwrap().skipped.is_empty(), "reported once");
    assert_eq!(machine.objects().await, expected(&[("x/skills/kept", "1")]));
}

#[tokio::test]
async fn a_marker_that_appears_or_vanishes_later_decides_about_its_directory() {
    for source in [ChangeSource::Walks, ChangeSource::Events] {
        let machine = Machine::in_memory();
        let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
        machine.write("target/debug/a", "1");
        machine.write("env/notes.md", "1");
        machine.write("proj/env/pyvenv.cfg", "home = /usr/bin");
        machine.write("proj/env/lib/x.py", "1");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["env/notes.md", "target/debug/a"]);
        machine.write("target/CACHEDIR.TAG", TAG);
        machine.write("target/debug/b", "1");
        let report = mirror.sync().await.unwrap();
        assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
        // Files that were stored before the marker appeared are kept, like those under other rules.
        machine.write("target/c", "1");
        machine.remove("target/debug/a");
        let report = mirror.sync().await.unwrap();
        assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
        let put = mirror.put_file(&RelativePath::parse("target/debug/b").unwrap()).await.unwrap();
        assert!(put.changed.is_empty());
        machine.write("target/CACHEDIR.TAG", "no signature");
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["target/CACHEDIR.TAG", "target/c", "target/debug/b"]);
        assert_eq!(report.deleted[0].as_str(), "target/debug/a");
        machine.remove("proj/env/pyvenv.cfg");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["proj/env/lib/x.py"]);
        assert!(mirror.pending().is_empty());
        // At the top, a marker is an ordinary file.
        machine.write("CACHEDIR.TAG", TAG);
        machine.write("d", "1");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["CACHEDIR.TAG", "d"]);
    }
}

#[tokio::test]
async fn a_file_of_an_interrupted_write_is_reported_and_a_similar_name_is_stored() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    let left = format!("{STAGED_PREFIX}{:032x}", 1);
    machine.write(&left, "1");
    machine.write(&format!("d/{STAGED_PREFIX}mine"), "1");
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), [format!("d/{STAGED_PREFIX}mine")]);
    let skipped: Vec<_> =
        report.skipped.iter().map(|skip| (skip.path.as_str(), &skip.reason)).collect();
    assert_eq!(skipped, [(left.as_str(), &SkipReason::Staged)]);
}

#[tokio::test]
async fn objects_stored_under_other_ignore_rules_are_kept() {
    let machine = Machine::in_memory();
    let open = async |patterns: &[&str]| {
        let rules = IgnoreRules::from_patterns(patterns).unwrap();
        machine.open_with(|mirror| mirror.ignore(rules)).await
    };
    let mirror = open(&["*.tmp"]).await;
    machine.write("node_modules/a", "1");
    machine.write("b.tmp", "2");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["node_modules/a"]);
    drop(mirror);
    let mirror = open(&["node_modules"]).await;
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.deleted.len()), (vec!["b.tmp"], 0));
    assert_eq!(machine.objects().await.len(), 2);
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn a_file_that_was_removed_while_a_rule_matched_it_is_removed_without_the_rule() {
    for other_writes in [false, true] {
        let machine = Machine::in_memory();
        let open = async |patterns: &[&str]| {
            let rules = IgnoreRules::from_patterns(patterns).unwrap();
            machine.open_with(|mirror| mirror.ignore(rules)).await
        };
        let mirror = open(&[]).await;
        machine.write("a.tmp", "1");
        machine.write("d/b.tmp", "1");
        machine.write("kept", "1");
        assert!(mirror.sync().await.unwrap().is_complete());
        assert!(mirror.release_if_idle().await.unwrap());
        drop(mirror);
        let mirror = open(&["*.tmp"]).await;
        machine.remove("a.tmp");
        std::fs::remove_dir_all(machine.dir().join("d")).unwrap();
        machine.write("kept", "2");
        let report = mirror.sync().await.unwrap();
        assert!(report.deleted.is_empty() && report.pending.is_empty(), "{report:?}");
        assert!(mirror.release_if_idle().await.unwrap());
        drop(mirror);
        if other_writes {
            let other = Machine::new(machine.store.clone());
            let mirror = other.open().await;
            assert_eq!(other.files().len(), 3, "the log has the files");
            other.write("kept", "3");
            assert!(mirror.sync().await.unwrap().is_complete());
            assert!(mirror.release_if_idle().await.unwrap());
        }
        let mirror = open(&[]).await;
        let kept = if other_writes { "3" } else { "2" };
        assert_eq!(machine.files(), expected(&[("kept", kept)]));
        let report = mirror.sync().await.unwrap();
        let deleted: Vec<&str> = report.deleted.iter().map(|path| path.as_str()).collect();
        assert_eq!(deleted, ["a.tmp", "d/b.tmp"]);
        assert_eq!(machine.objects().await, expected(&[("kept", kept)]));
        let new = Machine::new(machine.store.clone());
        assert!(mirror.release_if_idle().await.unwrap());
        new.open().await;
        assert_eq!(new.files(), expected(&[("kept", kept)]));
    }
}
