//! Contents of versions without an installation: reading, comparing, rolling back and deleting.

use std::sync::Arc;

use artifact_sync::StoreCapabilities;
use artifact_sync::internal::{Listed, Object, list_pages, put_object};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, PutMode};
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::download::unwritable;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::manifest::Manifest;
use crate::publish::PublishReport;
use crate::records::{manifest_name, signature_name, tombstone_name};
use crate::resolve::{Identity, Resolved};
use crate::skill_ref::SkillRef;
use crate::store::{SkillStore, store_error};

/// Number of times that the latest version is determined while others are deleted.
const DELETION_ATTEMPTS: usize = 10;

/// A difference between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileDifference {
    /// The path in the skill.
    pub path: RelativePath,
    /// The change from the first version to the second.
    pub change: FileChange,
}

/// The change of a file between two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileChange {
    /// Only the second version has the file.
    Added,
    /// Only the first version has the file.
    Removed,
    /// The content differs.
    Content,
    /// Only the mode differs.
    Mode,
}

impl SkillStore {
    /// Returns the manifest of a version. A version without one is downloaded and described.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the version is absent or not valid, or the store fails.
    ///
    /// # Cancel safety
    /// Nothing is changed, except in the cache.
    pub async fn manifest(&self, skill: &SkillRef) -> Result<Manifest, SkillError> {
        let resolved = self.resolve(skill).await?;
        Ok(self.verified_manifest(&resolved).await?.0)
    }

    /// Returns the manifest of a version as it is stored, which a signature signs.
    ///
    /// # Errors
    /// Like [`SkillStore::manifest`]. Returns [`SkillError::NoManifest`] if another program stored
    /// the version without one.
    ///
    /// # Cancel safety
    /// Nothing is changed, except in the cache.
    pub async fn stored_manifest(&self, skill: &SkillRef) -> Result<Manifest, SkillError> {
        let resolved = self.resolve(skill).await?;
        if matches!(resolved.identity, Identity::Objects(_)) {
            return Err(SkillError::NoManifest { id: resolved.id, version: resolved.version });
        }
        Ok(self.verified_manifest(&resolved).await?.0)
    }

    /// Reads one file of a version and verifies it. The content has at most 16 MiB.
    ///
    /// # Errors
    /// Like [`SkillStore::manifest`]. Returns [`SkillError::NoFile`] if the version has no such
    /// file, and [`SkillError::Mismatch`] if it differs from the manifest.
    ///
    /// # Cancel safety
    /// Nothing is changed, except in the cache.
    pub async fn read(&self, skill: &SkillRef, path: &RelativePath) -> Result<Vec<u8>, SkillError> {
        let resolved = self.resolve(skill).await?;
        let (mut manifest, blobs) = self.verified_manifest(&resolved).await?;
        manifest.files.retain(|file| file.path == *path);
        let (id, version) = (resolved.id, resolved.version);
        if manifest.files.is_empty() {
            return Err(SkillError::NoFile { id, version, path: path.clone() });
        }
        let mut contents = self.contents(&manifest, &blobs).await?;
        self.shrink_cache(blobs).await;
        Ok(contents.remove(0).1.content.into())
    }

    /// Compares two versions of a skill by their manifests, sorted by path.
    ///
    /// # Errors
    /// Like [`SkillStore::manifest`].
    ///
    /// # Cancel safety
    /// Nothing is changed, except in the cache.
    pub async fn diff(
        &self,
        id: &SkillId,
        from: Version,
        to: Version,
    ) -> Result<Vec<FileDifference>, SkillError> {
        let (from, to) = (SkillRef::new(id.clone(), from), SkillRef::new(id.clone(), to));
        let (from, to) = futures::try_join!(self.manifest(&from), self.manifest(&to))?;
        Ok(differences(&from, &to))
    }

    /// Publishes the content of an old version as the next version. Every byte is verified.
    ///
    /// # Errors
    /// Like [`SkillStore::manifest`] and [`SkillStore::publish`].
    ///
    /// # Cancel safety
    /// Like [`SkillStore::publish`].
    pub async fn rollback(
        &self,
        id: &SkillId,
        version: Version,
    ) -> Result<PublishReport, SkillError> {
        let resolved = self.resolve(&SkillRef::new(id.clone(), version)).await?;
        let (manifest, blobs) = self.verified_manifest(&resolved).await?;
        let files = self.contents(&manifest, &blobs).await?;
        self.publish_files(id.clone(), files).await
    }

