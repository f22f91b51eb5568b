//! Adoption of external objects: they become versions of the log, and then files.

mod plan;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use sandbox_core::internal::{blocking, lock};
use sandbox_core::{FileError, RelativePath, Replaced, with_causes};

use crate::error::SyncError;
use crate::log::{Content, FileVersion, Hash, MAX_INLINE_BYTES_PER_ENTRY, Node};
use crate::mirror::place::{Expected, conflict_path, place_file, place_other, preserved, remove};
use crate::mirror::shared::{FollowUp, SentBatch, Shared};
use crate::report::{ConflictCopy, RestoreFailure, RestoreReport};
use crate::scan::{RecordedSignature, Signature};
use crate::state::{KnownObject, Version};
use crate::transfer::{
    ContentError, Fetched, Observed, PART_BYTES, Projection, is_executable, read_at,
};

use plan::{place_of, plan_adoption};

/// External objects that one entry adopts at most.
const PER_ENTRY: usize = 256;
/// Concurrent downloads.
const FETCHES_AT_ONCE: usize = 16;
/// Mode of a file that another program wrote.
const MODE: u16 = 0o644;
const EXECUTABLE_MODE: u16 = 0o755;

/// External object that was fetched, and whose content the store has as a blob or inline.
struct External {
    path: RelativePath,
    /// Path at which the file is staged.
    place: RelativePath,
    fetched: Fetched,
    version: Version,
    content: Content,
    modified: (i64, u32),
    is_executable: bool,
}

/// External object with the lines that adopt it.
#[derive(Debug)]
pub(super) struct Adoption {
    /// Path of the file; another one if the object's path is taken by a directory or below a file.
    path: RelativePath,
    object: RelativePath,
    fetched: Fetched,
    file: FileVersion,
    /// Path for the version of the log that the other writer did not see.
    beside: Option<(RelativePath, FileVersion)>,
}

impl Adoption {
    /// Returns the adoption of an older version of the file.
    pub(super) fn restored(path: RelativePath, fetched: Fetched, file: FileVersion) -> Self {
        Self { path: path.clone(), object: path, fetched, file, beside: None }
    }

    /// Returns the paths of the files.
    pub(super) fn paths(&self) -> Vec<&RelativePath> {
        [&self.path].into_iter().chain(self.beside.as_ref().map(|(path, _)| path)).collect()
    }
}

