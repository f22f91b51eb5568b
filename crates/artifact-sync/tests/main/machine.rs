//! Fixture: a directory, a store, and the mirror between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_sync::{
    Linker, Mirror, MirrorBuilder, SessionKeys, StoreCapabilities, SyncError, SyncReport,
    open_directory,
};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use testkit::{read_files, write_file};

pub(crate) const PREFIX: &str = "general/user_7/sessions/s1";
pub(crate) const LOG: &str = "general/logs/user_7/s1";

/// Machine with a session directory, which a test may remove and recreate, and its local state.
pub(crate) struct Machine {
    root: tempfile::TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) capabilities: StoreCapabilities,
}

impl Machine {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self::in_root(tempfile::tempdir().unwrap(), store)
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }

    /// Creates a machine whose directories lie below `place`.
    pub(crate) fn at(place: &Path, store: Arc<dyn ObjectStore>) -> Self {
        Self::in_root(tempfile::tempdir_in(place).unwrap(), store)
    }

    fn in_root(root: tempfile::TempDir, store: Arc<dyn ObjectStore>) -> Self {
        Self { root, store, linker: None, capabilities: StoreCapabilities::default() }
    }

    /// Returns the directory of the mirror's local state.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("session")
    }

    /// Opens a mirror like a session does: an absent directory is created.
    pub(crate) async fn open(&self) -> Mirror {
        self.open_with(|mirror| mirror).await
    }

    /// Opens a mirror of the same directory in another place of the store.
    pub(crate) async fn open_beside(&self, name: &str) -> Mirror {
        let keys = SessionKeys::at(Key::from(name), Key::from(format!("{name}-log")));
        let state = self.root.path().join(name);
        let mirror = Mirror::builder(self.dir(), Arc::clone(&self.store), keys).state_dir(state);
        mirror.open().await.unwrap()
    }

    pub(crate) async fn open_with(
        &self,
        set: impl FnOnce(MirrorBuilder) -> MirrorBuilder,
    ) -> Mirror {
        self.try_open_with(set).await.unwrap()
    }

    pub(crate) async fn try_open_with(
        &self,
        set: impl FnOnce(MirrorBuilder) -> MirrorBuilder,
    ) -> Result<Mirror, SyncError> {
        let mut mirror = Mirror::builder(self.dir(), Arc::clone(&self.store), keys())
            .state_dir(self.state())
            .capabilities(self.capabilities.clone())
            .exclude("skills");
        if let Some(linker) = &self.linker {
            mirror = mirror.linker(Arc::clone(linker));
        }
        set(mirror).open().await
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

    /// Removes the directory, like closing a session.
    pub(crate) fn remove_all(&self) {
        std::fs::remove_dir_all(self.dir()).unwrap();
    }

    pub(crate) async fn put(&self, path: &str, content: &str) {
        self.store.put(&key(path), content.to_owned().into()).await.unwrap();
    }

    /// Returns the regular files of the directory, by path.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        read_files(&self.dir())
    }

    /// Returns the names of the blobs.
    pub(crate) async fn blobs(&self) -> Vec<String> {
        let prefix = Key::parse(LOG).unwrap().join("blobs");
        let listed: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.unwrap();
        let mut names: Vec<String> =
            listed.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    /// Returns the objects below the prefix, by path.
    pub(crate) async fn objects(&self) -> BTreeMap<String, String> {
        let listed: Vec<_> =
            self.store.list(Some(&Key::parse(PREFIX).unwrap())).try_collect().await.unwrap();
        let mut objects = BTreeMap::new();
        for meta in listed {
            let content = self.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
            let path =
                meta.location.as_ref().strip_prefix(&format!("{PREFIX}/")).unwrap().to_owned();
            objects.insert(path, String::from_utf8(content.to_vec()).unwrap());
        }
        objects
    }
}

/// Returns the prefixes of the session.
pub(crate) fn keys() -> SessionKeys {
    SessionKeys::at(Key::parse(PREFIX).unwrap(), Key::parse(LOG).unwrap())
}

pub(crate) fn key(path: &str) -> Key {
    Key::parse(format!("{PREFIX}/{path}")).unwrap()
}

/// Returns a machine for each store that needs no server, with the directory that it needs.
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
