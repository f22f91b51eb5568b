//! Installation of all skills of a lockfile, or of none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillCache, SkillError, SkillId, SkillLock};
use testkit::{LatencyStore, read_files};

use crate::cancel::poll_times;
use crate::fixture::Fixture;

const IDS: [&str; 3] = ["a", "b", "c"];

/// Three skills with two versions each.
struct Skills {
    fixture: Fixture,
    /// The lockfile of each version.
    locks: [SkillLock; 2],
}

impl Skills {
    async fn new() -> Self {
        let fixture = Fixture::new(LatencyStore::new(Duration::ZERO));
        let mut locks = [SkillLock::default(), SkillLock::default()];
        for id in IDS {
            let options = PublishOptions::default().id(SkillId::parse(id).unwrap());
            for (lock, content) in locks.iter_mut().zip(["old", "new"]) {
                let source = fixture.source(&[("f", content), ("d/g", &format!("{id} {content}"))]);
                let version = fixture.skills.publish(&source, &options).await.unwrap().version;
                let skill = format!("{id}@{version}").parse().unwrap();
                lock.insert(fixture.skills.lock(&skill).await.unwrap());
            }
        }
        Self { fixture, locks }
    }

    fn dir(&self) -> PathBuf {
        self.fixture.root.path().join("into")
    }

    fn key(&self, path: &str) -> Key {
        Key::from(format!("general/skills/{path}"))
    }

    fn files(&self) -> BTreeMap<String, String> {
        read_files(&self.dir())
    }

    /// Returns the content of `f`, which all skills must have. Nothing else may be there.
    #[track_caller]
    fn content(&self) -> String {
        let files = self.files();
        let content = files["skills/a/f"].clone();
        for id in IDS {
            assert_eq!(files[&format!("skills/{id}/f")], content, "{files:?}");
            assert_eq!(files[&format!("skills/{id}/d/g")], format!("{id} {content}"), "{files:?}");
        }
        assert_eq!(files.len(), 9, "{files:?}");
        assert_eq!(std::fs::read_dir(self.dir().join("skills")).unwrap().count(), 3);
        content
    }
}

#[tokio::test]
async fn a_failure_of_one_skill_leaves_all_as_they_were() {
    let skills = Skills::new().await;
    let (store, dir) = (&skills.fixture.skills, skills.dir());
    let cache = SkillCache::new(skills.fixture.root.path().join("cache"));
    let cached = store.clone().with_cache(cache);
    store.install_all_locked(&skills.locks[0], &dir).await.unwrap();
    assert_eq!(skills.content(), "old");
    let damaged = skills.key("c/v2/d/g");
    let intact = skills.fixture.store.get(&damaged).await.unwrap().bytes().await.unwrap();
    skills.fixture.store.put(&damaged, "xxxxx".into()).await.unwrap();
    for store in [store, &cached] {
        let error = store.install_all_locked(&skills.locks[1], &dir).await.unwrap_err();
        assert!(matches!(error, SkillError::Mismatch { .. }), "{error}");
        assert_eq!(skills.content(), "old");
    }
    skills.fixture.store.put(&damaged, intact.into()).await.unwrap();
    // The place of the last skill belongs to the user.
    std::fs::remove_dir_all(dir.join("skills/c")).unwrap();
    std::fs::create_dir(dir.join("skills/c")).unwrap();
    std::fs::write(dir.join("skills/c/mine"), "x").unwrap();
    let before = skills.files();
    let error = cached.install_all_locked(&skills.locks[1], &dir).await.unwrap_err();
    assert!(matches!(error, SkillError::Occupied { .. }), "{error}");
    assert_eq!(skills.files(), before);
    std::fs::remove_dir_all(dir.join("skills/c")).unwrap();
    let reports = cached.install_all_locked(&skills.locks[1], &dir).await.unwrap();
    let installed: Vec<_> = reports.iter().map(|report| report.skill.id.as_str()).collect();
    assert_eq!((installed, skills.content().as_str()), (IDS.to_vec(), "new"));
    let none = skills.fixture.root.path().join("none");
    assert!(store.install_all_locked(&SkillLock::default(), &none).await.unwrap().is_empty());
    assert!(!none.exists());
}

#[tokio::test]
async fn a_failed_exchange_is_undone() {
    let skills = Skills::new().await;
    let (store, dir) = (&skills.fixture.skills, skills.dir());
    store.install_all_locked(&skills.locks[0], &dir).await.unwrap();
    std::fs::remove_dir_all(dir.join("skills/a")).unwrap();
    let before = skills.files();
    // A directory with this attribute cannot be renamed; another user than root cannot set it.
    let blocked = dir.join("skills/c");
    let attribute =
        |change: &str| std::process::Command::new("chattr").arg(change).arg(&blocked).output();
    if !attribute("+i").is_ok_and(|output| output.status.success()) {
        return testkit::skipped("a directory that cannot be renamed", "run as root on ext4");
    }
    let failed = store.install_all_locked(&skills.locks[1], &dir).await;
    attribute("-i").unwrap();
    failed.unwrap_err();
    assert_eq!(skills.files(), before);
    store.install_all_locked(&skills.locks[1], &dir).await.unwrap();
    assert_eq!(skills.content(), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_installation_of_a_lockfile_is_done_or_not() {
    let skills = Skills::new().await;
    let (store, dir) = (&skills.fixture.skills, skills.dir());
    store.install_all_locked(&skills.locks[0], &dir).await.unwrap();
    for polls in 1..400 {
        let done = poll_times(store.install_all_locked(&skills.locks[1], &dir), polls).await;
        // The next call waits for the thread of the dropped one.
        let one = skills.locks[0].skills()[0].clone();
        if done.is_none() {
            store.install_locked(&one, &dir).await.unwrap();
            let rest: Vec<_> = IDS[1..]
                .iter()
                .map(|id| skills.files()[&format!("skills/{id}/f")].clone())
                .collect();
            assert_eq!(rest[0], rest[1], "after {polls} polls");
        }
        store.install_all_locked(&skills.locks[0], &dir).await.unwrap();
        assert_eq!(skills.content(), "old", "after {polls} polls");
        if done.is_some() {
            return;
        }
    }
    panic!("the call takes more polls");
}
