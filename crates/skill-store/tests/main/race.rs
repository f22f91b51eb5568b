//! Installations at the same time, and installations that are dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox_core::SessionDir;
use skill_store::{SkillCache, SkillStore};
use testkit::{LatencyStore, read_files};

use crate::cancel::poll_times;
use crate::fixture::Fixture;

const FILES: usize = 40;
const ROUNDS: usize = 200;

/// A store with two versions whose files all have the number of the version.
async fn two_versions() -> Fixture {
    let fixture = Fixture::new(LatencyStore::new(std::time::Duration::ZERO));
    for version in ["1", "2"] {
        let paths: Vec<String> = (0..FILES).map(|n| format!("d{}/f{n}", n % 7)).collect();
        let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), version)).collect();
        fixture.publish(&files).await;
    }
    fixture
}

/// Returns the version that is installed whole, or the reason why none is.
fn whole_version(skill: &Path) -> Result<String, String> {
    let mut files: BTreeMap<String, String> = read_files(skill);
    files.remove("SKILL.md").ok_or("SKILL.md is absent")?;
    let version = files.values().next().ok_or("it has no file")?.clone();
    let same = files.values().filter(|content| **content == version).count();
    if (files.len(), same) == (FILES, FILES) {
        return Ok(version);
    }
    Err(format!("{} files, {same} of version {version}", files.len()))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_at_once_leave_one_of_them_whole() {
    let fixture = two_versions().await;
    let cached = with_cache(&fixture);
    let state = fixture.root.path().join("state");
    let first = "greet@1".parse().unwrap();
    let second = "greet@2".parse().unwrap();
    for round in 0..ROUNDS {
        let skills = if round % 2 == 0 { &fixture.skills } else { &cached };
        let (one, two) = tokio::join!(
            skills.install(&first, &fixture.session, &state),
            skills.install(&second, &fixture.session, &state),
        );
        one.unwrap();
        two.unwrap();
        let version = whole_version(&fixture.installed("greet")).unwrap();
        assert_eq!(names(&fixture.installed("")), ["greet"], "round {round}");
        // The state is that of the directory.
        let skill = format!("greet@{version}").parse().unwrap();
        let again = skills.install(&skill, &fixture.session, &state);
        assert!(again.await.unwrap().was_installed, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_without_a_session_are_replaced_whole() {
    let fixture = two_versions().await;
    let into = fixture.root.path().join("into");
    let (first, second) = ("greet@1".parse().unwrap(), "greet@2".parse().unwrap());
    for round in 0..ROUNDS / 4 {
        let (one, two) = tokio::join!(
            fixture.skills.install_into(&first, &into),
            fixture.skills.install_into(&second, &into),
        );
        one.unwrap();
        two.unwrap();
        whole_version(&into.join("skills/greet")).unwrap();
        assert_eq!(names(&into.join("skills")), ["greet"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_installation_leaves_a_whole_version_also_for_the_next_one() {
    let fixture = Arc::new(two_versions().await);
    let state = fixture.root.path().join("state");
    fixture.install("greet@1").await.unwrap();
    for polls in 1..60 {
        let target = if polls % 2 == 0 { "greet@1" } else { "greet@2" };
        let target = target.parse().unwrap();
        let install = fixture.skills.install(&target, &fixture.session, &state);
        let _ = poll_times(install, polls).await;
        whole_version(&fixture.installed("greet")).unwrap();
        fixture.skills.install(&target, &fixture.session, &state).await.unwrap();
        let installed = whole_version(&fixture.installed("greet")).unwrap();
        assert_eq!(installed, target.version.as_ref().unwrap().to_string());
        assert_eq!(names(&fixture.installed("")), ["greet"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_share_a_cache_install_at_once() {
    let fixture = two_versions().await;
    let cached = with_cache(&fixture);
    let sessions: Vec<(Arc<SessionDir>, PathBuf)> = (0..8)
        .map(|number| {
            let root = fixture.root.path().join(number.to_string());
            (Arc::new(SessionDir::create(&root.join("session")).unwrap()), root.join("state"))
        })
        .collect();
    let skill = "greet@2".parse().unwrap();
    let installing = sessions.iter().map(|(dir, state)| cached.install(&skill, dir, state));
    for installed in futures::future::join_all(installing).await {
        installed.unwrap();
    }
    for (dir, _) in &sessions {
        assert_eq!(whole_version(&dir.path().join("skills/greet")).unwrap(), "2");
    }
}

#[tokio::test]
async fn the_directory_of_another_installation_is_not_removed_and_a_leftover_is() {
    let fixture = two_versions().await;
    let (busy, left) =
        (fixture.installed(".installing~busy"), fixture.installed(".installing~left"));
    std::fs::create_dir_all(&busy).unwrap();
    std::fs::create_dir_all(&left).unwrap();
    let lock = std::fs::File::open(&busy).unwrap();
    lock.lock().unwrap();
    fixture.install("greet@1").await.unwrap();
    assert!(busy.exists() && !left.exists());
    drop(lock);
    fixture.install("greet@2").await.unwrap();
    assert!(!busy.exists());
}

fn with_cache(fixture: &Fixture) -> SkillStore {
    fixture.skills.clone().with_cache(SkillCache::new(fixture.root.path().join("cache")))
}
