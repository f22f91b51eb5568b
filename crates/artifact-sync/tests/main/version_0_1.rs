//! Migration of sessions of version 0.1, from indexes that its command wrote.

mod home;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use artifact_sync::{Mirror, SyncError, Takeover, Undelete};
use object_store::ObjectStoreExt;
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore, Failure};

use crate::machine::{Machine, changed, expected, key, machines};
use home::{CLOSED, Directory, FILES, OPEN, RECREATED, failed, index_of, install, install_s1};

/// Files of the session `s1` after its migration without external changes.
fn files() -> BTreeMap<String, String> {
    expected(&FILES)
}

fn has_index(machine: &Machine) -> bool {
    machine.state().join("index.log").exists()
}

/// Stores what is pending, and checks that both sides and a new machine have these files.
async fn check(machine: &Machine, mirror: Mirror, files: &BTreeMap<String, String>) {
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
    assert_eq!(machine.files(), *files);
    assert_eq!(machine.objects().await, *files);
    assert!(!has_index(machine));
    drop(mirror);
    let mirror = machine.open().await;
    let opened = mirror.opened();
    let is_quiet = opened.restored.is_empty()
        && opened.removed.is_empty()
        && opened.conflicts.is_empty()
        && opened.failed.is_empty();
    assert!(is_quiet, "the next opening: {opened:?}");
    assert!(mirror.pending().is_empty(), "{:?}", mirror.pending());
    drop(mirror);
    let other = Machine::new(Arc::clone(&machine.store));
    let mirror = other.open().await;
    assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
    assert_eq!(other.files(), *files);
}

