//! Garbage collection: entries and blobs that no retained state needs.
//!
//! 1. The blobs and the entries are listed.
//! 2. A snapshot is appended. It is the fence: a later entry refers only to contents of the current
//!    state and to uploads of its own. It also names the oldest state that stays retained: the last
//!    one before the retention time, or the snapshot before if that is older.
//! 3. Entries are deleted that are older than the retention time and that no retained state needs,
//!    neither as its base nor for the inline content of a file.
//! 4. Listed blobs are deleted that are older than the retention time, unless a retained state up
//!    to the snapshot refers to them or an upload of this machine names them.
//!
//! Ages are differences between times of the store, so the clock of this machine does not matter.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbox_core::internal::lock;
use sandbox_core::with_causes;
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::log::{
    Content, FileVersion, Line, Numbered, Owner, Position, Token, unbroken_run, unix_seconds,
};
use crate::mirror::Mirror;
use crate::mirror::contents::Contents;
use crate::mirror::shared::{Appender, SentBatch, Shared};

mod listing;
mod sweep;

pub(super) use listing::{ListedBlob, Listing};

/// Shortest retention time. Appends trust for ten minutes that a number was never used before, so
/// entries must live longer.
pub(super) const SHORTEST_RETENTION: Duration = Duration::from_secs(15 * 60);
/// Entries after which a snapshot is written, if the state is small.
const ENTRIES_PER_SNAPSHOT: u64 = 64;
/// Nodes of the state for which one more entry precedes a snapshot, so that snapshots of a large
/// state stay rare.
const NODES_PER_ENTRY: u64 = 64;
/// Lines below which the state counts as this large.
const MIN_LINES: usize = 64;

/// Options of [`Mirror::collect_garbage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GarbageOptions {
    /// Time for which superseded versions stay. By default, that of the mirror. It is 15 minutes at
    /// least.
    pub retention: Option<Duration>,
    /// Set to report what would be deleted, without a change of the store.
    pub dry_run: bool,
}

/// Result of [`Mirror::collect_garbage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GarbageReport {
    /// Number of the snapshot that was written; `None` in a dry run.
    pub snapshot: Option<u64>,
    /// Number of deleted entries.
    pub entries: usize,
    /// Number of deleted blobs.
    pub blobs: usize,
    /// Size of the deleted entries and blobs, in bytes.
    pub bytes: u64,
    /// Number of entries that stay.
    pub kept_entries: usize,
    /// Number of blobs that stay.
    pub kept_blobs: usize,
    /// Size of the entries and blobs that stay, in bytes.
    pub kept_bytes: u64,
    /// Number of multipart uploads of ended processes that were aborted.
    pub aborted_uploads: usize,
}

/// Snapshot after which nothing listed is referred to again, except the current state.
#[derive(Debug)]
pub(super) struct Fence {
    number: u64,
    /// Size of the snapshot in bytes.
    size: u64,
    /// Number of the oldest entry as of which the state stays retained.
    retained: u64,
    references: References,
}

/// Contents that stay.
#[derive(Debug, Default)]
struct References {
    blobs: HashSet<Token>,
    entries: HashSet<u64>,
}

impl References {
    fn add(&mut self, content: &Content) {
        match content {
            Content::Blob(name) => drop(self.blobs.insert(*name)),
            Content::Entry(number) => drop(self.entries.insert(*number)),
            Content::Inline(_) => {}
        }
    }

    fn add_lines(&mut self, lines: &[Line]) {
        for line in lines {
            if let Line::File { file: FileVersion { content, .. }, .. } = line {
                self.add(content);
            }
        }
    }
}

impl GarbageOptions {
    /// Returns options with a retention time.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Returns options of a dry run.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl Mirror {
    /// Deletes entries and blobs of the session log that are older than the retention time and that
    /// no retained state needs. The current state and its history within the retention time stay.
    ///
    /// # Errors
    /// Like [`Mirror::sync`]. Returns [`SyncError::Log`] if a retained entry cannot be read; no
    /// blob is deleted then.
    ///
    /// # Cancel safety
    /// The rest is deleted by the next collection.
    pub async fn collect_garbage(
        &self,
        options: GarbageOptions,
    ) -> Result<GarbageReport, SyncError> {
        let shared = &self.shared;
        let _call = self.enter().await?;
        let retention = options.retention.unwrap_or(shared.retention);
        let _collecting = shared.collecting.lock().await;
        match options.dry_run {
            true => shared.garbage(retention).await,
            false => shared.collect_garbage(retention).await,
        }
    }
}

