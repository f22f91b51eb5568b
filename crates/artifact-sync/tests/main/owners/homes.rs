//! The list of homes that own sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use artifact_sync::owners;
use object_store::path::Path as Key;
use testkit::FailingStore;

use super::{GENERAL, Home};

#[tokio::test]
async fn homes_that_own_sessions_are_listed_until_they_end() {
    let store = FailingStore::new();
    let a = Home::with(&store, "a", crate::stopped::short());
    let mirror = a.own().await;
    let listed = async || owners(&*store, &Key::from(GENERAL)).await.unwrap();
    let mut beats = BTreeSet::new();
    while beats.len() < 3 {
        for owner in listed().await {
            assert_eq!(owner.home, a.heartbeat.home().as_str());
            assert_eq!(owner.url.as_deref(), Some("http://a"));
            beats.insert(owner.beat);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(a.heartbeat.acknowledged().is_some());
    assert!(mirror.release_if_idle().await.unwrap());
    drop(mirror);
    drop(a.heartbeat);
    assert!(listed().await.is_empty());
}
