//! Fetching of single keys that a caller passes.

use std::sync::Arc;

use artifact_sync::{SyncError, open_directory};

use crate::machine::{Machine, PREFIX, expected, key};

#[tokio::test]
async fn a_key_of_this_session_is_fetched() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.put("d/é #%20.txt", "uploaded").await;
    let pulled = mirror.pull_key(key("d/é #%20.txt").as_ref()).await.unwrap();
    assert_eq!(pulled.unwrap().as_str(), "d/é #%20.txt");
    assert_eq!(machine.files(), expected(&[("d/é #%20.txt", "uploaded")]));
    assert_eq!(
        mirror.pull_key(&format!("{PREFIX}/dir/")).await.unwrap(),
        None,
        "a directory marker"
    );
    assert!(mirror.sync().await.unwrap().changed.is_empty());
}

#[tokio::test]
async fn foreign_and_escaping_keys_are_rejected_with_the_reason() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    let pull_error = async |key: &str| mirror.pull_key(key).await.unwrap_err();
    for foreign in [
        "general/user_7/sessions/s12/f",
        "general/user_8/sessions/s1/f",
        "f",
        "",
        PREFIX,
        &format!("/{PREFIX}/f"),
    ] {
        assert!(matches!(pull_error(foreign).await, SyncError::ForeignKey { .. }), "{foreign}");
    }
    for hostile in ["../s2/f", "a/../../f", "./f", "a//b", "tab\there", "nul\0"] {
        let key = format!("{PREFIX}/{hostile}");
        assert!(matches!(pull_error(&key).await, SyncError::UnsafeKey { .. }), "{hostile}");
    }
    assert!(matches!(
        pull_error(&format!("{PREFIX}/skills/s/SKILL.md")).await,
        SyncError::NotMirrored { .. }
    ));
    assert!(matches!(pull_error(&format!("{PREFIX}/absent")).await, SyncError::NoObject { .. }));
    assert!(machine.files().is_empty());
}

#[tokio::test]
async fn a_change_that_is_not_stored_is_not_overwritten() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("f", "mine");
    machine.put("f", "theirs").await;
    assert!(matches!(
        mirror.pull_key(key("f").as_ref()).await.unwrap_err(),
        SyncError::LocalChange { .. }
    ));
    assert_eq!(machine.files(), expected(&[("f", "mine")]));
}

#[tokio::test]
async fn nothing_is_fetched_through_a_symlink_or_a_file_and_the_error_names_it() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    std::os::unix::fs::symlink(machine.dir(), machine.dir().join("link")).unwrap();
    machine.write("file", "mine");
    for (at, by, found) in [("link/sub/f", "link", "symlink"), ("file/f", "file", "file")] {
        machine.put(at, "theirs").await;
        let error = mirror.pull_key(key(at).as_ref()).await.unwrap_err();
        let expected =
            format!("the {found} {by} is in the place of {at} now; move or remove it first");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn one_invalid_key_does_not_end_a_listing() {
    let root = tempfile::tempdir().unwrap();
    let store = open_directory(root.path()).unwrap();
    let machine = Machine::new(Arc::clone(&store.store));
    machine.put("fine", "1").await;
    machine.put("odd/fine", "2").await;
    std::fs::write(root.path().join(PREFIX).join("odd/tab\there"), "x").unwrap();
    let mirror = machine.open().await;
    let report = mirror.opened().clone();
    assert!(machine.files().contains_key("fine"));
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(report.problems()[0].contains("odd"));
}