#[tokio::test]
async fn pending_changes_are_stored_and_removed_files_do_not_return() {
    for (machine, _place) in machines() {
        install_s1(&machine).await;
        let mirror = machine.open().await;
        assert_eq!(mirror.opened().restored, []);
        assert_eq!(mirror.opened().removed, []);
        assert_eq!(mirror.opened().conflicts, []);
        assert_eq!(machine.files(), files());
        let mut objects = files();
        objects.insert("changed.txt".to_owned(), "old\n".to_owned());
        objects.remove("fresh.txt");
        assert_eq!(machine.objects().await, objects, "the removals are stored");
        let report = mirror.sync().await.unwrap();
        assert_eq!(changed(&report), ["changed.txt", "fresh.txt"]);
        check(&machine, mirror, &files()).await;
        let mode = std::fs::metadata(machine.dir().join("run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}

#[tokio::test]
async fn nothing_is_uploaded_twice_and_unchanged_objects_stay() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    let etag = async |path: &str| machine.store.head(&key(path)).await.unwrap().e_tag;
    let before = [etag("kept.md").await, etag("upload.csv").await];
    let mirror = machine.open().await;
    mirror.sync().await.unwrap();
    assert_eq!([etag("kept.md").await, etag("upload.csv").await], before);
}

#[tokio::test]
async fn external_changes_since_are_followed_and_the_history_keeps_both_sides() {
    for (machine, _place) in machines() {
        install_s1(&machine).await;
        machine.put("replaced.txt", "by another program").await;
        machine.put("new.csv", "new upload").await;
        machine.store.delete(&key("vanished.txt")).await.unwrap();
        let mirror = machine.open().await;
        let named = |paths: &[RelativePath]| -> Vec<String> {
            paths.iter().map(ToString::to_string).collect()
        };
        assert_eq!(named(&mirror.opened().restored), ["new.csv", "replaced.txt"]);
        assert_eq!(named(&mirror.opened().removed), ["vanished.txt"]);
        assert_eq!(mirror.opened().conflicts, []);
        let mut files = files();
        files.insert("replaced.txt".to_owned(), "by another program".to_owned());
        files.insert("new.csv".to_owned(), "new upload".to_owned());
        files.remove("vanished.txt");
        check(&machine, mirror, &files).await;

        let mirror = machine.open().await;
        let paths = ["dropped.csv", "gone.txt", "vanished.txt"];
        let paths = paths.map(|path| RelativePath::parse(path).unwrap()).to_vec();
        mirror.undelete(Undelete::Paths(paths)).await.unwrap();
        for (path, content) in
            [("dropped.csv", "dropped\n"), ("gone.txt", "gone\n"), ("vanished.txt", "vanished\n")]
        {
            assert_eq!(machine.files()[path], content);
        }
        let path = RelativePath::parse("replaced.txt").unwrap();
        let history = mirror.history(Some(&path)).await.unwrap();
        mirror.restore_version(&path, history.last().unwrap().number).await.unwrap();
        assert_eq!(machine.files()["replaced.txt"], "replaced\n");
    }
}

#[tokio::test]
async fn a_file_that_both_sides_changed_keeps_both_versions() {
    for (machine, _place) in machines() {
        install_s1(&machine).await;
        machine.put("changed.txt", "by another program").await;
        let mirror = machine.open().await;
        let conflicts = &mirror.opened().conflicts;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert_eq!(conflicts[0].path.as_str(), "changed.txt");
        let kept_as = conflicts[0].kept_as.to_string();
        let mut files = files();
        files.insert("changed.txt".to_owned(), "by another program".to_owned());
        files.insert(kept_as, "new\n".to_owned());
        check(&machine, mirror, &files).await;
    }
}

#[tokio::test]
async fn an_upload_without_an_answer_is_no_conflict_and_does_not_return_after_its_removal() {
    for (machine, _place) in machines() {
        install_s1(&machine).await;
        machine.put("changed.txt", "new\n").await;
        machine.put("fresh.txt", "fresh\n").await;
        machine.remove("fresh.txt");
        let mirror = machine.open().await;
        assert_eq!(mirror.opened().conflicts, []);
        assert_eq!(mirror.opened().restored, []);
        let mut files = files();
        files.remove("fresh.txt");
        check(&machine, mirror, &files).await;
    }
}

#[tokio::test]
async fn a_status_before_the_migration_names_the_pending_changes() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    let status = Mirror::builder(machine.dir(), Arc::clone(&machine.store), crate::machine::keys())
        .state_dir(machine.state())
        .inspect()
        .unwrap();
    let mut pending: Vec<&str> =
        status.pending.iter().map(|pending| pending.path.as_str()).collect();
    pending.sort_unstable();
    assert_eq!(pending, ["changed.txt", "fresh.txt", "gone.txt"]);
    assert!(has_index(&machine));
}

#[tokio::test]
async fn a_closed_session_is_restored_without_the_files_that_were_removed() {
    for (machine, _place) in machines() {
        for (path, content) in [
            ("drop.csv", "drop\n"),
            ("kept.md", "kept\n"),
            ("own.txt", "own\n"),
            ("up.csv", "up\n"),
        ] {
            machine.put(path, content).await;
        }
        install(&machine, CLOSED, Directory::Other).await;
        let mirror = machine.open().await;
        let files = expected(&[("kept.md", "kept\n"), ("own.txt", "own\n"), ("up.csv", "up\n")]);
        check(&machine, mirror, &files).await;
        let mirror = machine.open().await;
        let path = RelativePath::parse("drop.csv").unwrap();
        mirror.undelete(Undelete::Paths(vec![path])).await.unwrap();
        assert_eq!(machine.files()["drop.csv"], "drop\n");
    }
}

#[tokio::test]
async fn a_directory_that_never_had_the_files_gets_them_also_without_a_projection() {
    for has_projection in [true, false] {
        let machine = Machine::in_memory();
        for (path, content) in [
            ("drop.csv", "drop\n"),
            ("kept.md", "kept\n"),
            ("own.txt", "own\n"),
            ("up.csv", "up\n"),
        ] {
            machine.put(path, content).await;
        }
        std::fs::create_dir(machine.dir()).unwrap();
        install(&machine, RECREATED, Directory::Same).await;
        let mirror = machine
            .open_with(|mirror| if has_projection { mirror } else { mirror.without_projection() })
            .await;
        let files = expected(&[("kept.md", "kept\n"), ("own.txt", "own\n"), ("up.csv", "up\n")]);
        assert_eq!(machine.files(), files);
        drop(mirror);
        check(&machine, machine.open().await, &files).await;
    }
}

#[tokio::test]
async fn files_missing_in_another_directory_were_not_removed() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    install(&machine, OPEN, Directory::Other).await;
    let mirror = machine.open().await;
    let mut files = files();
    files.insert("gone.txt".to_owned(), "gone\n".to_owned());
    check(&machine, mirror, &files).await;
}

#[tokio::test]
async fn a_session_that_another_machine_has_migrated_is_followed() {
    for (machine, _place) in machines() {
        install_s1(&machine).await;
        let other = Machine::new(Arc::clone(&machine.store));
        let mirror = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
        other.write("kept.md", "changed by the other machine");
        other.write("gone.txt", "changed by the other machine");
        other.remove("run.sh");
        other.remove("data/a.csv");
        mirror.sync().await.unwrap();
        drop(mirror);
        // The agent here changes a file that the other machine has removed.
        machine.write("data/a.csv", "changed here");
        let mirror = machine.open().await;
        let conflicts = &mirror.opened().conflicts;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert_eq!(conflicts[0].path.as_str(), "data/a.csv");
        let mut files = files();
        for path in ["kept.md", "gone.txt"] {
            files.insert(path.to_owned(), "changed by the other machine".to_owned());
        }
        files.remove("run.sh");
        files.remove("data/a.csv");
        files.insert(conflicts[0].kept_as.to_string(), "changed here".to_owned());
        check(&machine, mirror, &files).await;
    }
}

#[tokio::test]
async fn a_session_that_another_machine_has_deleted_is_not_filled_again() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    let other = Machine::new(Arc::clone(&machine.store));
    other.open().await.erase().await.unwrap();
    let error = machine.try_open_with(|mirror| mirror).await.unwrap_err();
    assert!(matches!(error, SyncError::Erased), "{error:?}");
    assert!(machine.objects().await.is_empty() && has_index(&machine));
}

