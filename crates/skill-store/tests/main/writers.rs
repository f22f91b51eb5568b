//! Versions of publishers before manifests, of killed publishers, and of other programs.

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillError, SkillId, Version};

use crate::fixture::{Fixture, SKILL_FILE};

async fn put(fixture: &Fixture, key: &str, content: &str) {
    let key = Key::parse(format!("general/skills/greet/{key}")).unwrap();
    fixture.store.put(&key, content.to_owned().into()).await.unwrap();
}

async fn versions(fixture: &Fixture) -> Vec<u32> {
    let versions = fixture.skills.versions(&SkillId::parse("greet").unwrap()).await.unwrap();
    versions.into_iter().map(|version| version.get()).collect()
}

#[tokio::test]
async fn versions_before_manifests_stay_complete_or_incomplete() {
    let fixture = Fixture::in_memory();
    // As a publisher before manifests stored them: an empty reservation, and SKILL.md last.
    for version in ["v1", "v2"] {
        put(&fixture, &format!(".versions/{version}"), "").await;
        put(&fixture, &format!("{version}/f"), version).await;
    }
    put(&fixture, "v1/SKILL.md", SKILL_FILE).await;
    assert_eq!(versions(&fixture).await, [1]);
    let report = fixture.install("greet@1").await.unwrap();
    assert!(report.warnings[0].contains("verified by version only"), "{report:?}");
    assert!(fixture.install("greet@1").await.unwrap().was_installed);
    let first = "greet@1".parse().unwrap();
    assert!(fixture.skills.manifest(&first).await.is_ok());
    let error = fixture.skills.stored_manifest(&first).await.unwrap_err();
    assert!(matches!(error, SkillError::NoManifest { .. }), "{error}");
    assert!(matches!(fixture.install("greet@2").await, Err(SkillError::Incomplete { .. })));
    assert_eq!(fixture.skills.list().await.unwrap()[0].latest.get(), 1);
    assert_eq!(fixture.publish(&[("f", "3")]).await, 3);
    assert_eq!(versions(&fixture).await, [1, 3]);
    assert_eq!(fixture.skills.list().await.unwrap()[0].latest.get(), 3);
}

#[tokio::test]
async fn a_version_without_its_manifest_is_not_installed_even_if_it_looks_complete() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    let records = Key::from("general/skills/greet/.versions");
    let listed = fixture.store.list_with_delimiter(Some(&records)).await.unwrap().objects;
    let manifest = listed.iter().find(|meta| meta.location.as_ref().ends_with(".json")).unwrap();
    let text = fixture.store.get(&manifest.location).await.unwrap().bytes().await.unwrap();
    fixture.store.delete(&manifest.location).await.unwrap();
    let error = fixture.install("greet@1").await.unwrap_err();
    assert!(matches!(error, SkillError::Incomplete { .. }), "{error}");
    // Two manifests contradict each other.
    fixture.store.put(&manifest.location, text.into()).await.unwrap();
    let other = manifest.location.as_ref().replace(".json", "");
    let other = format!("{}{}.json", &other[..other.len() - 64], "0".repeat(64));
    fixture.store.put(&Key::parse(other).unwrap(), "{}".into()).await.unwrap();
    let error = fixture.install("greet@1").await.unwrap_err();
    assert!(matches!(error, SkillError::AmbiguousManifest { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_that_was_changed_or_moved_is_not_used() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    fixture.publish(&[("f", "2")]).await;
    let records = Key::from("general/skills/greet/.versions");
    let listed = fixture.store.list_with_delimiter(Some(&records)).await.unwrap().objects;
    let manifest = |version: &str| {
        let mut objects = listed.iter().map(|meta| meta.location.clone());
        let name = |key: &Key| key.filename().unwrap().to_owned();
        objects.find(|key| name(key).starts_with(version) && name(key).ends_with("json")).unwrap()
    };
    let (first, second) = (manifest("v1."), manifest("v2."));
    // The manifest of version 1 under the number of version 2.
    let moved = first.as_ref().replace("/v1.", "/v2.");
    fixture.store.delete(&second).await.unwrap();
    fixture.store.copy(&first, &Key::parse(moved).unwrap()).await.unwrap();
    let error = fixture.install("greet@2").await.unwrap_err();
    assert!(matches!(error, SkillError::Manifest { .. }), "{error}");
    fixture.store.put(&first, "{}".into()).await.unwrap();
    let error = fixture.install("greet@1").await.unwrap_err();
    assert!(error.to_string().contains("differs from the digest in its name"), "{error}");
}

#[tokio::test]
async fn a_version_of_another_program_is_installed_from_the_cache_of_the_host() {
    let fixture = Fixture::in_memory();
    put(&fixture, "v1/SKILL.md", SKILL_FILE).await;
    put(&fixture, "v1/f", "1").await;
    let cache = skill_store::SkillCache::new(fixture.root.path().join("cache"));
    let skills = fixture.skills.clone().with_cache(cache);
    let skill = "greet@1".parse().unwrap();
    for session in ["a", "b"] {
        let root = fixture.root.path().join(session);
        let dir = sandbox_core::SessionDir::create(&root.join("session")).unwrap();
        let report = skills.install(&skill, &dir.into(), &root.join("state")).await.unwrap();
        assert_eq!(report.skill.description.as_deref(), Some("Says hello. Use it to greet."));
    }
    put(&fixture, "v1/f", "2").await;
    skills.install(&skill, &fixture.session, &fixture.root.path().join("state")).await.unwrap();
    assert_eq!(fixture.read("greet/f"), "2");
}

#[tokio::test]
async fn no_skill_is_a_git_repository() {
    let fixture = Fixture::in_memory();
    put(&fixture, "v1/SKILL.md", SKILL_FILE).await;
    for repository in ["v1/.git/", "v1/a/.GIT/", "v1/bare/", "v1/"] {
        for file in ["HEAD", "config", "objects/x", "refs/x"] {
            put(&fixture, &format!("{repository}{file}"), "1").await;
        }
    }
    let report = fixture.install("greet@1").await.unwrap();
    assert!(report.warnings.iter().any(|warning| warning.contains("Git repository")), "{report:?}");
    let installed = fixture.session.path().join("skills/greet");
    for absent in [".git", "a", "bare/HEAD", "HEAD"] {
        assert!(!installed.join(absent).exists(), "{absent}");
    }
    assert!(installed.join("bare/config").exists());
    // A new version with the old content has none either.
    let id = SkillId::parse("greet").unwrap();
    fixture.skills.rollback(&id, Version::new(1).unwrap()).await.unwrap();
    let latest = "greet@latest".parse().unwrap();
    let files = fixture.skills.manifest(&latest).await.unwrap().files;
    assert!(files.iter().all(|file| !file.path.as_str().contains("HEAD")), "{files:?}");
    let source = fixture.source(&[("a/HEAD", ""), ("a/objects/x", ""), ("a/refs/x", "")]);
    let published = fixture.skills.publish(&source, &PublishOptions::default()).await;
    assert!(published.unwrap_err().to_string().contains("Git repository"));
}
