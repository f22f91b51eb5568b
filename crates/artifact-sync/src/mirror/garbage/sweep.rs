//! Sweep: deletion of what a fence has made superfluous.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;

use crate::error::SyncError;
use crate::log::{LogState, Token};
use crate::mirror::garbage::{
    Fence, GarbageReport, ListedBlob, Listing, References, SHORTEST_RETENTION, is_old,
};
use crate::mirror::shared::Shared;

/// Entries that are read at once.
const READS_AT_ONCE: usize = 4;
/// Objects that are deleted before the ownership is checked again.
const PER_DELETION: usize = 1_000;

/// Entries and blobs to delete.
#[derive(Debug, Default)]
pub(super) struct SweepPlan {
    entries: Vec<u64>,
    blobs: Vec<Token>,
    pub(super) report: GarbageReport,
}

impl Fence {
    /// Returns whether something that was listed may be superfluous, if it is old enough.
    fn may_delete(&self, listing: &Listing) -> bool {
        !listing.tombstones.is_empty()
            || listing.entries.iter().any(|entry| entry.number < self.retained)
            || listing.blobs.iter().any(|blob| !self.references.blobs.contains(&blob.name))
    }
}

impl Shared {
    /// Deletes what was listed before the fence and is not needed.
    pub(in crate::mirror) async fn sweep(
        &self,
        listing: Listing,
        fence: Fence,
        retention: Duration,
    ) -> Result<GarbageReport, SyncError> {
        let (number, size) = (fence.number, fence.size);
        if !fence.may_delete(&listing) {
            return Ok(GarbageReport {
                snapshot: Some(number),
                kept_entries: listing.entries.len() + 1,
                kept_blobs: listing.blobs.len(),
                kept_bytes: listing.size() + size,
                ..GarbageReport::default()
            });
        }
        let head = self.log.store().head(&self.log.entry_key(number)).await;
        let now = head.map_err(|source| self.unlisted(source))?.last_modified.timestamp();
        let SweepPlan { entries, blobs, mut report } =
            self.plan_sweep(&listing, fence, now, retention).await?;
        report.snapshot = Some(number);
        report.kept_entries += 1;
        report.kept_bytes += size;
        // Entries go first, the oldest before the others, so that every state that seems to be
        // retained has its contents.
        let entries = entries.into_iter().map(|number| self.log.entry_key(number)).collect();
        let blobs = blobs.into_iter().map(|name| self.log.blob_key(name)).collect();
        self.delete_garbage(entries).await?;
        self.delete_garbage(blobs).await?;
        // No home trusts for that long that it knows the end of the log.
        let tombstones = listing.tombstones.iter();
        let old = tombstones.filter(|tombstone| is_old(tombstone.at, now, SHORTEST_RETENTION));
        self.delete_garbage(old.map(|old| self.log.entry_key(old.number)).collect()).await?;
        Ok(report)
    }

    async fn delete_garbage(&self, keys: Vec<Key>) -> Result<(), SyncError> {
        for keys in keys.chunks(PER_DELETION) {
            if self.access.is_lost() {
                return Err(SyncError::LeaseLost);
            }
            self.log.delete(keys.to_vec()).await.map_err(|source| self.unlisted(source))?;
        }
        Ok(())
    }

    pub(super) async fn plan_sweep(
        &self,
        listing: &Listing,
        fence: Fence,
        now: i64,
        retention: Duration,
    ) -> Result<SweepPlan, SyncError> {
        let retention = retention.max(SHORTEST_RETENTION);
        let Fence { number, retained, mut references, .. } = fence;
        let Listing { blobs, entries, .. } = listing;
        let is_old = |at: i64| is_old(at, now, retention);
        let mut report = GarbageReport { kept_blobs: blobs.len(), ..GarbageReport::default() };
        let old_blobs = blobs.iter().filter(|blob| is_old(blob.at));
        let candidates: Vec<ListedBlob> =
            old_blobs.filter(|blob| !references.blobs.contains(&blob.name)).copied().collect();
        let has_old_entries =
            entries.iter().any(|entry| entry.number < retained && is_old(entry.at));
        let mut base = 0;
        if has_old_entries || !candidates.is_empty() {
            base = self.add_references(retained, number, &mut references).await?;
        }
        let mut plan = SweepPlan::default();
        let mut bytes = 0;
        for entry in entries.iter().filter(|entry| entry.number < base && is_old(entry.at)) {
            if !references.entries.contains(&entry.number) {
                bytes += entry.size;
                plan.entries.push(entry.number);
            }
        }
        for blob in candidates {
            if !references.blobs.contains(&blob.name) {
                bytes += blob.size;
                plan.blobs.push(blob.name);
            }
        }
        report.entries = plan.entries.len();
        report.kept_entries = entries.len() - plan.entries.len();
        report.blobs = plan.blobs.len();
        report.kept_blobs -= plan.blobs.len();
        (report.bytes, report.kept_bytes) = (bytes, listing.size() - bytes);
        plan.report = report;
        Ok(plan)
    }

    /// Adds the contents of all states from a number to the fence. Returns the number of the entry
    /// on which the oldest of these states is based.
    async fn add_references(
        &self,
        retained: u64,
        fence: u64,
        references: &mut References,
    ) -> Result<u64, SyncError> {
        let failed = |source| SyncError::Log { source };
        let oldest = retained.max(1);
        let base = match self.log.read(oldest).await.map_err(failed)? {
            Some(stored) => stored.entry.header.snapshot.max(1),
            None => oldest,
        };
        let mut state = LogState::default();
        let read = async |number| (number, self.log.read(number).await);
        let mut entries = futures::stream::iter(base..fence).map(read).buffered(READS_AT_ONCE);
        while let Some((number, stored)) = entries.next().await {
            // The owner before may have collected the entry, or the log begins later.
            let Some(stored) = stored.map_err(failed)? else { continue };
            if number <= oldest {
                state.apply_entry(&stored.entry);
            } else {
                references.add_lines(&stored.entry.lines);
            }
            if number == oldest {
                state.files().for_each(|(_, file)| references.add(&file.content));
                state = LogState::default();
            }
        }
        Ok(base)
    }

    /// Aborts multipart uploads of ended processes to which no pending change belongs any more.
    pub(super) async fn abort_ended_uploads(self: &Arc<Self>) -> usize {
        if self.ledger().uploads().values().all(|upload| upload.is_running) {
            return 0;
        }
        let shared = Arc::clone(self);
        let changes = blocking(move || shared.scan_changed()).await;
        let pending: HashSet<String> =
            changes.modified.into_iter().map(|entry| entry.path).collect();
        let ended: Vec<_> = {
            let ledger = self.ledger();
            let ended = ledger.uploads().iter().filter(|(_, upload)| {
                !upload.is_running
                    && !pending.contains(&upload.path)
                    && !ledger.is_claimed(&upload.path)
            });
            ended.map(|(blob, upload)| (*blob, upload.record.clone())).collect()
        };
        let mut aborted = 0;
        for (blob, record) in ended {
            let Some(record) = record else { continue };
            match self.blobs.abort(&record).await {
                Ok(()) => {
                    self.ledger().forget_upload(blob);
                    aborted += 1;
                }
                Err(error) => tracing::warn!(key = record.key, %error, "cannot abort an upload"),
            }
        }
        aborted
    }
}
