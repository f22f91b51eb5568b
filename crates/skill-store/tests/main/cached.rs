//! The cache of a host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox_core::SessionDir;
use skill_store::{SkillCache, SkillStore};
use testkit::{Calls, FailingStore};

use crate::fixture::Fixture;

struct Host {
    store: Arc<FailingStore>,
    fixture: Fixture,
    sessions: usize,
}

impl Host {
    fn new() -> Self {
        let store = FailingStore::new();
        Self { fixture: Fixture::new(store.clone()), store, sessions: 0 }
    }

    fn cache(&self) -> PathBuf {
        self.fixture.root.path().join("cache")
    }

    fn skills(&self) -> SkillStore {
        self.fixture.skills.clone().with_cache(SkillCache::new(self.cache()))
    }

    /// Installs into a new session and returns its file `f`, with the number of downloads.
    async fn install(&mut self, skills: &SkillStore, skill: &str) -> (String, usize) {
        self.sessions += 1;
        let root = self.fixture.root.path().join(self.sessions.to_string());
        let dir = Arc::new(SessionDir::create(&root.join("session")).unwrap());
        let before = self.store.count(Calls::Gets);
        let (skill, state) = (skill.parse().unwrap(), root.join("state"));
        let report = skills.install(&skill, &dir, &state);
        assert!(!report.await.unwrap().was_installed);
        let content = std::fs::read_to_string(dir.path().join("skills/greet/f")).unwrap();
        (content, self.store.count(Calls::Gets) - before)
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[tokio::test]
async fn what_two_versions_share_is_downloaded_once() {
    let mut host = Host::new();
    host.fixture.publish(&[("f", "1"), ("same", "x")]).await;
    host.fixture.publish(&[("f", "2"), ("same", "x")]).await;
    let skills = host.skills();
    assert_eq!(host.install(&skills, "greet@1").await, ("1".into(), 4));
    // The manifest and the file that differs.
    assert_eq!(host.install(&skills, "greet@2").await, ("2".into(), 2));
    assert_eq!(host.install(&skills, "greet@1").await, ("1".into(), 0));
}

#[tokio::test]
async fn a_damaged_or_lost_file_is_downloaded_again() {
    let mut host = Host::new();
    host.fixture.publish(&[("f", "content")]).await;
    let skills = host.skills();
    host.install(&skills, "greet@1").await;
    for path in files(&host.cache()) {
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        for damage in [Some(vec![0; size]), Some(Vec::new()), None] {
            match damage {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let (content, downloads) = host.install(&skills, "greet@1").await;
            assert_eq!((content.as_str(), downloads), ("content", 1), "{}", path.display());
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("directory")).unwrap();
        assert_eq!(host.install(&skills, "greet@1").await, ("content".into(), 1));
        let above = path.parent().unwrap();
        let below = files(above).len();
        std::fs::remove_dir_all(above).unwrap();
        std::fs::write(above, "a file").unwrap();
        assert_eq!(host.install(&skills, "greet@1").await, ("content".into(), below));
    }
}

#[tokio::test]
async fn the_cache_is_bounded_and_a_skill_that_exceeds_it_is_installed() {
    let mut host = Host::new();
    let large = "x".repeat(10_000);
    for number in 0..5 {
        host.fixture.publish(&[("f", &format!("{number}{large}"))]).await;
    }
    let skills = host.fixture.skills.clone();
    let skills = skills.with_cache(SkillCache::new(host.cache()).max_bytes(25_000));
    for version in 1..=5 {
        let (content, _) = host.install(&skills, &format!("greet@{version}")).await;
        assert_eq!(content.len(), 10_001);
        let bytes: u64 =
            files(&host.cache()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes <= 25_000, "{bytes}");
    }
    let tiny = host.fixture.skills.clone();
    let tiny = tiny.with_cache(SkillCache::new(host.cache()).max_bytes(0));
    host.install(&tiny, "greet@1").await;
    assert_eq!(files(&host.cache()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_a_warning() {
    let host = Host::new();
    host.fixture.publish(&[("f", "1")]).await;
    std::fs::write(host.cache(), "a file").unwrap();
    let skills = host.skills();
    let state = host.fixture.root.path().join("state");
    let skill = "greet@1".parse().unwrap();
    let report = skills.install(&skill, &host.fixture.session, &state);
    assert!(report.await.unwrap().warnings[0].contains("the cache cannot be used"));
    assert_eq!(host.fixture.read("greet/f"), "1");
}

#[tokio::test]
async fn the_cache_does_not_tell_one_skill_the_content_of_another() {
    let mut host = Host::new();
    host.fixture.publish(&[("f", "secret")]).await;
    let skills = host.skills();
    host.install(&skills, "greet@1").await;
    // Another store names the manifest of the first one, which it does not have.
    let digest = skills.lock(&"greet@1".parse().unwrap()).await.unwrap().digest;
    let other = Fixture::in_memory();
    let key = format!("general/skills/other/.versions/v1.{digest}.json");
    let key = object_store::path::Path::parse(key).unwrap();
    object_store::ObjectStoreExt::put(&*other.store, &key, "x".into()).await.unwrap();
    let skills = other.skills.clone().with_cache(SkillCache::new(host.cache()));
    let state = other.root.path().join("state");
    let error = skills.install(&"other@1".parse().unwrap(), &other.session, &state).await;
    let error = error.unwrap_err();
    assert!(matches!(error, skill_store::SkillError::Manifest { .. }), "{error}");
}
