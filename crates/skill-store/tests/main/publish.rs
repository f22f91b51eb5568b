//! Publication in a store.

use std::os::unix::fs::symlink;

use artifact_sync::open_directory;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillError, SkillId};

use testkit::{Calls, FailingStore};

use crate::fixture::Fixture;

#[tokio::test]
async fn versions_count_from_one_and_have_the_keys_of_the_layout() {
    let disk = tempfile::tempdir().unwrap();
    for fixture in [Fixture::in_memory(), Fixture::new(open_directory(disk.path()).unwrap().store)]
    {
        assert_eq!(fixture.publish(&[("scripts/a b.sh", "1")]).await, 1);
        assert_eq!(fixture.publish(&[("scripts/a b.sh", "2")]).await, 2);
        let key = Key::parse("general/skills/greet/v2/scripts/a b.sh").unwrap();
        assert_eq!(fixture.store.get(&key).await.unwrap().bytes().await.unwrap(), "2");
        let other = SkillId::parse("other").unwrap();
        let published = fixture
            .skills
            .publish(&fixture.source(&[]), &PublishOptions::default().id(other.clone()))
            .await
            .unwrap();
        assert_eq!((published.id, published.version.get(), published.files), (other.clone(), 1, 1));
        let listed: Vec<_> = fixture.skills.list().await.unwrap();
        let listed: Vec<_> =
            listed.iter().map(|skill| (skill.id.as_str(), skill.latest.get())).collect();
        assert_eq!(listed, [("greet", 2), ("other", 1)]);
        let versions = fixture.skills.versions(&SkillId::parse("greet").unwrap()).await.unwrap();
        assert_eq!(versions.iter().map(|version| version.get()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(fixture.skills.latest(&SkillId::parse("absent").unwrap()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn concurrent_publishers_get_different_versions() {
    let disk = tempfile::tempdir().unwrap();
    for fixture in [Fixture::in_memory(), Fixture::new(open_directory(disk.path()).unwrap().store)]
    {
        let source = fixture.source(&[("f", "x")]);
        let options = PublishOptions::default();
        let publishing = (0..20).map(|_| fixture.skills.publish(&source, &options));
        let mut versions: Vec<u32> = futures::future::join_all(publishing)
            .await
            .into_iter()
            .map(|published| published.unwrap().version.get())
            .collect();
        versions.sort_unstable();
        assert_eq!(versions, (1..=20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_incomplete_version_is_never_listed_or_installed() {
    let files = [("a", "1"), ("b", "2")];
    // The reservation, the mark in the index, two files, SKILL.md, and the manifest.
    for failing in 0..6 {
        let store = FailingStore::new();
        let fixture = Fixture::new(store.clone());
        store.fail(Calls::Puts, failing, 1);
        fixture
            .skills
            .publish(&fixture.source(&files), &PublishOptions::default())
            .await
            .unwrap_err();
        let id = SkillId::parse("greet").unwrap();
        assert_eq!(fixture.skills.versions(&id).await.unwrap(), [], "failing at {failing}");
        assert!(fixture.skills.list().await.unwrap().is_empty());
        assert!(fixture.install("greet@1").await.is_err(), "failing at {failing}");
        assert!(fixture.names("").is_empty());
        let version = fixture.publish(&files).await;
        assert_eq!(version, if failing == 0 { 1 } else { 2 }, "failing at {failing}");
        fixture.install(&format!("greet@{version}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_invalid_directory_is_an_error_and_nothing_is_stored() {
    let fixture = Fixture::in_memory();
    let error_of = async |prepare: fn(&std::path::Path)| {
        let source = fixture.source(&[("f", "x")]);
        prepare(&source);
        let error = fixture.skills.publish(&source, &PublishOptions::default()).await.unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(fixture.skills.list().await.unwrap().is_empty());
        assert_eq!(fixture.store.list_with_delimiter(None).await.unwrap().common_prefixes.len(), 0);
        format!("{error} {cause}")
    };
    type Prepare = fn(&std::path::Path);
    let cases: [(&str, Prepare); 8] = [
        ("has no SKILL.md", |dir| std::fs::remove_file(dir.join("SKILL.md")).unwrap()),
        ("front matter", |dir| std::fs::write(dir.join("SKILL.md"), "# Greet").unwrap()),
        ("symlinks", |dir| symlink("/etc/passwd", dir.join("link")).unwrap()),
        ("no regular file", |dir| {
            drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
        }),
        ("object keys", |dir| std::fs::write(dir.join("new\nline"), "x").unwrap()),
        ("512 files", |dir| {
            (0..512).for_each(|number| std::fs::write(dir.join(format!("n{number}")), "").unwrap());
        }),
        ("16 MiB", |dir| std::fs::write(dir.join("large"), vec![0; (16 << 20) + 1]).unwrap()),
        ("cannot read", |dir| std::fs::remove_dir_all(dir).unwrap()),
    ];
    for (expected, prepare) in cases {
        let text = error_of(prepare).await;
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn the_history_of_a_repository_is_not_published() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[(".git/HEAD", "ref"), ("f", "x")]).await;
    fixture.install("greet@1").await.unwrap();
    assert_eq!(fixture.names("greet"), ["SKILL.md", "f"]);
}

#[tokio::test]
async fn the_error_of_an_absent_version_names_the_available_ones() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[]).await;
    fixture.publish(&[]).await;
    let error = fixture.install("greet@7").await.unwrap_err();
    assert!(matches!(error, SkillError::NotFound { .. }));
    assert!(
        error.to_string().contains("version 7") && error.to_string().contains("1, 2"),
        "{error}"
    );
    assert!(
        fixture.install("absent@1").await.unwrap_err().to_string().contains("has no skill absent")
    );
    let into = fixture.root.path().join("into");
    fixture.skills.install_into(&"absent@1".parse().unwrap(), &into).await.unwrap_err();
    assert!(!into.exists(), "the directory was created");
}

#[tokio::test]
async fn names_of_a_directory_that_are_the_same_elsewhere_are_an_error() {
    for (files, expected) in [
        (["Readme", "README"], "the same name on some systems"),
        (["caf\u{e9}/a", "cafe\u{301}/b"], "the same name on some systems"),
        (["a", "fdp.\u{202e}exe"], "changes how the name is shown"),
    ] {
        let fixture = Fixture::in_memory();
        let source = fixture.source(&files.map(|file| (file, "x")));
        let published = fixture.skills.publish(&source, &PublishOptions::default()).await;
        let error = published.unwrap_err();
        assert!(error.to_string().contains(expected), "{files:?}: {error}");
        assert!(fixture.skills.list().await.unwrap().is_empty());
    }
}
