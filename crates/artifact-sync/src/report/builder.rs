//! Construction of a [`SyncReport`] from single outcomes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::paths::relative;
use crate::report::types::{ChangedFile, ConflictCopy, Pending, SyncReport};
use crate::scan::{SkipReason, Skipped};

/// Outcome of one change.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The log has the version since this entry. The object may still be missing.
    Stored {
        key: Option<Key>,
        url: Option<String>,
        number: u64,
    },
    /// The store had this content already, or the file no longer exists.
    Unchanged,
    Deleted,
    Pending(String),
    Skipped(SkipReason),
}

/// State that earlier reports of a mirror have named.
#[derive(Debug, Default)]
pub(crate) struct ReportedState(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    /// Pending changes with the reasons that were reported.
    pending: HashMap<String, String>,
    skipped: HashSet<Skipped>,
    /// Stored files whose object is still missing, so that no report has had its link.
    awaited: HashSet<String>,
    /// Changes that no report has named, because their call had returned or was dropped.
    late: Late,
}

#[derive(Debug, Default)]
struct Late {
    changed: BTreeMap<String, ChangedFile>,
    deleted: BTreeMap<String, RelativePath>,
    conflicts: Vec<ConflictCopy>,
    skipped: Vec<Skipped>,
}

impl ReportedState {
    /// Makes the next report name all skipped files and pending changes again.
    pub(crate) fn forget(&self) {
        let mut reported = self.lock();
        reported.skipped.clear();
        reported.pending.clear();
    }

    /// Returns whether a report has named the change of a path as pending.
    pub(crate) fn is_pending(&self, path: &str) -> bool {
        self.lock().pending.contains_key(path)
    }

    /// Keeps the outcome of a change for the next report.
    pub(crate) fn add_completed_late(&self, path: String, outcome: Outcome) {
        let mut reported = self.lock();
        if matches!(outcome, Outcome::Pending(_)) {
            return;
        }
        reported.pending.remove(&path);
        let Some(relative) = relative(&path) else { return };
        match outcome {
            Outcome::Stored { key, url, number } => {
                reported.late.deleted.remove(&path);
                let changed = ChangedFile { path: relative, entry: Some(number), key, url };
                reported.late.changed.insert(path, changed);
            }
            Outcome::Deleted => {
                reported.late.changed.remove(&path);
                reported.late.deleted.insert(path, relative);
            }
            Outcome::Skipped(reason) => reported.late.skipped.push(Skipped { path, reason }),
            Outcome::Unchanged | Outcome::Pending(_) => {}
        }
    }

    /// Makes a later report name a file again once its object exists.
    pub(crate) fn await_object(&self, path: &str) {
        self.lock().awaited.insert(path.to_owned());
    }

    /// Returns the files that a later report names again.
    pub(crate) fn awaited(&self) -> Vec<String> {
        self.lock().awaited.iter().cloned().collect()
    }

    /// Returns whether a report should name a file again, because its object exists now.
    pub(crate) fn take_awaited(&self, path: &str) -> bool {
        self.lock().awaited.remove(path)
    }

    /// Keeps conflicts for the next report.
    pub(crate) fn add_conflicts(&self, conflicts: Vec<ConflictCopy>) {
        self.lock().late.conflicts.extend(conflicts);
    }

    fn lock(&self) -> MutexGuard<'_, Reported> {
        lock(&self.0)
    }
}

/// Builder of one report. If it is dropped unfinished, the next report names what it had.
pub(crate) struct ReportBuilder<'r> {
    reported: &'r ReportedState,
    /// Changes without an outcome.
    waiting: HashSet<String>,
    /// Removals, which leave no changed file.
    removed: HashSet<String>,
    report: SyncReport,
}

impl<'r> ReportBuilder<'r> {
    pub(crate) fn new(
        reported: &'r ReportedState,
        waiting: impl IntoIterator<Item = String>,
        removed: HashSet<String>,
        skipped: Vec<Skipped>,
    ) -> Self {
        let waiting = waiting.into_iter().collect();
        let mut builder = Self { reported, waiting, removed, report: SyncReport::default() };
        skipped.into_iter().for_each(|skipped| builder.skip(skipped));
        builder
    }

