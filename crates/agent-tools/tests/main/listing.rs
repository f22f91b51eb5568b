//! The rate at which openings look for changes by other programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_tools::{Home, RemovalMode, Sessions, Storage};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::cli::Cli;
use crate::session::spec;

#[tokio::test]
async fn a_session_is_listed_at_each_opening_unless_a_listing_is_recent_enough() {
    for age in [None, Some(Duration::from_secs(60 * 60))] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        let builder = Sessions::builder(Home::new(dir.path().canonicalize().unwrap()))
            .storage(Storage::new(store.clone(), "bucket"));
        let sessions = match age {
            Some(age) => builder.listing_age(age).build(),
            None => builder.build(),
        };
        let session = sessions.open(spec("s1")).await.unwrap();
        session.bash("echo 1 > mine").await.unwrap();
        sessions.release(session.id()).await;
        store.put(&Key::from("user_7/sessions/s1/theirs"), "2".into()).await.unwrap();
        let session = sessions.open(spec("s1")).await.unwrap();
        let listed = session.bash("ls").await.unwrap().stdout;
        assert_eq!(listed.contains("theirs"), age.is_none(), "{listed}");
        session.refresh(RemovalMode::HoldBackMany).await.unwrap();
        assert!(session.bash("ls").await.unwrap().stdout.contains("theirs"));
    }
}

#[test]
fn commands_look_for_external_changes_every_30_seconds_and_sync_always_does() {
    let cli = Cli::new();
    let began = Instant::now();
    cli.run(&["bash", "echo 1 > mine"]).ok();
    let projection = cli.home().join("store/user_local/sessions/default");
    std::fs::write(projection.join("theirs"), "2").unwrap();
    let listed = cli.run(&["bash", "ls"]).ok().stdout;
    // A slow machine lists again in time, and proves nothing.
    if began.elapsed() < Duration::from_secs(25) {
        assert_eq!(listed, "mine\n");
    }
    cli.run(&["session", "sync", "default"]).ok();
    assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "mine\ntheirs\n");
}