impl Shared {
    /// Adopts external objects. The working copy changes after the log has them.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        projection: &Projection,
        external: Vec<(String, ObjectMeta)>,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        let mut external = external.into_iter().peekable();
        while external.peek().is_some() {
            let some: Vec<_> = external.by_ref().take(PER_ENTRY).collect();
            let inline_left = AtomicU64::new(MAX_INLINE_BYTES_PER_ENTRY);
            let fetched: Vec<_> = futures::stream::iter(some)
                .map(async |(path, meta)| {
                    let key = meta.location.to_string();
                    (key, self.fetch_external(projection, &path, &meta, &inline_left).await)
                })
                .buffered(FETCHES_AT_ONCE)
                .collect()
                .await;
            let mut ready = Vec::new();
            for (key, fetched) in fetched {
                match fetched {
                    Ok(external) => ready.extend(external),
                    // A directory marker: it is listed without its slash but does not exist under
                    // that key.
                    Err(SyncError::Fetch {
                        source: object_store::Error::NotFound { .. }, ..
                    }) => {}
                    Err(error) => {
                        report.failed.push(RestoreFailure { key, reason: with_causes(&error) });
                    }
                }
            }
            self.append_adoptions(ready, report).await?;
        }
        Ok(())
    }

    /// Fetches an object. Returns `None` if it has the content that the log has.
    async fn fetch_external(
        &self,
        projection: &Projection,
        path: &str,
        meta: &ObjectMeta,
        inline_left: &AtomicU64,
    ) -> Result<Option<External>, SyncError> {
        let Ok(relative) = RelativePath::parse(path) else { return Ok(None) };
        let failed = |source| SyncError::Fetch { key: meta.location.to_string(), source };
        let Some(observed) = projection.inspect_object(path).await.map_err(failed)? else {
            return Ok(None);
        };
        let Observed { meta, attributes, .. } = observed;
        let version = Version::from(&meta);
        let place = place_of(&self.ledger(), &relative, &version);
        let fetched = self.fetcher.fetch_object(&place, &meta.location).await?;
        // Another version may have come in between, which the next refresh adopts.
        let now = projection.remote.store().head(&meta.location).await.map_err(failed)?;
        if !version.is(&Version::from(&now)) && version.etag.is_some() {
            return Ok(None);
        }
        {
            let mut ledger = self.ledger();
            let current = ledger.log().file(path);
            if let Some(token) = current.filter(|file| file.hash == fetched.hash).map(|f| f.token) {
                ledger.set_seen(path, KnownObject { token, version });
                return Ok(None);
            }
        }
        let content = self.store_fetched(&relative, &fetched, inline_left).await?;
        let modified = (
            meta.last_modified.timestamp(),
            meta.last_modified.timestamp_subsec_nanos().min(999_999_999),
        );
        let is_executable = is_executable(&attributes);
        Ok(Some(External {
            path: relative,
            place,
            fetched,
            version,
            content,
            modified,
            is_executable,
        }))
    }

    /// Stores a fetched content as a blob, or returns it inline.
    pub(super) async fn store_fetched(
        &self,
        path: &RelativePath,
        fetched: &Fetched,
        inline_left: &AtomicU64,
    ) -> Result<Content, SyncError> {
        let io =
            |source| FileError::Io { operation: "read", path: path.as_ref().to_owned(), source };
        let source = Arc::new(fetched.staged.file().try_clone().map_err(io)?);
        let size = fetched.size;
        if size <= PART_BYTES {
            let _memory = self.blobs.reserve(size).await;
            let read = Arc::clone(&source);
            let content = blocking(move || read_at(&read, 0, size)).await;
            let content = Bytes::from(content.map_err(io)?);
            let stored = self.blobs.store_bytes(path.as_str(), content, inline_left, self).await;
            return stored.map_err(|source| SyncError::Append { source });
        }
        let stored = self.blobs.store_open_file(path.as_str(), &source, self).await;
        match stored {
            Ok(Some((_, content))) => Ok(content),
            Ok(None) => Err(SyncError::LocalChange { path: path.clone() }),
            Err(ContentError::Retryable(problem) | ContentError::Permanent(problem)) => {
                Err(SyncError::Damaged { path: path.clone(), problem })
            }
            Err(ContentError::Gone) => Err(SyncError::LocalChange { path: path.clone() }),
        }
    }

    async fn append_adoptions(
        self: &Arc<Self>,
        externals: Vec<External>,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        if externals.is_empty() {
            return Ok(());
        }
        let flushed = self.flush_contents(externals.iter().map(|external| &external.content)).await;
        flushed.map_err(|source| SyncError::Append { source })?;
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let (mut lines, mut adoptions) = (Vec::new(), Vec::new());
        {
            let ledger = self.ledger();
            for external in externals {
                // The change that is being stored conflicts with the object, and comes back here.
                if ledger.is_claimed(external.path.as_str()) {
                    lock(&self.external).insert(external.path.to_string());
                    continue;
                }
                adoptions.extend(plan_adoption(&ledger, external, &mut lines));
            }
        }
        if adoptions.is_empty() {
            return Ok(());
        }
        let adopt = |adoption| FollowUp::Adopt(Box::new(adoption));
        let follow_ups = adoptions.into_iter().map(adopt).collect();
        let sent = SentBatch { follow_ups, ..SentBatch::default() };
        report.extend(self.append(&mut appender, lines, sent).await?);
        Ok(())
    }

    /// Makes the working copy follow an external change that the log has. Returns whether it does.
    pub(super) async fn follow(
        &self,
        follow_up: FollowUp,
        number: u64,
        report: &mut RestoreReport,
        signatures: &mut Vec<(String, RecordedSignature)>,
    ) -> bool {
        let (path, followed) = match follow_up {
            FollowUp::Adopt(adoption) => {
                let path = adoption.object.clone();
                (path, self.follow_adoption(*adoption, number, report, signatures).await)
            }
            FollowUp::Restore { path, node } => {
                let beside = conflict_path(&path, Hash::of(path.as_str().as_bytes()));
                let placed = place_other(&self.dir, &path, &node, Expected::Nothing, &beside).await;
                self.tracker.mark_dirty(path.as_str());
                if let Ok(replaced) = &placed {
                    report.restored.push(path.clone());
                    if let Some(kept_as) = preserved(&beside, replaced) {
                        self.tracker.mark_dirty(kept_as.as_str());
                        report.conflicts.push(ConflictCopy { path: path.clone(), kept_as });
                    }
                }
                (path, placed.map(drop).map_err(SyncError::from))
            }
            FollowUp::Remove { path, local, hash } => {
                let beside = conflict_path(&path, hash);
                let expected = Expected::recorded(local, hash);
                let removed = remove(&self.dir, &path, expected, &beside).await;
                self.tracker.mark_dirty(path.as_str());
                self.ledger().set_unseen(path.as_str());
                if removed.is_ok() {
                    report.removed.push(path.clone());
                }
                let kept_as = removed.as_ref().ok().and_then(|it| preserved(&beside, it));
                if let Some(kept_as) = kept_as {
                    self.tracker.mark_dirty(kept_as.as_str());
                    report.conflicts.push(ConflictCopy { path: path.clone(), kept_as });
                }
                (path, removed.map(drop).map_err(SyncError::from))
            }
        };
        let Err(error) = followed else { return true };
        let reason = with_causes(&error);
        report.failed.push(RestoreFailure { key: path.to_string(), reason });
        false
    }

    /// Puts an adopted file in place. A file that was changed here is kept beside.
    async fn follow_adoption(
        &self,
        adoption: Adoption,
        number: u64,
        report: &mut RestoreReport,
        signatures: &mut Vec<(String, RecordedSignature)>,
    ) -> Result<(), SyncError> {
        let Adoption { path, object, fetched, file, beside } = adoption;
        let file = FileVersion { number, ..file };
        // A working copy without a journal may have the content already.
        let is_same = |signature: Signature| {
            (signature.mode, signature.modified) == (file.mode, file.modified)
        };
        // An older version that was asked for also brings its mode.
        let brings_mode = file.adopted.is_none() && self.unchanged(&path).is_some();
        if let Some(signature) = self.hashed(path.as_str(), file.hash)
            && beside.is_none()
            && (is_same(signature.signature) || !brings_mode)
        {
            // A mode or a time that differs is a change, which the next scan finds.
            if is_same(signature.signature) {
                signatures.push((path.as_str().to_owned(), signature));
            }
            self.tracker.mark_dirty(path.as_str());
            if let Some(version) = file.adopted.as_deref().cloned().filter(|_| path == object) {
                self.ledger().set_seen(path.as_str(), KnownObject { token: file.token, version });
            }
            return Ok(());
        }
        let expected = match beside {
            Some(_) => Expected::Nothing,
            None => self.replaceable(&path),
        };
        let hash = match &beside {
            Some((_, old)) => old.hash,
            None => hash_of(self, &path).await.unwrap_or(file.hash),
        };
        let kept_as = beside.as_ref().map_or_else(|| conflict_path(&path, hash), |b| b.0.clone());
        let (signature, replaced) = place_file(fetched, &file, expected, &kept_as).await?;
        signatures.push((path.as_str().to_owned(), signature));
        let adopted = file.adopted.as_deref().cloned();
        if let Some(version) = adopted.filter(|_| path == object) {
            self.ledger().set_seen(path.as_str(), KnownObject { token: file.token, version });
        }
        if let Some((kept_as, old)) = &beside
            && replaced == Replaced::Nothing
        {
            let fetched = self.fetcher.fetch(kept_as, old).await?;
            let (signature, _) = place_file(fetched, old, Expected::Nothing, kept_as).await?;
            signatures.push((kept_as.to_string(), signature));
        }
        let preserved = preserved(&kept_as, &replaced);
        if let Some(kept_as) = &preserved {
            self.tracker.mark_dirty(kept_as.as_str());
        }
        let kept_as = if path == object { preserved } else { Some(path.clone()) };
        if let Some(kept_as) = kept_as {
            report.conflicts.push(ConflictCopy { path: object.clone(), kept_as });
        }
        self.tracker.mark_dirty(path.as_str());
        report.restored.push(path);
        Ok(())
    }
}

impl Shared {
    /// Returns the object of the working copy that the log holds, so that it may be replaced.
    fn replaceable(&self, path: &RelativePath) -> Expected {
        let (local, hash) = {
            let ledger = self.ledger();
            if let Some(Node::Symlink { target }) = ledger.log().nodes.get(path.as_str()) {
                let found = self.tracker.inspect(path).symlinks;
                let is_stored = found.iter().any(|link| link.target == *target);
                return if is_stored { Expected::Symlink } else { Expected::Nothing };
            }
            // A batch is storing a change that may not be in the store yet.
            let local = ledger.local(path.as_str()).filter(|_| !ledger.is_claimed(path.as_str()));
            (local.copied(), ledger.log().file(path.as_str()).map(|file| file.hash))
        };
        let recorded = |(local, hash)| Expected::recorded(local, hash);
        local.zip(hash).map_or(Expected::Nothing, recorded)
    }
}

async fn hash_of(shared: &Shared, path: &RelativePath) -> Option<Hash> {
    let (dir, path) = (Arc::clone(&shared.dir), path.clone());
    blocking(move || Some(Hash::of_file(&dir.open_file(&path).ok()?).ok()?.0)).await
}
