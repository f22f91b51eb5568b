//! A directory, a store, and the mirror between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use artifact_sync::{Linker, Mirror, MirrorBuilder, SyncReport, open_directory};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox_core::SessionDir;
use testkit::{read_files, write_file};

pub(crate) const PREFIX: &str = "general/user_7/sessions/s1";

/// One machine: a session directory, which may be removed and made again, and the state beside it.
pub(crate) struct Machine {
    root: tempfile::TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) linker: Option<Arc<dyn Linker>>,
}

impl Machine {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { root: tempfile::tempdir().unwrap(), store, linker: None }
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("session")
    }

    /// A session that is opened as the engine opens it: the directory is made where it is absent.
    pub(crate) fn open(&self) -> Mirror {
        self.open_with(|mirror| mirror)
    }

    /// Another mirror of the same directory, with a record of its own.
    pub(crate) fn open_beside(&self, state: &str) -> Mirror {
        self.open_with(|mirror| mirror.state_dir(self.root.path().join(state)))
    }

    pub(crate) fn open_with(&self, set: impl FnOnce(MirrorBuilder) -> MirrorBuilder) -> Mirror {
        let dir = Arc::new(SessionDir::create(&self.dir()).unwrap());
        let mut mirror = Mirror::builder(dir, Arc::clone(&self.store), Key::parse(PREFIX).unwrap())
            .state_dir(self.root.path().join("state"))
            .exclude("skills");
        if let Some(linker) = &self.linker {
            mirror = mirror.linker(Arc::clone(linker));
        }
        set(mirror).open().unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        write_file(&self.dir(), path, content);
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let to = self.dir().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(self.dir().join(from), to).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.dir().join(path)).unwrap();
    }

    /// Takes the directory away, as closing a session does.
    pub(crate) fn remove_all(&self) {
        std::fs::remove_dir_all(self.dir()).unwrap();
    }

    pub(crate) async fn put(&self, path: &str, content: &str) {
        self.store.put(&key(path), content.to_owned().into()).await.unwrap();
    }

    /// The regular files of the directory, by path.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        read_files(&self.dir())
    }

    /// The objects under the prefix, by path.
    pub(crate) async fn objects(&self) -> BTreeMap<String, String> {
        let listed: Vec<_> =
            self.store.list(Some(&Key::parse(PREFIX).unwrap())).try_collect().await.unwrap();
        let mut objects = BTreeMap::new();
        for meta in listed {
            let content = self.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
            let path =
                meta.location.as_ref().strip_prefix(&format!("{PREFIX}/")).unwrap().to_owned();
            // The object that a store was probed with, where the store then failed to remove it.
            if path.starts_with(sandbox_core::STAGED_PREFIX) {
                continue;
            }
            objects.insert(path, String::from_utf8(content.to_vec()).unwrap());
        }
        objects
    }
}

pub(crate) fn key(path: &str) -> Key {
    Key::parse(format!("{PREFIX}/{path}")).unwrap()
}

/// Every kind of store that works without a server, each with what must stay alive.
pub(crate) fn machines() -> Vec<(Machine, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let local = open_directory(&dir.path().join("store")).unwrap();
    let mut machine = Machine::new(local.store);
    machine.linker = local.linker;
    vec![(Machine::in_memory(), None), (machine, Some(dir))]
}

pub(crate) fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

pub(crate) fn changed(report: &SyncReport) -> Vec<&str> {
    report.changed.iter().map(|changed| changed.path.as_str()).collect()
}
