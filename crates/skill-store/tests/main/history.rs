//! Reading, comparing, rolling back, deleting, tagging, locking and signing.

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use skill_store::{ErrorKind, FileChange, SkillError, SkillId, SkillLock, SkillRef, Tag, Version};

use crate::fixture::Fixture;
use crate::signer::Signer;

fn greet() -> SkillId {
    SkillId::parse("greet").unwrap()
}

fn version(number: u32) -> Version {
    Version::new(number).unwrap()
}

fn skill(text: &str) -> SkillRef {
    text.parse().unwrap()
}

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

#[tokio::test]
async fn versions_are_compared_and_files_are_read_without_an_installation() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("same", "x"), ("changed", "1"), ("removed", "1")]).await;
    fixture.publish(&[("same", "x"), ("changed", "2"), ("d/added", "1")]).await;
    let found = fixture.skills.diff(&greet(), version(1), version(2)).await.unwrap();
    let found: Vec<_> = found.iter().map(|found| (found.path.as_str(), found.change)).collect();
    assert_eq!(
        found,
        [
            ("changed", FileChange::Content),
            ("d/added", FileChange::Added),
            ("removed", FileChange::Removed)
        ]
    );
    let read = async |name: &str, file| fixture.skills.read(&skill(name), &path(file)).await;
    assert_eq!(read("greet@1", "changed").await.unwrap(), b"1");
    assert_eq!(read("greet@latest", "d/added").await.unwrap(), b"1");
    assert!(matches!(read("greet@1", "d/added").await, Err(SkillError::NoFile { .. })));
    fixture.store.put(&Key::from("general/skills/greet/v1/changed"), "9".into()).await.unwrap();
    assert!(matches!(read("greet@1", "changed").await, Err(SkillError::Mismatch { .. })));
    assert!(fixture.names("").is_empty());
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_the_old_content() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1"), ("run.sh", "#!/bin/sh")]).await;
    fixture.publish(&[("f", "2")]).await;
    let report = fixture.skills.rollback(&greet(), version(1)).await.unwrap();
    assert_eq!((report.version.get(), report.files), (3, 3));
    assert!(fixture.skills.diff(&greet(), version(1), version(3)).await.unwrap().is_empty());
    fixture.install("greet@latest").await.unwrap();
    assert_eq!(fixture.read("greet/f"), "1");
}

#[tokio::test]
async fn a_deleted_version_is_gone_and_its_number_is_never_used_again() {
    let fixture = Fixture::in_memory();
    for content in ["1", "2"] {
        fixture.publish(&[("f", content)]).await;
    }
    fixture.install("greet@2").await.unwrap();
    fixture.skills.delete(&greet(), version(2)).await.unwrap();
    assert_eq!(fixture.skills.versions(&greet()).await.unwrap(), [version(1)]);
    assert_eq!(fixture.skills.list().await.unwrap()[0].latest, version(1));
    let error = fixture.install("greet@2").await.unwrap_err();
    assert!(matches!(error, SkillError::Deleted { .. }), "{error}");
    assert_eq!(error.to_string(), "version 2 of the skill greet was deleted; the store has 1");
    assert_eq!(fixture.read("greet/f"), "2", "a session keeps what it has installed");
    assert_eq!(fixture.publish(&[("f", "3")]).await, 3);
    for number in [1, 3] {
        fixture.skills.delete(&greet(), version(number)).await.unwrap();
    }
    assert!(fixture.skills.list().await.unwrap().is_empty());
    assert_eq!(fixture.skills.latest(&greet()).await.unwrap(), None);
    let absent = fixture.skills.delete(&greet(), version(9)).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let again = fixture.skills.delete(&greet(), version(2)).await.unwrap_err();
    assert!(matches!(again, SkillError::Deleted { .. }), "{again}");
}

async fn tags(fixture: &Fixture) -> Vec<(String, Version, bool)> {
    let tags = fixture.skills.tags(&greet()).await.unwrap().into_iter();
    tags.map(|found| (found.tag.to_string(), found.version, found.is_deleted)).collect()
}

#[tokio::test]
async fn a_tag_of_a_deleted_version_is_marked_in_the_list() {
    let fixture = Fixture::in_memory();
    for content in ["1", "2"] {
        fixture.publish(&[("f", content)]).await;
    }
    let tag = Tag::parse("stable").unwrap();
    fixture.skills.tag(&greet(), &tag, version(1)).await.unwrap();
    fixture.skills.delete(&greet(), version(1)).await.unwrap();
    assert_eq!(tags(&fixture).await, [("stable".to_owned(), version(1), true)]);
    let error = fixture.install("greet@stable").await.unwrap_err();
    assert_eq!(error.to_string(), "version 1 of the skill greet was deleted; the store has 2");
    fixture.skills.untag(&greet(), &tag).await.unwrap();
}