    /// Adds a skipped file, unless an earlier report of this mirror has named it.
    fn skip(&mut self, skipped: Skipped) {
        if self.reported.lock().skipped.insert(skipped.clone()) {
            self.report.skipped.push(skipped);
        }
    }

    pub(crate) fn add(&mut self, path: String, outcome: Outcome) {
        self.waiting.remove(&path);
        let Some(relative) = relative(&path) else {
            return self.skip(Skipped { path, reason: SkipReason::PathTooLong });
        };
        match outcome {
            Outcome::Pending(reason) => return self.add_pending(relative, reason),
            Outcome::Stored { key, url, number } => {
                let changed = ChangedFile { path: relative, entry: Some(number), key, url };
                self.report.changed.push(changed);
            }
            Outcome::Deleted => self.report.deleted.push(relative),
            Outcome::Skipped(reason) => self.skip(Skipped { path: path.clone(), reason }),
            Outcome::Unchanged => {}
        }
        self.reported.lock().pending.remove(&path);
    }

    fn add_pending(&mut self, path: RelativePath, reason: String) {
        let is_new = !self.reported.is_pending(path.as_str());
        if is_new && !self.removed.contains(path.as_str()) {
            let (entry, key, url) = (None, None, None);
            self.report.changed.push(ChangedFile { path: path.clone(), entry, key, url });
        }
        self.add_pending_elsewhere(Pending { path, reason });
    }

    /// Counts a change that another call is storing, if an earlier report has named it.
    pub(crate) fn count_pending(&mut self, path: &str) {
        if self.reported.is_pending(path) {
            self.report.still_pending += 1;
        }
    }

    /// Adds a change that another call is storing.
    pub(crate) fn add_pending_elsewhere(&mut self, pending: Pending) {
        let (path, reason) = (pending.path.to_string(), pending.reason.clone());
        let before = self.reported.lock().pending.insert(path, reason);
        if before.as_ref() == Some(&pending.reason) {
            self.report.still_pending += 1;
        } else {
            self.report.pending.push(pending);
        }
    }

    /// Returns the report. Changes without an outcome become pending for this reason. `entry` is
    /// the number of the last known entry.
    pub(crate) fn finish(mut self, reason: &str, entry: u64) -> SyncReport {
        for path in std::mem::take(&mut self.waiting) {
            match relative(&path) {
                Some(relative) => self.add_pending(relative, reason.to_owned()),
                None => self.skip(Skipped { path, reason: SkipReason::PathTooLong }),
            }
        }
        let late = std::mem::take(&mut self.reported.lock().late);
        for (_, changed) in late.changed {
            if self.report.changed.iter().all(|other| other.path != changed.path) {
                self.report.changed.push(changed);
            }
        }
        for (_, path) in late.deleted {
            if !self.report.deleted.contains(&path) {
                self.report.deleted.push(path);
            }
        }
        late.skipped.into_iter().for_each(|skipped| self.skip(skipped));
        self.report.conflicts.extend(late.conflicts);
        self.report.changed.sort_by(|a, b| a.path.cmp(&b.path));
        self.report.deleted.sort();
        self.report.pending.sort_by(|a, b| a.path.cmp(&b.path));
        self.report.entry = entry;
        std::mem::take(&mut self.report)
    }
}

impl Drop for ReportBuilder<'_> {
    fn drop(&mut self) {
        let SyncReport { changed, deleted, pending, skipped, conflicts, .. } =
            std::mem::take(&mut self.report);
        let mut reported = self.reported.lock();
        for pending in pending {
            reported.pending.remove(pending.path.as_str());
        }
        for skipped in skipped {
            reported.skipped.remove(&skipped);
        }
        // Pending changes have no entry yet; the next scan finds them again.
        for changed in changed.into_iter().filter(|changed| changed.entry.is_some()) {
            reported.late.changed.entry(changed.path.to_string()).or_insert(changed);
        }
        for path in deleted {
            reported.late.deleted.entry(path.to_string()).or_insert(path);
        }
        reported.late.conflicts.extend(conflicts);
    }
}
