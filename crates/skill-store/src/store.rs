//! Versions of skills in an object store.
//!
//! | key | content |
//! |---|---|
//! | `skills/<id>/v<n>/<path>` | one file of one version |
//! | `skills/<id>/.versions/…` | reservations, manifests, tombstones and tags (`records.rs`) |
//! | `skill-index/<id>/…` | the latest version of each skill (`latest_index.rs`) |
//!
//! A publisher reserves a number with a conditional put, then stores the files, SKILL.md, and last
//! the manifest. Two publishers therefore never share a version, and a reserved version without a
//! manifest is incomplete. A version that another program stored without a reservation counts as
//! complete.

use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt};

use crate::cache::SkillCache;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::latest_index::LatestIndex;
use crate::layout::{CONCURRENT_REQUESTS, INDEX, RECORDS, SKILL_FILE, SKILLS_DIRECTORY};
use crate::records::{Records, Reservation};
use crate::signature::VerifyingKey;

/// The skills below a prefix of an object store.
#[derive(Clone)]
pub struct SkillStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) cache: Option<SkillCache>,
    pub(crate) keys: Vec<VerifyingKey>,
    prefix: Key,
}

/// A skill in a listing of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkillSummary {
    /// The skill.
    pub id: SkillId,
    /// Its latest version.
    pub latest: Version,
}

impl SkillStore {
    /// Creates a view of the skills below `prefix`, which can be empty. Sends no request.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self { store, cache: None, keys: Vec::new(), prefix }
    }

    /// Keeps downloaded files in a cache, which other sessions and processes share.
    #[must_use]
    pub fn with_cache(mut self, cache: SkillCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Installs and reads only versions that one of these keys has signed. Repeated calls add keys.
    #[must_use]
    pub fn with_key(mut self, key: VerifyingKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Returns the complete versions, the oldest first. Sends two requests, and one more for each
    /// version that a publisher before manifests stored.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails, and [`SkillError::TooManyRecords`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn versions(&self, id: &SkillId) -> Result<Vec<Version>, SkillError> {
        let known = self.known_versions(id).await?;
        let complete: Vec<Option<Version>> = futures::stream::iter(known.candidates())
            .map(|version| {
                let known = &known;
                async move {
                    Ok::<_, SkillError>(known.is_complete(self, version).await?.then_some(version))
                }
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        Ok(complete.into_iter().flatten().collect())
    }

    /// Returns the latest complete version, if there is one. Sends two requests, unless the latest
    /// number was reserved by a publisher before manifests.
    ///
    /// # Errors
    /// Like [`SkillStore::versions`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn latest(&self, id: &SkillId) -> Result<Option<Version>, SkillError> {
        self.known_versions(id).await?.latest(self).await
    }

    /// Returns the ids in the store, sorted, with one request for each 1,000. A skill can have no
    /// complete version.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn ids(&self) -> Result<Vec<SkillId>, SkillError> {
        let prefix = self.root();
        let level =
            self.store.list_with_delimiter(Some(&prefix)).await.map_err(store_error(&prefix))?;
        // Names that are not ids belong to other programs.
        let ids = level.common_prefixes.iter().map(|below| below.filename().map(SkillId::parse));
        let mut ids: Vec<SkillId> = ids.flatten().flatten().collect();
        ids.sort();
        Ok(ids)
    }

    /// Returns all skills that have a complete version, by id.
    ///
    /// Sends two requests for each 1,000 skills: for the ids, and for an index of latest versions
    /// that publishers keep. A skill that another program stored, or that is being published, is
    /// not in the index and costs as much as [`SkillStore::latest`]. A version that a program
    /// without the index adds to an indexed skill is found by [`SkillStore::latest`] only.
    ///
    /// # Errors
    /// Like [`SkillStore::versions`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn list(&self) -> Result<Vec<SkillSummary>, SkillError> {
        let index = self.latest_index();
        let (ids, entries) = futures::future::try_join(self.ids(), index.entries()).await?;
        futures::stream::iter(ids)
            .map(|id| {
                let latest = entries.get(&id).and_then(|entry| entry.latest());
                async move {
                    let latest = match latest {
                        Some(latest) => Some(latest),
                        None => self.latest(&id).await?,
                    };
                    Ok::<_, SkillError>(latest.map(|latest| SkillSummary { id, latest }))
                }
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_filter_map(async |summary| Ok(summary))
            .try_collect()
            .await
    }

    pub(crate) async fn known_versions(&self, id: &SkillId) -> Result<KnownVersions, SkillError> {
        let prefix = self.skill_prefix(id);
        let level = async {
            self.store.list_with_delimiter(Some(&prefix)).await.map_err(store_error(&prefix))
        };
        let (level, records) = futures::future::try_join(level, self.records(id)).await?;
        let number = |key: &Key| Version::from_directory(key.filename()?);
        let stored = level.common_prefixes.iter().filter_map(number).collect();
        Ok(KnownVersions { id: id.clone(), stored, records })
    }

    pub(crate) async fn records(&self, id: &SkillId) -> Result<Records, SkillError> {
        Records::list(&*self.store, &self.records_prefix(id)).await
    }

    pub(crate) fn latest_index(&self) -> LatestIndex<'_> {
        LatestIndex { store: &*self.store, prefix: self.prefix.clone().join(INDEX) }
    }

    async fn has_skill_file(&self, id: &SkillId, version: Version) -> Result<bool, SkillError> {
        let key = self.version_prefix(id, version).join(SKILL_FILE);
        match self.store.head(&key).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(store_error(&key)(source)),
        }
    }

    /// Returns the prefix of all skills.
    pub(crate) fn root(&self) -> Key {
        self.prefix.clone().join(SKILLS_DIRECTORY)
    }

    fn skill_prefix(&self, id: &SkillId) -> Key {
        // Ids consist of `[A-Za-z0-9._-]`, so no character is encoded.
        self.root().join(id.as_str())
    }

    fn records_prefix(&self, id: &SkillId) -> Key {
        self.skill_prefix(id).join(RECORDS)
    }

    /// Returns the key of a record of a skill.
    pub(crate) fn record_key(&self, id: &SkillId, name: String) -> Key {
        self.records_prefix(id).join(name)
    }

    /// Returns the prefix of a version's files: `skills/<id>/v<n>` below the prefix of the store.
    pub(crate) fn version_prefix(&self, id: &SkillId, version: Version) -> Key {
        self.skill_prefix(id).join(version.directory())
    }
}

