//! A source directory, a store, and a session.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use sandbox_core::SessionDir;
use skill_store::{InstallReport, PublishOptions, SkillError, SkillStore};
use testkit::write_file;

pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) skills: SkillStore,
    pub(crate) session: Arc<SessionDir>,
}

/// The SKILL.md of the source directory.
pub(crate) const SKILL_FILE: &str =
    "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\n";

impl Fixture {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let session = Arc::new(SessionDir::create(&root.path().join("session")).unwrap());
        let skills = SkillStore::new(Arc::clone(&store), Key::from("general"));
        Self { root, store, skills, session }
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }

    /// Replaces the source directory by SKILL.md and these files.
    pub(crate) fn source(&self, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.root.path().join("source");
        let _ = std::fs::remove_dir_all(&dir);
        for (path, content) in [("SKILL.md", SKILL_FILE)].iter().chain(files) {
            write_file(&dir, path, content);
        }
        dir
    }

    pub(crate) async fn publish(&self, files: &[(&str, &str)]) -> u32 {
        self.skills
            .publish(&self.source(files), &PublishOptions::default())
            .await
            .unwrap()
            .version
            .get()
    }

    pub(crate) async fn install(&self, skill: &str) -> Result<InstallReport, SkillError> {
        self.skills
            .install(&skill.parse().unwrap(), &self.session, &self.root.path().join("state"))
            .await
    }

    pub(crate) fn installed(&self, path: &str) -> PathBuf {
        self.session.path().join("skills").join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.installed(path)).unwrap()
    }

    /// Returns the sorted names in `skills/<path>`.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.installed(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
