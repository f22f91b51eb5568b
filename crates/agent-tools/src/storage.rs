//! The object store of artifacts and skills.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_sync::{
    LinkTarget, Linker, OpenedStore, OwnerReport, SessionKeys, StoreCapabilities, StoreError,
    StoreProbe, SyncError,
};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox_core::{SessionId, UserId};
use skill_store::SkillStore;

use crate::home::Home;

/// An object store with a prefix for all its keys, and a linker that makes links to its objects.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Key,
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) link_target: LinkTarget,
    pub(crate) name: String,
    /// Abilities of the store beyond `ObjectStore`.
    pub(crate) capabilities: StoreCapabilities,
    /// Identity of the endpoint, unless the embedder has opened the store.
    endpoint: Option<String>,
    /// Properties of the store that sessions have detected.
    pub(crate) probe: StoreProbe,
    reach: Reach,
}

/// Processes that can use a store.
#[derive(Clone, Debug)]
enum Reach {
    ThisProcess,
    /// Those that can use the directory.
    Directory(PathBuf),
    /// Those on any machine. The URL opens the store again.
    Cloud {
        url: String,
    },
    /// Unknown, because the embedder opened the store. This client is for other runtimes.
    Embedder(Arc<dyn ObjectStore>),
}

impl Storage {
    /// Opens a store by its URL: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///directory` or
    /// `memory:///`. All but the last need a feature.
    ///
    /// Credentials come from the clouds' standard environment variables. The first request is made
    /// later, so an unreachable store is not an error here.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the URL or a setting is invalid, or the feature is disabled.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let opened = artifact_sync::open_store(url)?;
        Ok(Self::from_opened(opened, url))
    }

    /// Opens a directory on the local disk by its absolute path, and creates it if it is absent.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the directory cannot be created or the feature `fs` is disabled.
    pub fn local(dir: &Path) -> Result<Self, StoreError> {
        let opened = artifact_sync::open_directory(dir)?;
        Ok(Self::from_opened(opened, ""))
    }

    fn from_opened(opened: OpenedStore, url: &str) -> Self {
        let OpenedStore { store, prefix, linker, name, endpoint, capabilities, .. } = opened;
        let probe = StoreProbe::default().below(&prefix);
        let reach = match &capabilities.root {
            Some(root) => Reach::Directory(root.clone()),
            None if url.starts_with("memory:") => Reach::ThisProcess,
            None => Reach::Cloud { url: url.to_owned() },
        };
        Self {
            store,
            prefix,
            linker,
            link_target: LinkTarget::default(),
            name,
            capabilities,
            endpoint: Some(endpoint),
            probe,
            reach,
        }
    }

    /// Lists the prefix to check that the store answers.
    ///
    /// # Errors
    /// Returns the error of the store.
    pub async fn check(&self) -> Result<(), object_store::Error> {
        self.store.list_with_delimiter(Some(&self.prefix)).await.map(drop)
    }

    /// Creates and deletes a temporary object below `probes/` to check that the store accepts
    /// changes.
    ///
    /// # Errors
    /// Returns the error of the store.
    pub async fn check_writable(&self) -> Result<(), object_store::Error> {
        let mut id = [0; 8];
        // A number that another process uses too does no harm.
        let _ = getrandom::fill(&mut id);
        let key = self.prefix.clone().join("probes").join(u64::from_le_bytes(id).to_string());
        self.store.put(&key, "check".into()).await?;
        self.store.delete(&key).await
    }

    /// Uses the embedder's store. Callers see keys with `name` in front, such as the name of a
    /// bucket.
    pub fn new(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Self {
        Self {
            reach: Reach::Embedder(Arc::clone(&store)),
            store,
            prefix: Key::default(),
            linker: None,
            link_target: LinkTarget::default(),
            name: name.into(),
            capabilities: StoreCapabilities::default(),
            endpoint: None,
            probe: StoreProbe::default().below(&Key::default()),
        }
    }

    /// Sets a prefix for all keys.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Key) -> Self {
        self.probe = self.probe.below(&prefix);
        self.prefix = prefix;
        self
    }

    /// Makes links with the embedder's linker.
    #[must_use]
    pub fn with_linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = Some(linker);
        self
    }

    /// Sets the objects that links open; by default those of the projection, the file as it is when
    /// the link is opened.
    #[must_use]
    pub fn with_links_to(mut self, target: LinkTarget) -> Self {
        self.link_target = target;
        self
    }

    /// Sets abilities of the embedder's store beyond `ObjectStore`, such as uploads that resume.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: StoreCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets another client of the embedder's store for the thread that shows that this home is
    /// alive. That thread has its own runtime, and some clients work in one runtime only. By
    /// default, it uses the same client.
    #[must_use]
    pub fn with_heartbeat_client(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.reach = Reach::Embedder(store);
        self
    }

    /// Lists the homes that own sessions in the store and show that they are alive.
    ///
    /// # Errors
    /// Returns [`SyncError`] if the store cannot be asked.
    pub async fn owners(&self) -> Result<Vec<OwnerReport>, SyncError> {
        artifact_sync::owners(&*self.store, &self.prefix).await
    }

    /// Returns the bucket or directory with its server, or the name of an embedder's store.
    pub(crate) fn place(&self) -> &str {
        self.endpoint.as_deref().unwrap_or(&self.name)
    }

    /// Returns the directory of a store on the local disk.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.capabilities.root.as_deref()
    }

    /// Returns whether processes with another home can use the store, as far as is known.
    pub fn reaches_beyond(&self, home: &Home) -> bool {
        match &self.reach {
            Reach::ThisProcess => false,
            Reach::Directory(root) => {
                !home.path().canonicalize().is_ok_and(|home| root.starts_with(home))
            }
            Reach::Cloud { .. } | Reach::Embedder(_) => true,
        }
    }

    /// Returns a client of the store for another runtime.
    pub(crate) fn open_again(&self) -> Result<Arc<dyn ObjectStore>, StoreError> {
        match &self.reach {
            Reach::Cloud { url } => Ok(artifact_sync::open_store(url)?.store),
            Reach::Embedder(store) => Ok(Arc::clone(store)),
            Reach::ThisProcess | Reach::Directory(_) => Ok(Arc::clone(&self.store)),
        }
    }

    /// Keeps the detected properties of the store in a file.
    pub(crate) fn with_probe_file(mut self, file: PathBuf) -> Self {
        if let Some(endpoint) = &self.endpoint {
            self.probe = self.probe.persistent(file, endpoint.clone());
        }
        self
    }

    /// Returns the skills in the store.
    pub fn skills(&self) -> SkillStore {
        SkillStore::new(Arc::clone(&self.store), self.prefix.clone())
    }

    /// Returns the prefixes of a session's artifacts and of its log.
    pub(crate) fn session_keys(&self, user: &UserId, session: &SessionId) -> SessionKeys {
        SessionKeys::new(&self.prefix, user, session)
    }

    /// Removes the name that callers see in front of a key.
    pub(crate) fn strip_name<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(&self.name).and_then(|key| key.strip_prefix('/')).unwrap_or(key)
    }
}

/// The name of the bucket and the prefix.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}
