//! Calls that are dropped at every await point.

use std::future::Future;
use std::io::{Cursor, Write};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillError, SkillId, SkillRef, Tag, Version};
use testkit::LatencyStore;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::fixture::{Fixture, SKILL_FILE};
use crate::signer::Signer;

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
        match fixture.skills.delete(&greet(), version(2)).await {
            Ok(()) => assert!(deleted.is_none(), "it was deleted before"),
            Err(error) => assert!(matches!(error, SkillError::Deleted { .. }), "{error}"),
        }
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
        let tags = fixture.skills.tags(&greet()).await.unwrap();
        let versions: Vec<_> = tags.iter().map(|found| (&found.tag, found.version)).collect();
        assert_eq!(versions, [(&tag, version(1))]);
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
        let _ = poll_times(skills.versions(&greet()), polls).await;
        let _ = poll_times(skills.ids(), polls).await;
        let _ = poll_times(skills.tags(&greet()), polls).await;
        let _ = poll_times(skills.find(&skill), polls).await;
        let _ = poll_times(skills.manifest(&skill), polls).await;
        assert_eq!(skills.versions(&greet()).await.unwrap(), [version(1), version(2)]);
        assert_eq!(skills.ids().await.unwrap(), [greet()]);
        assert_eq!(skills.tags(&greet()).await.unwrap(), []);
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

#[tokio::test]
async fn a_dropped_publication_of_an_archive_is_complete_or_absent() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in [("SKILL.md", SKILL_FILE), ("f", "1")] {
        writer.start_file(path, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        let archive = fixture.root.path().join("skill.zip");
        std::fs::write(&archive, &bytes).unwrap();
        let options = PublishOptions::default();
        let published = poll_times(fixture.skills.publish_zip(&archive, &options), polls).await;
        let versions = fixture.skills.versions(&greet()).await.unwrap();
        assert!(published.is_none() || versions == [version(1)], "after {polls} polls");
        assert_eq!(fixture.install("greet@1").await.is_ok(), !versions.is_empty());
        let next = fixture.skills.publish_zip(&archive, &options).await.unwrap().version;
        fixture.install(&format!("greet@{next}")).await.unwrap();
        assert_eq!(fixture.read("greet/f"), "1", "after {polls} polls");
        if published.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_installation_in_a_directory_leaves_a_whole_version() {
    let fixture = fixture();
    fixture.publish(&[("f", "1"), ("g", "1")]).await;
    fixture.publish(&[("f", "2"), ("g", "2")]).await;
    let dir = fixture.root.path().join("into");
    let skills = &fixture.skills;
    let (old, new): (SkillRef, SkillRef) = ("greet@1".parse().unwrap(), "greet@2".parse().unwrap());
    let locked = skills.lock(&new).await.unwrap();
    let content = || {
        let read = |name| std::fs::read_to_string(dir.join("skills/greet").join(name)).unwrap();
        let (f, g) = (read("f"), read("g"));
        assert_eq!(f, g);
        f
    };
    let mut ends = [false; 2];
    for polls in 1..MAX_POLLS {
        skills.install_into(&old, &dir).await.unwrap();
        assert_eq!(content(), "1", "after {polls} polls");
        ends[0] |= poll_times(skills.install_into(&new, &dir), polls).await.is_some();
        skills.install_into(&new, &dir).await.unwrap();
        assert_eq!(content(), "2", "after {polls} polls");
        skills.install_into(&old, &dir).await.unwrap();
        ends[1] |= poll_times(skills.install_locked(&locked, &dir), polls).await.is_some();
        skills.install_locked(&locked, &dir).await.unwrap();
        assert_eq!(content(), "2", "after {polls} polls");
        assert_eq!(std::fs::read_dir(dir.join("skills")).unwrap().count(), 1);
        if ends == [true; 2] {
            return;
        }
    }
    panic!("the calls take more polls");
}

#[tokio::test]
async fn a_dropped_signature_is_stored_or_not() {
    let signer = Signer::new(1);
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        fixture.publish(&[("f", "1")]).await;
        let skill: SkillRef = "greet@1".parse().unwrap();
        let text = fixture.skills.manifest(&skill).await.unwrap().to_json();
        let signature = signer.sign(&text);
        let trusting = fixture.skills.clone().with_key(signer.key());
        let signed = poll_times(trusting.sign(&greet(), version(1), &signature), polls).await;
        match trusting.lock(&skill).await {
            Ok(_) => {}
            Err(SkillError::Unsigned { .. }) if signed.is_none() => {}
            Err(error) => panic!("after {polls} polls: {error}"),
        }
        trusting.sign(&greet(), version(1), &signature).await.unwrap();
        trusting.lock(&skill).await.unwrap();
        if signed.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}

#[tokio::test]
async fn a_dropped_removal_of_a_tag_is_done_or_not() {
    let tag = Tag::parse("stable").unwrap();
    for polls in 1..MAX_POLLS {
        let fixture = fixture();
        fixture.publish(&[("f", "1")]).await;
        fixture.skills.tag(&greet(), &tag, version(1)).await.unwrap();
        let removed = poll_times(fixture.skills.untag(&greet(), &tag), polls).await;
        let is_there = !fixture.skills.tags(&greet()).await.unwrap().is_empty();
        assert!(!is_there || removed.is_none(), "after {polls} polls");
        let again = fixture.skills.untag(&greet(), &tag).await;
        assert_eq!(again.is_ok(), is_there, "after {polls} polls");
        assert_eq!(fixture.skills.tags(&greet()).await.unwrap(), []);
        fixture.skills.tag(&greet(), &tag, version(1)).await.unwrap();
        if removed.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}
