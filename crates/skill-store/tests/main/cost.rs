//! Requests that calls send.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path as Key;
use sandbox_core::SessionDir;
use skill_store::{PublishOptions, SkillCache, SkillId, SkillStore};
use testkit::LatencyStore;

use crate::fixture::Fixture;

fn counted() -> (Arc<LatencyStore>, Fixture) {
    let store = LatencyStore::new(Duration::ZERO);
    let fixture = Fixture::new(store.clone());
    (store, fixture)
}

#[tokio::test]
async fn the_latest_of_many_versions_takes_two_requests() {
    let (store, fixture) = counted();
    for _ in 0..20 {
        fixture.publish(&[("f", "1")]).await;
    }
    store.take_requests();
    let latest = fixture.skills.latest(&SkillId::parse("greet").unwrap()).await.unwrap();
    assert_eq!((latest.unwrap().get(), store.take_requests().total), (20, 2));
}

#[tokio::test]
async fn a_listing_takes_one_request_for_each_thousand_ids_and_one_for_their_versions() {
    let (store, fixture) = counted();
    let source = fixture.source(&[]);
    for number in 0..1_000 {
        let id = SkillId::parse(&format!("s{number:04}")).unwrap();
        fixture.skills.publish(&source, &PublishOptions::default().id(id)).await.unwrap();
    }
    store.take_requests();
    assert_eq!(fixture.skills.ids().await.unwrap().len(), 1_000);
    assert_eq!(store.take_requests().total, 1);
    assert_eq!(fixture.skills.list().await.unwrap().len(), 1_000);
    let requests = store.take_requests();
    assert!(requests.total <= 3, "{requests:?}");
}

#[tokio::test]
async fn a_warm_installation_takes_one_request_in_any_session() {
    let (store, fixture) = counted();
    fixture.publish(&[("f", "1"), ("d/g", "2")]).await;
    let cache = SkillCache::new(fixture.root.path().join("cache"));
    let install = async |number: usize| {
        // Each session is one of another process, which has no memory of the others.
        let skills = SkillStore::new(fixture.store.clone(), Key::from("general"));
        let root = fixture.root.path().join(format!("session{number}"));
        let dir = Arc::new(SessionDir::create(&root.join("session")).unwrap());
        let skills = skills.with_cache(cache.clone());
        let (skill, state) = ("greet@1".parse().unwrap(), root.join("state"));
        let report = skills.install(&skill, &dir, &state);
        let report = report.await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("skills/greet/d/g")).unwrap(), "2");
        report.was_installed
    };
    assert!(!install(0).await);
    for (session, was_installed) in [(1, false), (2, false), (1, true), (0, true)] {
        store.take_requests();
        assert_eq!(install(session).await, was_installed);
        assert_eq!(store.take_requests().total, 1, "session {session}");
    }
}

#[tokio::test]
async fn a_cold_installation_waits_three_times_for_a_hundred_files() {
    let (store, fixture) = counted();
    let files: Vec<(String, String)> =
        (0..99).map(|number| (format!("f{number}"), number.to_string())).collect();
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    fixture.publish(&files).await;
    store.take_requests();
    fixture.install("greet@1").await.unwrap();
    let requests = store.take_requests();
    assert_eq!(requests.total, 1 + 1 + 100);
    assert_eq!(requests.sequential, 3, "a listing, the manifest, and all files at once");
}