#[tokio::test]
async fn a_tag_names_a_version_until_it_moves() {
    let fixture = Fixture::in_memory();
    for content in ["1", "2"] {
        fixture.publish(&[("f", content)]).await;
    }
    let tag = Tag::parse("stable").unwrap();
    for number in [2, 1, 2] {
        fixture.skills.tag(&greet(), &tag, version(number)).await.unwrap();
        fixture.install("greet@stable").await.unwrap();
        assert_eq!(fixture.read("greet/f"), number.to_string());
    }
    assert!(fixture.skills.tag(&greet(), &tag, version(7)).await.is_err());
    assert_eq!(tags(&fixture).await, [("stable".to_owned(), version(2), false)]);
    let error = fixture.install("greet@beta").await.unwrap_err();
    assert_eq!(error.to_string(), "the skill greet has no tag beta; it has stable");
    let beta = Tag::parse("beta").unwrap();
    let error = fixture.skills.untag(&greet(), &beta).await.unwrap_err();
    assert_eq!(error.to_string(), "the skill greet has no tag beta; it has stable");
    fixture.skills.untag(&greet(), &tag).await.unwrap();
    let error = fixture.skills.untag(&greet(), &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(fixture.install("greet@stable").await.is_err());
    assert!(fixture.skills.tags(&greet()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lockfile_pins_the_content_of_every_kind_of_version() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    let foreign = Key::from("general/skills/foreign/v1/f");
    fixture.store.put(&foreign, "x".into()).await.unwrap();
    let mut lock = SkillLock::default();
    for text in ["greet@latest=hello", "foreign@1"] {
        lock.insert(fixture.skills.lock(&skill(text)).await.unwrap());
    }
    let lock = SkillLock::parse(&lock.to_json()).unwrap();
    let into = fixture.root.path().join("into");
    for locked in lock.skills() {
        fixture.skills.install_locked(locked, &into).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(into.join("skills/hello/f")).unwrap(), "1");
    fixture.store.put(&foreign, "changed".into()).await.unwrap();
    let error = fixture.skills.install_locked(&lock.skills()[0], &into).await.unwrap_err();
    assert!(matches!(error, SkillError::DigestChanged { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(into.join("skills/foreign/f")).unwrap(), "x");
}

#[tokio::test]
async fn with_a_key_only_signed_versions_are_installed() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    fixture.publish(&[("f", "2")]).await;
    let (signer, other) = (Signer::new(1), Signer::new(2));
    let trusting = fixture.skills.clone().with_key(signer.key());
    let state = fixture.root.path().join("state");
    let install = async |name| trusting.install(&skill(name), &fixture.session, &state).await;
    assert!(matches!(install("greet@1").await, Err(SkillError::Unsigned { .. })));
    let text = fixture.skills.manifest(&skill("greet@1")).await.unwrap().to_json();
    // A store without a key accepts any signature but replaces none, and a store with a key
    // accepts only its own.
    fixture.skills.sign(&greet(), version(1), &other.sign(&text)).await.unwrap();
    assert!(matches!(install("greet@1").await, Err(SkillError::Signature { .. })));
    let refused = trusting.sign(&greet(), version(1), &other.sign(&text)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unverified);
    let locked = trusting.lock(&skill("greet@1")).await;
    assert!(matches!(locked, Err(SkillError::Signature { .. })));
    assert!(matches!(trusting.lock(&skill("greet@2")).await, Err(SkillError::Unsigned { .. })));
    trusting.sign(&greet(), version(1), &signer.sign(&text)).await.unwrap();
    assert_eq!(trusting.lock(&skill("greet@1")).await.unwrap().version, version(1));
    assert!(!install("greet@1").await.unwrap().was_installed);
    assert!(install("greet@1").await.unwrap().was_installed);
    // The signature of one version does not fit another.
    let copied = signer.sign(&text);
    fixture.skills.sign(&greet(), version(2), &copied).await.unwrap();
    assert!(matches!(install("greet@2").await, Err(SkillError::Signature { .. })));
    let sign = async |text: &str| fixture.skills.sign(&greet(), version(1), text).await;
    assert!(matches!(sign("no signature").await, Err(SkillError::MalformedSignature)));
    assert!(matches!(sign(&other.sign(&text)).await, Err(SkillError::Signed { .. })));
    sign(&signer.sign(&text)).await.unwrap();
    trusting.lock(&skill("greet@1")).await.unwrap();
}
