//! Deletion of a session everywhere.
//!
//! The log is listed first. Then an entry records the deletion, so that no other home appends
//! before it. Then everything listed is deleted, older entries last: as long as one is left, the
//! deletion is unfinished, and the next opening finishes it. Tombstones take the places of entries
//! so young that another home may not know them yet: it must not append under their numbers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta};
use sandbox_core::internal::{blocking, lock};
use tokio::time::timeout;

use crate::builder::MirrorBuilder;
use crate::error::SyncError;
use crate::log::{AppendError, Line, LogStore, LogWriter, Moment, Position, Token, is_tombstone};
use crate::mirror::Mirror;
use crate::mirror::close::{finish_closing, remove_rest};
use crate::mirror::garbage::SHORTEST_RETENTION;
use crate::mirror::leftovers::sweep_erased;
use crate::mirror::open::Parts;
use crate::mirror::refresh::ProjectionListing;
use crate::mirror::shared::{SentBatch, Shared};
use crate::state::{Ledger, Stage, Version};
use crate::transfer::{Listed, Remote};

/// Concurrent deletions of objects of the projection.
const DELETIONS_AT_ONCE: usize = 32;
/// Largest number of other homes that may append while a deletion is finished.
const MAX_RIVALS: usize = 10;

/// Parts of the log that a deletion leaves to delete.
#[derive(Debug)]
struct Remains {
    entries: Vec<(u64, ObjectMeta)>,
    blobs: Vec<Token>,
}

impl Mirror {
    /// Deletes the session everywhere: its files, its log except for a final entry, and the local
    /// copy. Its history is gone too.
    ///
    /// # Errors
    /// Returns the error of the store or of the disk. A repeated call continues, and so does the
    /// next opening: the id then begins anew. Unless the log may have recorded the deletion, the
    /// mirror can be used further.
    ///
    /// # Cancel safety
    /// The mirror accepts no other calls. A repeated call continues.
    pub async fn erase(&self) -> Result<(), SyncError> {
        let shared = &self.shared;
        remove_rest(shared.dir.path()).await?;
        let is_repeated = matches!(shared.ledger().stage(), Stage::Erasing | Stage::Closing);
        if !is_repeated {
            let _call = self.enter().await?;
            // No entry is under way now, and none but the deletion follows.
            let _appender = shared.appender.lock().await;
            shared.access.begin_closing();
            shared.ledger().set_stage(Stage::Erasing);
        }
        self.stop_tasks();
        // Until then, a call may store contents that the listing misses.
        let _ = timeout(self.deadline, shared.calls.finished()).await;
        match self.erase_objects(is_repeated).await {
            // Another home has used the id again. It deleted the rest before.
            Err(SyncError::LeaseLost) if is_repeated => {}
            erased => erased?,
        }
        shared.delete_local().await
    }

    /// Records the deletion in the log, and deletes the session from the store.
    async fn erase_objects(&self, is_repeated: bool) -> Result<(), SyncError> {
        let shared = &self.shared;
        let mut appender = shared.appender.lock().await;
        let listed = async {
            shared.settle(&mut appender).await?;
            Remains::list(&shared.log).await
        };
        let mut remains = match listed.await {
            Err(error) if !is_repeated => {
                shared.ledger().set_stage(Stage::Open);
                shared.access.end_closing();
                return Err(error);
            }
            listed => listed?,
        };
        let paths = shared.staged_paths();
        // After a crash, the next opening finds out whether the log has the entry.
        shared.append(&mut appender, vec![Line::Erased], SentBatch::default()).await?;
        let number = appender.writer.position().number;
        drop(appender);
        remains.blobs.extend(shared.ledger().uploads().keys());
        let recorded = written(&shared.log, number).await?;
        let uploads = shared.ledger().forget_uploads();
        shared.blobs.abort_all(&uploads).await;
        remains.delete(&shared.log, &shared.remote, number, recorded).await?;
        let (remote, prefix) = (Arc::clone(&shared.remote), shared.log.prefix().clone());
        blocking(move || sweep_erased(&remote, &prefix, &paths)).await;
        Ok(())
    }