impl Shared {
    /// Writes a snapshot or collects garbage if it is time. Runs after a call has returned.
    pub(super) async fn maintain(self: &Arc<Self>) {
        let Ok(_collecting) = self.collecting.try_lock() else { return };
        if self.access.check(&self.calls).is_err() {
            return;
        }
        let (now, collected) = (unix_seconds(), self.ledger().collected());
        let maintained = if collected == 0 {
            // Nothing of this machine is old enough yet.
            self.ledger().set_collected(now);
            return;
        } else if now.abs_diff(collected) > self.retention.max(SHORTEST_RETENTION).as_secs() {
            self.collect_garbage(self.retention).await.map(drop)
        } else if self.needs_snapshot() {
            self.append_snapshot().await
        } else {
            return;
        };
        if let Err(error) = maintained {
            let error = with_causes(&error);
            tracing::debug!(error, "the session log was not tidied up");
        }
    }

    fn needs_snapshot(&self) -> bool {
        let ledger = self.ledger();
        let (position, nodes) = (ledger.position(), ledger.log().nodes.len());
        let entries = position.number - position.snapshot;
        entries > ENTRIES_PER_SNAPSHOT + nodes as u64 / NODES_PER_ENTRY
            || ledger.lines_since_snapshot() > 2 * nodes.max(MIN_LINES)
    }

    async fn append_snapshot(self: &Arc<Self>) -> Result<(), SyncError> {
        let entries = self.log.list_numbers().await.map_err(|source| self.unlisted(source))?;
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        self.fence(&mut appender, &entries, self.retention, Vec::new()).await.map(drop)
    }

    async fn collect_garbage(
        self: &Arc<Self>,
        retention: Duration,
    ) -> Result<GarbageReport, SyncError> {
        self.access.check(&self.calls)?;
        let aborted_uploads = self.abort_ended_uploads().await;
        let listing = self.list_log().await.map_err(|source| self.unlisted(source))?;
        let fence = {
            let mut appender = self.appender.lock().await;
            self.settle(&mut appender).await?;
            self.fence(&mut appender, &listing.entries, retention, Vec::new()).await?
        };
        let mut report = self.sweep(listing, fence, retention).await?;
        report.aborted_uploads = aborted_uploads;
        self.ledger().set_collected(unix_seconds());
        Ok(report)
    }

    /// Returns what a collection would delete, as if the last entry were the fence.
    async fn garbage(&self, retention: Duration) -> Result<GarbageReport, SyncError> {
        let listing = self.list_log().await.map_err(|source| self.unlisted(source))?;
        let position = self.ledger().position();
        let mut references = self.running_references();
        let files = self.ledger().shared_log();
        files.files().for_each(|(_, file)| references.add(&file.content));
        let retained = retained_by(&listing.entries, position, retention);
        let fence = Fence { number: position.number + 1, size: 0, retained, references };
        let now = listing.newest().max(unix_seconds());
        Ok(self.plan_sweep(&listing, fence, now, retention).await?.report)
    }

    fn unlisted(&self, source: object_store::Error) -> SyncError {
        SyncError::List { prefix: self.log.prefix().to_string(), source }
    }

    pub(super) async fn list_log(&self) -> object_store::Result<Listing> {
        Listing::of(&self.log).await
    }

    /// Appends the fence, followed by more lines. The caller has settled.
    pub(super) async fn fence(
        &self,
        appender: &mut Appender,
        entries: &[Numbered],
        retention: Duration,
        more: Vec<Line>,
    ) -> Result<Fence, SyncError> {
        let retention = retention.max(SHORTEST_RETENTION);
        let forgotten = self.needless_records(entries, retention);
        let mut lines = self.snapshot(appender, &forgotten);
        lines.extend(more);
        // The uploads are read before the entry is sent: none of these blobs is in it otherwise.
        let mut references = self.running_references();
        references.add_lines(&lines);
        let retained = retained_by(entries, appender.writer.position(), retention);
        let sent = SentBatch {
            snapshot: Some(forgotten),
            retained: Some(retained),
            ..SentBatch::default()
        };
        self.append(appender, lines, sent).await?;
        let (number, size) = (appender.writer.position().number, appender.writer.last_size());
        Ok(Fence { number, size, retained, references })
    }