    /// Deletes a version. Its number is never used again, and a session keeps what it has
    /// installed.
    ///
    /// # Errors
    /// Returns [`SkillError::NotFound`] if the version does not exist, and [`SkillError::Deleted`]
    /// if it was deleted completely before. Returns [`SkillError::Store`] if the store fails.
    /// Another call then continues the deletion.
    ///
    /// # Cancel safety
    /// The version is deleted or not. If the call is dropped, objects of a deleted version can
    /// remain until the next call.
    pub async fn delete(&self, id: &SkillId, version: Version) -> Result<(), SkillError> {
        let known = self.known_versions(id).await?;
        if !known.has(version) {
            let available = self.versions(id).await?;
            return Err(SkillError::NotFound { id: id.clone(), version, available });
        }
        let index = self.latest_index();
        if known.is_gone(version) && !index.names(id, version).await? {
            let available = self.versions(id).await?;
            return Err(SkillError::Deleted { id: id.clone(), version, available });
        }
        index.begin(id, version).await?;
        let tombstone = self.record_key(id, tombstone_name(version));
        put_object(&*self.store, &tombstone, Object::new("", false), PutMode::Overwrite)
            .await
            .map_err(store_error(&tombstone))?;
        let record = known.records.record(version);
        let manifests = record.manifests.iter();
        let manifests = manifests.map(|digest| manifest_name(version, digest));
        let records = manifests.chain(record.is_signed.then(|| signature_name(version)));
        let mut keys: Vec<Key> = records.map(|name| self.record_key(id, name)).collect();
        let prefix = self.version_prefix(id, version);
        let capabilities = StoreCapabilities::default();
        let mut listed = list_pages(&*self.store, &capabilities, &prefix);
        while let Some(found) = listed.try_next().await.map_err(store_error(&prefix))? {
            if let Listed::Object(meta) = found {
                keys.push(meta.location);
            }
        }
        self.delete_keys(keys).await?;
        // Another deletion at the same time can make the latest version obsolete.
        let mut latest = self.latest(id).await?;
        for _ in 0..DELETION_ATTEMPTS {
            index.name(id, latest).await?;
            let now = self.latest(id).await?;
            if now == latest {
                break;
            }
            index.forget(id, latest).await?;
            latest = now;
        }
        index.end(id, version).await
    }

    pub(crate) async fn delete_keys(&self, keys: Vec<Key>) -> Result<(), SkillError> {
        let keys = futures::stream::iter(keys.into_iter().map(Ok).collect::<Vec<_>>());
        let mut deleted = self.store.delete_stream(keys.boxed());
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(&self.root())(error)),
            }
        }
        Ok(())
    }

    /// Returns the manifest of a version after the check of its signature, and the directory of
    /// downloaded files.
    pub(crate) async fn verified_manifest(
        &self,
        resolved: &Resolved,
    ) -> Result<(Manifest, Arc<Blobs>), SkillError> {
        let blobs = self.open_blobs(None, &mut Vec::new()).await?;
        self.check_signature(resolved, &blobs).await?;
        Ok((self.manifest_of(resolved, &blobs).await?, blobs))
    }

    /// Downloads files and reads them.
    async fn contents(
        &self,
        manifest: &Manifest,
        blobs: &Arc<Blobs>,
    ) -> Result<Vec<(RelativePath, Object)>, SkillError> {
        self.download(manifest, blobs).await?;
        let (files, blobs) = (manifest.files.clone(), Arc::clone(blobs));
        let damaged = blocking(move || {
            let read = |digest: &Digest, size| blobs.read(digest, size);
            let contents: Vec<_> =
                files.iter().map(|file| (file, read(&file.sha256, file.size))).collect();
            if contents.iter().all(|(_, content)| content.is_some()) {
                let object = |content, is_executable| Object::new(content, is_executable);
                let contents = contents.into_iter().map(|(file, content)| {
                    let content = content.unwrap_or_default();
                    (file.path.clone(), object(content, file.is_executable))
                });
                return Ok(contents.collect());
            }
            // The cache is not intact. The next call downloads these files again.
            let lost = contents.iter().filter(|(_, content)| content.is_none());
            lost.for_each(|(file, _)| blobs.remove(&file.sha256));
            Err(blobs)
        });
        damaged.await.map_err(|blobs| unwritable(&blobs, std::io::ErrorKind::InvalidData.into()))
    }
}

fn differences(from: &Manifest, to: &Manifest) -> Vec<FileDifference> {
    let mut found = Vec::new();
    for file in &from.files {
        let change = match to.file(&file.path) {
            None => FileChange::Removed,
            Some(other) if other.sha256 != file.sha256 => FileChange::Content,
            Some(other) if other.is_executable != file.is_executable => FileChange::Mode,
            Some(_) => continue,
        };
        found.push(FileDifference { path: file.path.clone(), change });
    }
    let added = to.files.iter().filter(|file| from.file(&file.path).is_none());
    found.extend(
        added.map(|file| FileDifference { path: file.path.clone(), change: FileChange::Added }),
    );
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