    /// Ends uploads and retries.
    fn stop_tasks(&self) {
        lock(&self.uploads).drain(..).for_each(|task| task.abort());
        if let Some(task) = lock(&self.retries).take() {
            task.abort();
        }
    }
}

impl Shared {
    /// Returns an error if the session is being deleted everywhere. A later entry would begin it
    /// anew.
    pub(super) fn check_stage(&self) -> Result<(), SyncError> {
        match self.ledger().stage() {
            Stage::Erasing => Err(SyncError::Closing),
            _ => Ok(()),
        }
    }
}

impl Parts {
    /// Returns whether the log records the deletion that this machine has begun.
    pub(super) async fn is_erased(&self, ledger: &mut Ledger) -> Result<bool, SyncError> {
        self.find_sent(ledger).await?;
        if ledger.log().is_erased {
            return Ok(true);
        }
        // The entry is gone if another home has recorded the deletion again.
        let failed = |source| SyncError::Log { source };
        let listed = self.log.list_numbers().await.map_err(|source| failed(source.into()))?;
        let first = listed.first().map(|entry| entry.number);
        let Some(first) = first.filter(|first| *first > ledger.position().number) else {
            return Ok(false);
        };
        let first = self.log.read(first).await.map_err(failed)?;
        Ok(first.is_some_and(|first| first.entry.lines.contains(&Line::Erased)))
    }

    /// Finishes on this machine a deletion that the log records.
    pub(super) async fn finish_local_erasure(&self, ledger: &mut Ledger) -> Result<(), SyncError> {
        let seen = ledger.all_seen().map(|(path, _)| path);
        let paths: BTreeSet<String> = ledger.locals().keys().chain(seen).cloned().collect();
        let (remote, prefix) = (Arc::clone(&self.remote), self.log.prefix().clone());
        blocking(move || sweep_erased(&remote, &prefix, &paths)).await;
        finish_closing(&self.settings.dir, ledger).await
    }
}

impl MirrorBuilder {
    /// Finishes the deletion of a session in the store, if another machine began it and was
    /// interrupted. Returns false if the session is not deleted, or has begun anew since. It stays
    /// as it is then.
    ///
    /// # Errors
    /// Returns the error of the store. A repeated call continues.
    pub async fn finish_erasure(self) -> Result<bool, SyncError> {
        let log = self.log();
        let remote = Arc::new(self.remote());
        for _ in 0..MAX_RIVALS {
            let read = Moment::now();
            let failed = |source: Error| SyncError::Log { source: source.into() };
            let listed = log.list_numbers().await.map_err(failed)?;
            let Some(last) = listed.last() else { return Ok(true) };
            let end = log.read(last.number).await.map_err(|source| SyncError::Log { source })?;
            // Another home has just deleted what was listed.
            let Some(end) = end else { continue };
            if !end.entry.lines.contains(&Line::Erased) {
                return Ok(false);
            }
            if listed.len() == 1 {
                return Ok(true);
            }
            let mut writer = LogWriter::new(log.clone(), Position::of(&end), read);
            match finish_erasure(&log, &remote, &mut writer, self.ownership.line()).await {
                // Another home finishes it, or has used the id again.
                Err(SyncError::LeaseLost) => {}
                finished => return finished.map(|()| true),
            }
        }
        Err(SyncError::LeaseLost)
    }
}

/// Finishes a deletion that was interrupted. Returns [`SyncError::LeaseLost`] if another home
/// appended meanwhile. `own` is the line with which this home may append.
pub(super) async fn finish_erasure(
    log: &LogStore,
    remote: &Arc<Remote>,
    writer: &mut LogWriter,
    own: Line,
) -> Result<(), SyncError> {
    let remains = Remains::list(log).await?;
    // What other programs have put since is meant for the next session of this id.
    let recorded = written(log, writer.position().number).await?;
    let properties = remote.properties().await;
    let properties = properties.map_err(|source| SyncError::Append { source })?;
    writer.set_conditional_create(properties.create);
    // What another home has stored since the listing is not in it, and what it stored before can
    // never be appended.
    let appended = writer.append(vec![own, Line::Erased]).await;
    let number = appended.map_err(|error: AppendError| SyncError::from(error))?.position.number;
    remains.delete(log, remote, number, recorded).await?;
    let (remote, prefix) = (Arc::clone(remote), log.prefix().clone());
    blocking(move || sweep_erased(&remote, &prefix, &BTreeSet::new())).await;
    Ok(())
}