#[tokio::test]
async fn an_empty_store_is_filled_again() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    for path in machine.objects().await.keys() {
        machine.store.delete(&key(path)).await.unwrap();
    }
    let mirror = machine.open().await;
    assert_eq!(mirror.opened().removed, []);
    check(&machine, mirror, &files()).await;
}

#[tokio::test]
async fn implausibly_many_removals_are_undone_except_those_that_version_0_1_tried() {
    let machine = Machine::in_memory();
    let paths: Vec<String> = (0..120).map(|number| format!("f{number:03}")).collect();
    for (number, path) in paths.iter().enumerate() {
        machine.put(path, "x").await;
        if number >= 70 {
            machine.write(path, "x");
        }
    }
    let index = index_of(paths.iter().map(|path| (path.as_str(), "x")));
    let index = index + &failed(&paths[0]);
    install(&machine, &index, Directory::Same).await;
    let mirror = machine.open().await;
    let files: BTreeMap<String, String> =
        paths[1..].iter().map(|path| (path.clone(), "x".to_owned())).collect();
    check(&machine, mirror, &files).await;
}

#[tokio::test]
async fn a_damaged_end_of_the_index_costs_a_comparison_and_no_file() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    let path = machine.state().join("index.log");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"0123456789abcdef {\"op\":\"stor"].concat()).unwrap();
    check(&machine, machine.open().await, &files()).await;
}

/// Opens until the store no longer fails, and returns the mirror.
async fn open_in_the_end(machine: &Machine, store: &FailingStore) -> Mirror {
    let first = machine.try_open_with(|mirror| mirror).await;
    store.recover();
    match first {
        Ok(mirror) => mirror,
        Err(_) => machine.open().await,
    }
}

#[tokio::test]
async fn a_migration_that_fails_at_any_request_is_repeated() {
    for failure in [Failure::Rejected, Failure::ResponseLost] {
        let mut requests = 1;
        let mut at = 0;
        while at < requests {
            let store = FailingStore::new();
            let machine = Machine::new(store.clone());
            install_s1(&machine).await;
            store.set_failure(failure);
            store.fail(Calls::All, at, 1);
            let mirror = open_in_the_end(&machine, &store).await;
            requests = requests.max(store.count(Calls::All).min(200));
            mirror.refresh().await.unwrap();
            assert_eq!(mirror.opened().conflicts, [], "{failure:?} {at}");
            check(&machine, mirror, &files()).await;
            at += 1;
        }
        assert!(requests > 30, "{requests}");
    }
}

#[tokio::test]
async fn a_migration_of_many_files_continues_where_it_was_interrupted() {
    let paths: Vec<String> = (0..300).map(|number| format!("f{number:03}")).collect();
    for at in (0..1_200).step_by(171) {
        let store = FailingStore::new();
        let machine = Machine::new(store.clone());
        for path in &paths {
            machine.put(path, path).await;
            machine.write(path, path);
        }
        machine.remove("f001");
        machine.write("f002", "changed");
        let index = index_of(paths.iter().map(|path| (path.as_str(), path.as_str())));
        install(&machine, &index, Directory::Same).await;
        store.fail(Calls::All, at, usize::MAX);
        let mirror = open_in_the_end(&machine, &store).await;
        let mut files: BTreeMap<String, String> =
            paths.iter().map(|path| (path.clone(), path.clone())).collect();
        files.remove("f001");
        files.insert("f002".to_owned(), "changed".to_owned());
        mirror.refresh().await.unwrap();
        check(&machine, mirror, &files).await;
    }
}

#[tokio::test]
async fn an_index_that_outlived_its_migration_changes_nothing() {
    let machine = Machine::in_memory();
    install_s1(&machine).await;
    let index = std::fs::read(machine.state().join("index.log")).unwrap();
    let mirror = machine.open().await;
    machine.remove("kept.md");
    machine.write("gone.txt", "again");
    mirror.sync().await.unwrap();
    drop(mirror);
    std::fs::write(machine.state().join("index.log"), index).unwrap();
    let mut files = files();
    files.remove("kept.md");
    files.insert("gone.txt".to_owned(), "again".to_owned());
    check(&machine, machine.open().await, &files).await;
}