    /// Returns the contents to which running calls may refer later.
    fn running_references(&self) -> References {
        let mut references = References::default();
        references.blobs.extend(self.ledger().uploads().keys());
        let lent: Vec<Arc<Contents>> =
            lock(&self.lent).iter().filter_map(std::sync::Weak::upgrade).collect();
        lent.iter()
            .flat_map(|contents| contents.iter())
            .for_each(|content| references.add(content));
        references
    }

    /// Returns the lines of a snapshot without the records of these paths.
    pub(super) fn snapshot(&self, appender: &Appender, forgotten: &BTreeSet<String>) -> Vec<Line> {
        let ledger = self.ledger();
        let lines = ledger.log().snapshot().filter(|line| match line {
            Line::Removed { path, .. } => !forgotten.contains(path),
            Line::Projected { .. } => false,
            Line::Adopted { path, version } => {
                // The current file's object would still be there after a removal.
                let current = ledger.log().file(path).and_then(|file| file.adopted.as_deref());
                !forgotten.contains(path) || current == Some(version)
            }
            _ => true,
        });
        let mut lines: Vec<Line> = lines.collect();
        if let (Some(Line::Own { home, url }), Some(first)) = (&appender.own, lines.first_mut()) {
            // The line before the snapshot makes this home the owner.
            let epoch = appender.writer.position().number + 1;
            let owner = Owner { home: home.clone(), url: url.clone(), epoch };
            *first = Line::Snapshot { owner: Some(owner), began: ledger.log().began };
        }
        let current = ledger.all_seen().filter(|(path, seen)| {
            ledger.log().file(path).is_some_and(|file| file.token == seen.token)
        });
        lines.extend(current.map(|(path, seen)| Line::Projected {
            path: path.clone(),
            version: seen.version.clone(),
        }));
        lines
    }

    /// Returns the paths whose records of removed and adopted objects are no longer needed: they
    /// are older than the retention time, and the projection was compared since.
    fn needless_records(&self, entries: &[Numbered], retention: Duration) -> BTreeSet<String> {
        let newest = entries.iter().map(|entry| entry.at).max().unwrap_or(0);
        let old = oldest_run(entries, newest, retention).map_or(0, |entry| entry.number);
        let compared = match self.projection {
            Some(_) => self.compared.load(Ordering::Acquire),
            // An object that was seen before the projection was turned off keeps its records.
            None => u64::MAX,
        };
        let ledger = self.ledger();
        let log = ledger.log();
        let is_needless = |path: &&String| {
            let (file, seen) = (log.file(path), ledger.seen(path));
            let agrees = file.map(|file| file.token) == seen.map(|seen| seen.token);
            let numbers = [
                file.map(|file| file.number),
                log.removed.get(*path).map(|removal| removal.number),
            ];
            let number = numbers.into_iter().flatten().max().unwrap_or(0);
            let is_projected = !ledger.unprojected().contains(*path);
            agrees && is_projected && number <= old.min(compared)
        };
        log.removed.keys().chain(log.adopted.keys()).filter(is_needless).cloned().collect()
    }
}

fn is_old(at: i64, now: i64, retention: Duration) -> bool {
    let retention = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
    now.saturating_sub(at) > retention
}

/// Returns the last of the entries before the first young one.
fn oldest_run(entries: &[Numbered], now: i64, retention: Duration) -> Option<Numbered> {
    entries.iter().take_while(|entry| is_old(entry.at, now, retention)).last().copied()
}

/// Returns the number of the oldest entry as of which the state stays retained: the last old one,
/// because its state was current within the retention time. At least the states since the snapshot
/// before the fence stay.
fn retained_by(entries: &[Numbered], position: Position, retention: Duration) -> u64 {
    // Other programs wrote the objects after the end.
    let end = entries.partition_point(|entry| entry.number <= position.number);
    let run = unbroken_run(&entries[..end]);
    let newest = run.last().map_or(0, |entry| entry.at);
    let last_old = oldest_run(run, newest, retention.max(SHORTEST_RETENTION));
    let last_old = last_old.map_or(0, |entry| entry.number);
    position.retained.max(last_old.min(position.snapshot))
}
