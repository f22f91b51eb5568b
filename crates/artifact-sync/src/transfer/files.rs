//! Transfers of single files that keep the index current.

use std::sync::{Arc, Mutex, MutexGuard};

use object_store::ObjectMeta;
use object_store::path::Path as Key;
use sandbox_core::internal::lock;
use sandbox_core::{RelativePath, SessionDir};

use crate::error::SyncError;
use crate::paths::relative;
use crate::scan::{Changes, RecordedSignature, Signature};
use crate::state::{Index, IndexEntry, Origin, StoredFile, Version};
use crate::transfer::conditional::Expected;
use crate::transfer::content::hash_of;
use crate::transfer::download::{Download, Downloader};
use crate::transfer::remote::Remote;
use crate::transfer::upload::{PriorState, UploadError, UploadOutcome, Uploader};

/// Files of one directory, their objects, and the index that connects them.
#[derive(Debug)]
pub(crate) struct FileTransfers {
    dir: Arc<SessionDir>,
    remote: Arc<Remote>,
    uploader: Uploader,
    downloader: Downloader,
    index: Mutex<Index>,
}

impl FileTransfers {
    pub(crate) fn new(dir: Arc<SessionDir>, remote: Remote, index: Index) -> Self {
        let remote = Arc::new(remote);
        let uploader = Uploader::new(Arc::clone(&dir), Arc::clone(&remote));
        let downloader = Downloader::new(Arc::clone(&dir), Arc::clone(&remote));
        Self { dir, remote, uploader, downloader, index: Mutex::new(index) }
    }

    pub(super) fn dir(&self) -> &Arc<SessionDir> {
        &self.dir
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Locks the index.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Returns the index as the baseline of scans.
    pub(crate) fn baseline(&self) -> &Mutex<Index> {
        &self.index
    }

    /// Drops the files from the changes whose content is the recorded one although their signatures
    /// did not prove it.
    pub(crate) fn settle(&self, changes: &mut Changes) {
        changes.modified.retain(|entry| !self.has_recorded_content(&entry.path, &entry.signature));
    }

    /// Returns whether a file with this signature has its recorded content.
    pub(crate) fn is_unchanged(&self, path: &str, signature: &Signature) -> bool {
        let stored = self.index().stored(path).map(|stored| stored.signature);
        stored.is_some_and(|stored| stored.proves(signature))
            || self.has_recorded_content(path, signature)
    }

    /// Compares the content of a file whose signature is the recorded one apart from the change
    /// time, and records equal content again. Opening a file that denies reading moves that time.
    fn has_recorded_content(&self, path: &str, signature: &Signature) -> bool {
        let stored = self.index().stored(path).cloned();
        let is_similar =
            |stored: &StoredFile| stored.signature.signature.differs_in_change_time_only(signature);
        let Some(stored) = stored.filter(is_similar) else { return false };
        let Some(recorded) = self.hashed(path, &stored.hash) else { return false };
        let mut index = self.index();
        // A transfer may have recorded another version meanwhile.
        if index.stored(path) != Some(&stored) {
            return false;
        }
        if recorded != stored.signature {
            index.set_stored(path, StoredFile { signature: recorded, ..stored });
        }
        true
    }

    /// Reads a file. Returns its signature if the content has this hash.
    fn hashed(&self, path: &str, hash: &str) -> Option<RecordedSignature> {
        let file = self.dir.open_file(&relative(path)?).ok()?;
        let recorded = Signature::record(&file).ok()?;
        let is_equal = hash_of(&file).ok()? == hash;
        (is_equal && Signature::of(&file).ok()? == recorded.signature).then_some(recorded)
    }

    /// Uploads a file like [`Uploader::upload`]. The index records the hash before the request is
    /// sent, so that an upload without an answer is recognised later.
    pub(super) async fn upload(
        &self,
        path: &RelativePath,
        key: &Key,
        prior: PriorState<'_>,
        expected: &Expected,
        origin: Origin,
    ) -> Result<UploadOutcome, UploadError> {
        let on_send = |hash: &str| self.index().set_uploading(path.as_str(), hash);
        self.uploader.upload(path, key, prior, expected, origin, &on_send).await
    }

    /// Downloads an object to a file that has no name yet. The index does not change.
    pub(super) async fn download(
        &self,
        path: &RelativePath,
        meta: &ObjectMeta,
    ) -> Result<Download, SyncError> {
        self.downloader.download(path, meta).await
    }

    /// Downloads an object to its path and records it.
    pub(crate) async fn fetch(
        &self,
        path: &RelativePath,
        meta: &ObjectMeta,
    ) -> Result<(), SyncError> {
        let download = self.download(path, meta).await?;
        let (hash, version, attributed) =
            (download.hash(), download.version.clone(), download.origin);
        let signature = download.commit().await?;
        let mut index = self.index();
        let origin = match index.get(path.as_str()) {
            Some(
                IndexEntry::Stored(StoredFile { version: before, origin, .. })
                | IndexEntry::ExpectedRemote { version: before, origin },
            ) if before.is(&version) => *origin,
            Some(IndexEntry::Removed { .. }) => Origin::Remote,
            _ => attributed,
        };
        index.set_stored(path.as_str(), StoredFile { signature, hash, version, origin });
        Ok(())
    }

    /// Deletes the object of a removed file that came from the directory.
    pub(super) async fn delete(
        &self,
        path: &str,
        key: &Key,
        version: Option<&Version>,
    ) -> object_store::Result<()> {
        if let Some(version) = version
            && self.remote.delete(key, version).await?
        {
            return Ok(());
        }
        self.delete_unacknowledged(path, key).await
    }

    /// Deletes the object of an upload whose answer was lost. An object of another writer is kept.
    async fn delete_unacknowledged(&self, path: &str, key: &Key) -> object_store::Result<()> {
        if !self.index().has_unacknowledged(path) {
            return Ok(());
        }
        match self.remote.hash_of(key).await? {
            Some((hash, version)) if self.index().is_unacknowledged(path, &hash) => {
                self.remote.delete(key, &version).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}
