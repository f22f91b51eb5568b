//! Calls that are dropped at every await point.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillId, SkillRef, Tag, Version};
use testkit::LatencyStore;

use crate::fixture::Fixture;

/// More polls than any call of these tests takes.
const MAX_POLLS: usize = 400;

/// Polls a future at most this many times and drops it. Returns its output if it was ready.
pub(crate) async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut count = 0;
    std::future::poll_fn(|context| {
        count += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if count == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn fixture() -> Fixture {
    Fixture::new(LatencyStore::new(Duration::ZERO))
}

fn greet() -> SkillId {
    SkillId::parse("greet").unwrap()
}

fn version(number: u32) -> Version {
    Version::new(number).unwrap()
}

#[tokio::test]
async fn a_dropped_publication_is_complete_or_absent() {
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        let source = fixture.source(&[("f", "1")]);
        let options = PublishOptions::default();
        let published = poll_times(fixture.skills.publish(&source, &options), polls).await;
        let versions = fixture.skills.versions(&greet()).await.unwrap();
        let listed = fixture.skills.list().await.unwrap();
        assert_eq!(versions.len(), listed.len(), "after {polls} polls");
        if published.is_some() || !versions.is_empty() {
            fixture.install("greet@1").await.unwrap();
        } else {
            fixture.install("greet@1").await.unwrap_err();
        }
        let next = fixture.publish(&[("f", "2")]).await;
        fixture.install(&format!("greet@{next}")).await.unwrap();
        let listed = fixture.skills.list().await.unwrap();
        assert_eq!((listed.len(), listed[0].latest.get()), (1, next));
        if published.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}

#[tokio::test]
async fn a_dropped_deletion_is_done_or_not_and_the_next_one_ends_it() {
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        fixture.publish(&[("f", "1")]).await;
        fixture.publish(&[("f", "2")]).await;
        let deleted = poll_times(fixture.skills.delete(&greet(), version(2)), polls).await;
        let latest = fixture.skills.latest(&greet()).await.unwrap().unwrap();
        let listed = fixture.skills.list().await.unwrap();
        assert_eq!(listed[0].latest, latest, "after {polls} polls");
        let installed = fixture.install("greet@2").await;
        assert_eq!(installed.is_ok(), latest == version(2), "after {polls} polls");
        fixture.skills.delete(&greet(), version(2)).await.unwrap();
        assert_eq!(fixture.skills.list().await.unwrap()[0].latest, version(1));
        let left = Key::from("general/skills/greet/v2/f");
        assert!(fixture.store.head(&left).await.is_err());
        if deleted.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}

#[tokio::test]
async fn a_dropped_tag_names_the_old_version_or_the_new_one() {
    let tag = Tag::parse("stable").unwrap();
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        fixture.publish(&[("f", "1")]).await;
        fixture.publish(&[("f", "2")]).await;
        fixture.skills.tag(&greet(), &tag, version(1)).await.unwrap();
        let moved = poll_times(fixture.skills.tag(&greet(), &tag, version(2)), polls).await;
        let found = fixture.skills.find(&"greet@stable".parse().unwrap()).await.unwrap();
        assert!(found == version(1) && moved.is_none() || found == version(2));
        fixture.skills.tag(&greet(), &tag, version(1)).await.unwrap();
        assert_eq!(fixture.skills.tags(&greet()).await.unwrap(), [(tag.clone(), version(1))]);
        if moved.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}

#[tokio::test]
async fn a_dropped_call_that_only_reads_changes_nothing() {
    let fixture = fixture();
    fixture.publish(&[("f", "1")]).await;
    fixture.publish(&[("f", "2")]).await;
    let skill: SkillRef = "greet@2".parse().unwrap();
    let path = sandbox_core::RelativePath::parse("f").unwrap();
    let skills = &fixture.skills;
    for polls in 1..40 {
        let _ = poll_times(skills.read(&skill, &path), polls).await;
        let _ = poll_times(skills.diff(&greet(), version(1), version(2)), polls).await;
        let _ = poll_times(skills.list(), polls).await;
        let _ = poll_times(skills.latest(&greet()), polls).await;
        let _ = poll_times(skills.lock(&skill), polls).await;
        assert_eq!(skills.read(&skill, &path).await.unwrap(), b"2");
    }
}

#[tokio::test]
async fn a_dropped_rollback_is_complete_or_absent() {
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        fixture.publish(&[("f", "1")]).await;
        fixture.publish(&[("f", "2")]).await;
        let done = poll_times(fixture.skills.rollback(&greet(), version(1)), polls).await;
        let latest = fixture.skills.latest(&greet()).await.unwrap().unwrap();
        fixture.install(&format!("greet@{latest}")).await.unwrap();
        let expected = if latest == version(2) { "2" } else { "1" };
        assert_eq!(fixture.read("greet/f"), expected, "after {polls} polls");
        if done.is_some() {
            assert_eq!(latest, version(3));
            return;
        }
    }
    panic!("the call takes more polls");
}
