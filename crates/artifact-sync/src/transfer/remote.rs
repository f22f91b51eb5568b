//! The side of the store: one prefix of an object store, with the features found so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutResult, Result, UpdateVersion,
};
use sandbox_core::internal::blocking;

use crate::keys;
use crate::state::Version;
use crate::transfer::conditional::{self, Expected};
use crate::transfer::deletion::ConditionalDeletion;
use crate::transfer::local::{self, Obstacle};
use crate::transfer::probe::{StoreProbe, StoreProperties};
use crate::transfer::quirks::{self, KeyLimits, projection_key_problem};
use crate::transfer::stores::StoreCapabilities;

/// Objects below one prefix of a store.
#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    probe: StoreProbe,
    capabilities: StoreCapabilities,
    /// Cleared once the store has rejected attributes.
    keeps_attributes: AtomicBool,
    key_limits: KeyLimits,
}

impl Remote {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Key,
        probe: StoreProbe,
        capabilities: StoreCapabilities,
    ) -> Self {
        let key_limits = KeyLimits::of(&*store, &capabilities);
        let keeps_attributes = AtomicBool::new(true);
        Self { store, prefix, probe, capabilities, keeps_attributes, key_limits }
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    pub(crate) fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// Returns the key of a file, or an explanation if no key can represent the path.
    pub(crate) fn key(&self, path: &str) -> std::result::Result<Key, &'static str> {
        keys::key(&self.prefix, path)
    }

    /// Returns the metadata of an object, or `None` if it does not exist.
    pub(super) async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        match self.store.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if quirks::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a key holds the expected object, by a HEAD request.
    pub(super) async fn holds(&self, key: &Key, expected: &Expected) -> Result<bool> {
        conditional::holds(&*self.store, key, expected).await
    }

    /// Returns the properties of the store, which are probed once.
    pub(crate) async fn properties(&self) -> Result<StoreProperties> {
        self.probe.properties(&*self.store, &self.capabilities, &self.prefix).await
    }

    /// Returns the properties of the store, if they were probed.
    pub(crate) fn known_properties(&self) -> Option<StoreProperties> {
        self.probe.known()
    }

    /// Returns a put mode for the condition. If the store does not enforce it, the key is checked
    /// first; `None` means that it holds another object.
    pub(super) async fn put_mode(&self, key: &Key, expected: &Expected) -> Result<Option<PutMode>> {
        // If the probe fails, the next put tries again.
        let properties = self.properties().await.ok();
        match properties.and_then(|properties| conditional::mode(&properties, expected)) {
            Some(mode) => Ok(Some(mode)),
            None if self.holds(key, expected).await? => Ok(Some(PutMode::Overwrite)),
            None => Ok(None),
        }
    }

    /// Puts an object, without its attributes if the store does not support them.
    pub(super) async fn put(
        &self,
        key: &Key,
        content: Bytes,
        attributes: Attributes,
        mode: &PutMode,
    ) -> Result<PutResult> {
        let put = |attributes: Attributes| {
            let options = PutOptions { attributes, mode: mode.clone(), ..PutOptions::default() };
            self.store.put_opts(key, content.clone().into(), options)
        };
        let attributes = self.supported(attributes);
        let has_attributes = !attributes.is_empty();
        let result = match put(attributes).await {
            Err(Error::NotImplemented { .. }) if has_attributes => {
                self.keeps_attributes.store(false, Ordering::Relaxed);
                put(Attributes::new()).await
            }
            other => other,
        };
        match result {
            Err(error) if quirks::is_directory_in_the_way(&error) => {
                match self.clear_place(key).await {
                    Obstacle::Cleared => put(Attributes::new()).await,
                    Obstacle::Directory => Err(quirks::name_of_a_directory()),
                    Obstacle::None => Err(error),
                }
            }
            other => other,
        }
    }

    /// Removes empty directories that a store on the local disk has in the place of an object.
    async fn clear_place(&self, key: &Key) -> Obstacle {
        let Some(root) = self.capabilities.root.clone() else { return Obstacle::None };
        let key = key.clone();
        let cleared = blocking(move || local::clear_place(&root, &key)).await;
        cleared.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot look at the place of an object");
            Obstacle::None
        })
    }

    /// Begins a multipart upload, without attributes if the store does not support them.
    pub(super) async fn begin_multipart(
        &self,
        key: &Key,
        attributes: Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = |attributes: Attributes| {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            self.store.put_multipart_opts(key, options)
        };
        // The upload would fail at its end.
        if self.clear_place(key).await == Obstacle::Directory {
            return Err(quirks::name_of_a_directory());
        }
        let attributes = self.supported(attributes);
        let has_attributes = !attributes.is_empty();
        match begin(attributes).await {
            Err(Error::NotImplemented { .. }) if has_attributes => {
                self.keeps_attributes.store(false, Ordering::Relaxed);
                begin(Attributes::new()).await
            }
            other => other,
        }
    }

    fn supported(&self, attributes: Attributes) -> Attributes {
        if self.keeps_attributes.load(Ordering::Relaxed) { attributes } else { Attributes::new() }
    }

    /// Puts an object under a key that nothing else writes.
    pub(super) async fn put_fresh(
        &self,
        key: &Key,
        content: Bytes,
        attributes: Attributes,
    ) -> Result<PutResult> {
        self.put(key, content, attributes, &PutMode::Overwrite).await
    }

    /// Returns whether the store keeps attributes.
    pub(crate) async fn keeps_attributes(&self) -> bool {
        let keeps = match self.properties().await {
            Ok(properties) => properties.keeps_attributes,
            Err(_) => true,
        };
        keeps && self.keeps_attributes.load(Ordering::Relaxed)
    }

    /// Returns whether objects are files of a local disk, which a loss of power can change.
    pub(crate) fn is_on_local_disk(&self) -> bool {
        self.key_limits == KeyLimits::LocalDisk
    }

    /// Returns an explanation if the store cannot hold an object with this key.
    pub(super) fn key_problem(&self, key: &Key) -> Option<&'static str> {
        projection_key_problem(key, self.key_limits)
    }

    pub(crate) fn capabilities(&self) -> &StoreCapabilities {
        &self.capabilities
    }

    /// Returns whether the store can never hold an object with this key.
    pub(super) fn rejects_key(&self, error: &Error, key: &Key) -> bool {
        quirks::rejects_key_permanently(error, key)
    }

    /// Deletes an object only if the store itself checks its version.
    pub(crate) async fn delete_if(
        &self,
        key: &Key,
        version: &Version,
    ) -> Result<ConditionalDeletion> {
        let Some(deleter) = &self.capabilities.conditional_delete else {
            return Ok(ConditionalDeletion::NotSupported);
        };
        if !self.properties().await.is_ok_and(|properties| properties.delete == Some(true)) {
            return Ok(ConditionalDeletion::NotSupported);
        }
        let Version { etag, version } = version.clone();
        deleter.delete_if(key, &UpdateVersion { e_tag: etag, version }).await
    }

    /// Deletes an object that may be absent already. Returns `false` if the key holds another
    /// version, which another writer put there; it is kept.
    pub(crate) async fn delete(&self, key: &Key, version: &Version) -> Result<bool> {
        match self.delete_if(key, version).await? {
            ConditionalDeletion::Deleted => return Ok(true),
            ConditionalDeletion::OtherVersion => return Ok(self.head(key).await?.is_none()),
            ConditionalDeletion::NotSupported => {}
        }
        // Between this check and the deletion, another version can be lost.
        match self.head(key).await? {
            None => return Ok(true),
            Some(meta) if version.etag.is_some() && !version.is(&Version::from(&meta)) => {
                return Ok(false);
            }
            Some(_) => {}
        }
        match self.store.delete(key).await {
            Ok(()) => Ok(true),
            Err(error) if quirks::is_absent(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
