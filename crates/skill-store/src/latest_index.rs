//! The index of latest versions, which makes a listing of all skills cheap.
//!
//! | key below `skill-index/<id>/` | meaning |
//! |---|---|
//! | `v<n>` | version n was complete; the highest number is valid |
//! | `changing.v<n>` | version n is being published or deleted |
//!
//! A publisher marks its version as changing before it is complete, and removes the mark after the
//! index has the version. So a skill without marks has a true entry, and for one with marks, such
//! as that of a killed publisher, a reader asks for the versions themselves. The next publisher
//! removes old marks. Programs that do not know the index do not change it.

use std::collections::BTreeMap;

use artifact_sync::StoreCapabilities;
use artifact_sync::internal::{Listed, list_pages, strip_prefix};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::store::store_error;

/// The entry of a skill.
#[derive(Debug, Default)]
pub(crate) struct LatestEntry {
    pub(crate) versions: Vec<Version>,
    pub(crate) changing: Vec<Version>,
}

impl LatestEntry {
    /// Returns the latest version if the entry is true.
    pub(crate) fn latest(&self) -> Option<Version> {
        self.versions.iter().max().copied().filter(|_| self.changing.is_empty())
    }

    fn add(&mut self, name: &str) {
        let (list, name) = match name.strip_prefix("changing.") {
            Some(rest) => (&mut self.changing, rest),
            None => (&mut self.versions, name),
        };
        list.extend(Version::from_directory(name));
    }
}

/// The index below a prefix.
pub(crate) struct LatestIndex<'s> {
    pub(crate) store: &'s dyn ObjectStore,
    pub(crate) prefix: Key,
}

impl LatestIndex<'_> {
    /// Lists all entries, with one request for each 1,000.
    pub(crate) async fn entries(&self) -> Result<BTreeMap<SkillId, LatestEntry>, SkillError> {
        self.entries_below(&self.prefix).await
    }

    async fn entries_below(
        &self,
        prefix: &Key,
    ) -> Result<BTreeMap<SkillId, LatestEntry>, SkillError> {
        let mut entries = BTreeMap::<SkillId, LatestEntry>::new();
        let capabilities = StoreCapabilities::default();
        let mut listed = list_pages(self.store, &capabilities, prefix);
        while let Some(found) = listed.try_next().await.map_err(store_error(prefix))? {
            let Listed::Object(meta) = found else { continue };
            let below = strip_prefix(&self.prefix, &meta.location).unwrap_or_default();
            let Some((id, name)) = below.split_once('/') else { continue };
            if let Ok(id) = SkillId::parse(id) {
                entries.entry(id).or_default().add(name);
            }
        }
        Ok(entries)
    }

    /// Marks the skill as changing.
    pub(crate) async fn begin(&self, id: &SkillId, version: Version) -> Result<(), SkillError> {
        self.put(id, format!("changing.v{version}")).await
    }

    /// Names the latest version after a publication, and removes what it replaces.
    pub(crate) async fn publish(&self, id: &SkillId, version: Version) -> Result<(), SkillError> {
        self.put(id, version.directory()).await?;
        let entry = self.entry(id).await?;
        let old = entry.versions.iter().filter(|old| **old < version).map(|old| old.directory());
        // A slow publisher of an older version can still complete it, but not as the latest one.
        let changing = entry.changing.iter().filter(|changing| **changing <= version);
        let changing = changing.map(|changing| format!("changing.v{changing}"));
        self.remove(id, old.chain(changing).collect()).await
    }

    /// Names the latest version, if there is one.
    pub(crate) async fn name(
        &self,
        id: &SkillId,
        latest: Option<Version>,
    ) -> Result<(), SkillError> {
        match latest {
            Some(latest) => self.put(id, latest.directory()).await,
            None => Ok(()),
        }
    }

    /// Removes the name of a version that is not the latest one.
    pub(crate) async fn forget(
        &self,
        id: &SkillId,
        version: Option<Version>,
    ) -> Result<(), SkillError> {
        self.remove(id, version.map(Version::directory).into_iter().collect()).await
    }

    /// Ends the deletion of a version.
    pub(crate) async fn end(&self, id: &SkillId, version: Version) -> Result<(), SkillError> {
        self.remove(id, vec![version.directory()]).await?;
        self.remove(id, vec![format!("changing.v{version}")]).await
    }

    /// Returns whether the index names a version, also one that is being deleted.
    pub(crate) async fn names(&self, id: &SkillId, version: Version) -> Result<bool, SkillError> {
        let entry = self.entry(id).await?;
        Ok(entry.versions.contains(&version) || entry.changing.contains(&version))
    }

    async fn entry(&self, id: &SkillId) -> Result<LatestEntry, SkillError> {
        let mut entries = self.entries_below(&self.prefix.clone().join(id.as_str())).await?;
        Ok(entries.remove(id).unwrap_or_default())
    }

    async fn put(&self, id: &SkillId, name: String) -> Result<(), SkillError> {
        let key = self.key(id, name);
        self.store.put(&key, PutPayload::new()).await.map(drop).map_err(store_error(&key))
    }

    async fn remove(&self, id: &SkillId, names: Vec<String>) -> Result<(), SkillError> {
        let keys = names.into_iter().map(|name| Ok(self.key(id, name)));
        let keys = futures::stream::iter(keys.collect::<Vec<_>>()).boxed();
        let mut deleted = self.store.delete_stream(keys);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(&self.prefix)(error)),
            }
        }
        Ok(())
    }

    fn key(&self, id: &SkillId, name: String) -> Key {
        self.prefix.clone().join(id.as_str()).join(name)
    }
}
