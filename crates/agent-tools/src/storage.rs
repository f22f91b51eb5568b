//! Where artifacts and skills are kept.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use artifact_sync::{Linker, OpenedStore, StoreError, StoreProbe};
use object_store::ObjectStore;
use object_store::path::Path as Key;
use sandbox_core::{SessionId, UserId};
use skill_store::SkillStore;

/// An object store, the prefix under which everything lies in it, and how links to it are made.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Key,
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) name: String,
    /// What sessions have found out about the store.
    pub(crate) probe: StoreProbe,
}

impl Storage {
    /// Opens a store by its URL: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///directory`,
    /// `memory:///`, as far as the features of this build go. Credentials come from the clouds'
    /// standard environment variables.
    ///
    /// # Errors
    /// [`StoreError`] for a URL or a setting that cannot work. Whether the store answers shows at
    /// first use.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let opened = artifact_sync::open_store(url)?;
        Ok(Self::opened(opened))
    }

    /// Uses a directory on the local disk, made where it is absent; `dir` is absolute.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be made, or the feature `fs` is off.
    pub fn local(dir: &Path) -> Result<Self, StoreError> {
        let opened = artifact_sync::open_directory(dir)?;
        Ok(Self::opened(opened))
    }

    fn opened(opened: OpenedStore) -> Self {
        let OpenedStore { store, prefix, linker, name, .. } = opened;
        Self { store, prefix, linker, name, probe: StoreProbe::default() }
    }

    /// Asks the store for a listing, to see whether it answers.
    ///
    /// # Errors
    /// What the store says.
    pub async fn check(&self) -> Result<(), object_store::Error> {
        self.store.list_with_delimiter(Some(&self.prefix)).await.map(drop)
    }

    /// Uses a store of the embedder's; `name` is what stands before the keys that callers see, a
    /// bucket's name for one.
    pub fn new(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Self {
        Self {
            store,
            prefix: Key::default(),
            linker: None,
            name: name.into(),
            probe: StoreProbe::default(),
        }
    }

    /// Puts everything under a general prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Key) -> Self {
        self.prefix = prefix;
        self
    }

    /// Makes links with a linker of the embedder's.
    #[must_use]
    pub fn with_linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = Some(linker);
        self
    }

    /// The skills of the store.
    pub fn skills(&self) -> SkillStore {
        SkillStore::new(Arc::clone(&self.store), self.prefix.clone())
    }

    /// `user_<user>/sessions/<session>` under the general prefix.
    pub(crate) fn session_prefix(&self, user: &UserId, session: &SessionId) -> Key {
        artifact_sync::session_prefix(&self.prefix, user, session)
    }

    /// A key without the name that callers see before it.
    pub(crate) fn strip_name<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(&self.name).and_then(|key| key.strip_prefix('/')).unwrap_or(key)
    }
}

/// The bucket's name and the general prefix.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}