/// Returns the time at which an entry was stored, by the store's clock.
async fn written(log: &LogStore, number: u64) -> Result<SystemTime, SyncError> {
    let written =
        log.written(number).await.map_err(|source| SyncError::Log { source: source.into() })?;
    Ok(written.unwrap_or_else(SystemTime::now))
}

impl Remains {
    async fn list(log: &LogStore) -> Result<Self, SyncError> {
        let unlisted = |source| SyncError::List { prefix: log.prefix().to_string(), source };
        let entries = log.list_with_tombstones().await.map_err(unlisted)?;
        let blobs = log.store().list(Some(&log.blobs()));
        let name = async |meta: ObjectMeta| Ok(meta.location.filename().and_then(Token::parse));
        let blobs = match blobs.try_filter_map(name).try_collect().await {
            Err(Error::NotFound { .. }) => Vec::new(),
            other => other.map_err(unlisted)?,
        };
        Ok(Self { entries, blobs })
    }

    /// Deletes the blobs and the entries before the one with this number, and the objects of the
    /// projection, as of the time at which the deletion was recorded.
    async fn delete(
        self,
        log: &LogStore,
        remote: &Arc<Remote>,
        number: u64,
        recorded: SystemTime,
    ) -> Result<(), SyncError> {
        let failed = |source| SyncError::List { prefix: log.prefix().to_string(), source };
        delete_projection(remote, recorded).await?;
        let blobs: Vec<Key> = self.blobs.into_iter().map(|name| log.blob_key(name)).collect();
        log.delete(blobs).await.map_err(failed)?;
        let older = self.entries.into_iter().filter(|(entry, _)| *entry < number);
        let (young, old): (Vec<_>, Vec<_>) = older.partition(|(_, meta)| {
            let age = recorded.duration_since(meta.last_modified.into()).unwrap_or_default();
            age < SHORTEST_RETENTION
        });
        let young = young.into_iter().filter(|(_, meta)| !is_tombstone(meta));
        futures::stream::iter(young)
            .map(async |(entry, _)| log.bury(entry).await)
            .buffer_unordered(DELETIONS_AT_ONCE)
            .try_collect::<()>()
            .await
            .map_err(failed)?;
        let old = old.into_iter().map(|(entry, _)| log.entry_key(entry));
        log.delete(old.collect()).await.map_err(failed)
    }
}

/// Deletes the objects of the projection, also of one that was turned off. Objects that were put
/// after the deletion was recorded belong to the next session of this id.
async fn delete_projection(remote: &Arc<Remote>, recorded: SystemTime) -> Result<(), SyncError> {
    let failed = |source| SyncError::List { prefix: remote.prefix().to_string(), source };
    let mut listing = ProjectionListing::begin(remote);
    while let Some(batch) = listing.next().await.map_err(failed)? {
        let objects = batch.into_iter().filter_map(|listed| match listed {
            Listed::Object(meta) => Some(meta),
            // A key that is no path cannot be deleted.
            Listed::OddKey { .. } | Listed::Incomplete { .. } => None,
        });
        let objects = objects.filter(|meta| SystemTime::from(meta.last_modified) <= recorded);
        futures::stream::iter(objects)
            .map(async |meta| remote.delete(&meta.location, &Version::from(&meta)).await.map(drop))
            .buffer_unordered(DELETIONS_AT_ONCE)
            .try_collect::<()>()
            .await
            .map_err(failed)?;
    }
    Ok(())
}