impl fmt::Debug for SkillStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkillStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The version numbers of a skill that the store knows.
#[derive(Debug)]
pub(crate) struct KnownVersions {
    id: SkillId,
    /// Numbers with at least one file.
    stored: Vec<Version>,
    pub(crate) records: Records,
}

impl KnownVersions {
    /// Returns the highest number that is in use, also by an incomplete or deleted version.
    pub(crate) fn highest(&self) -> Option<Version> {
        self.stored.iter().chain(self.records.versions.keys()).max().copied()
    }

    /// Returns the numbers that can be complete versions, sorted.
    fn candidates(&self) -> Vec<Version> {
        let with_manifest = self.records.versions.iter();
        let with_manifest = with_manifest.filter(|(_, record)| !record.manifests.is_empty());
        let numbers = self.stored.iter().chain(with_manifest.map(|(version, _)| version)).copied();
        let mut numbers: Vec<Version> =
            numbers.filter(|version| !self.records.record(*version).is_deleted).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Returns whether the number is in use by a version that was not deleted completely.
    pub(crate) fn has(&self, version: Version) -> bool {
        let record = self.records.record(version);
        self.stored.contains(&version) || !record.manifests.is_empty() || record.is_deleted
    }

    /// Returns whether a version was deleted and no object of it is left.
    pub(crate) fn is_gone(&self, version: Version) -> bool {
        let record = self.records.record(version);
        record.is_deleted
            && !record.is_signed
            && record.manifests.is_empty()
            && !self.stored.contains(&version)
    }

    /// Returns the latest complete version.
    pub(crate) async fn latest(&self, store: &SkillStore) -> Result<Option<Version>, SkillError> {
        for version in self.candidates().into_iter().rev() {
            if self.is_complete(store, version).await? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn is_complete(&self, store: &SkillStore, version: Version) -> Result<bool, SkillError> {
        let record = self.records.record(version);
        match record.reservation {
            _ if !record.manifests.is_empty() => Ok(true),
            None => Ok(true),
            Some(Reservation::WithManifest) => Ok(false),
            Some(Reservation::BeforeManifests) => store.has_skill_file(&self.id, version).await,
        }
    }
}

pub(crate) fn store_error(key: &Key) -> impl Fn(Error) -> SkillError {
    move |source| SkillError::Store { key: key.to_string(), source }
}
