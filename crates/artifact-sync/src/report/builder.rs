//! Construction of a [`SyncReport`] from single outcomes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::paths::relative;
use crate::report::types::{ChangedFile, ConflictCopy, Pending, SyncReport};
use crate::scan::{Changes, Signature, SkipReason, Skipped};

/// Outcome of one change.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored {
        key: Key,
        url: Option<String>,
        /// Path of the store's version, if the store had changed too.
        copy: Option<RelativePath>,
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
    /// Pending files, with the signatures that were reported.
    pending: HashMap<String, Signature>,
    skipped: HashSet<Skipped>,
    /// Files that were stored after the call that found them.
    completed_late: BTreeMap<String, ChangedFile>,
}

impl ReportedState {
    /// Makes the next report name all skipped files again.
    pub(crate) fn forget_skipped(&self) {
        self.lock().skipped.clear();
    }

    /// Returns whether a report has named this state of a file as pending.
    pub(crate) fn is_pending(&self, path: &str, signature: &Signature) -> bool {
        self.lock().pending.get(path) == Some(signature)
    }

    /// Keeps the outcome of a change that an earlier report named as pending. The next report
    /// includes it.
    pub(crate) fn add_completed_late(&self, path: String, outcome: Outcome) {
        let mut reported = self.lock();
        if matches!(outcome, Outcome::Pending(_)) {
            return;
        }
        reported.pending.remove(&path);
        if let (Outcome::Stored { key, url, .. }, Some(relative)) = (outcome, relative(&path)) {
            let changed = ChangedFile { path: relative, key: Some(key), url };
            reported.completed_late.insert(path, changed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reported> {
        lock(&self.0)
    }
}

/// Builder of one report.
pub(crate) struct ReportBuilder<'r> {
    reported: &'r ReportedState,
    /// Changes without an outcome: modified files with their signatures, removed ones without.
    waiting: BTreeMap<String, Option<Signature>>,
    report: SyncReport,
}

impl<'r> ReportBuilder<'r> {
    pub(crate) fn new(
        reported: &'r ReportedState,
        changes: &Changes,
        skipped: Vec<Skipped>,
        held_back: Vec<String>,
    ) -> Self {
        let modified =
            changes.modified.iter().map(|entry| (entry.path.clone(), Some(entry.signature)));
        let removed = changes.removed.iter().map(|path| (path.clone(), None));
        let waiting = modified.chain(removed).collect();
        let held_back = held_back.iter().filter_map(|path| relative(path)).collect();
        let report = SyncReport { held_back, ..SyncReport::default() };
        let mut builder = Self { reported, waiting, report };
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
        let signature = self.waiting.remove(&path).flatten();
        let Some(relative) = relative(&path) else {
            return self.skip(Skipped { path, reason: SkipReason::PathTooLong });
        };
        match outcome {
            Outcome::Pending(reason) => return self.add_pending(relative, signature, reason),
            Outcome::Stored { key, url, copy } => {
                self.report
                    .conflicts
                    .extend(copy.map(|kept_as| ConflictCopy { path: relative.clone(), kept_as }));
                self.report.changed.push(ChangedFile { path: relative, key: Some(key), url });
            }
            Outcome::Deleted => self.report.deleted.push(relative),
            Outcome::Skipped(reason) => self.skip(Skipped { path: path.clone(), reason }),
            Outcome::Unchanged => {}
        }
        self.reported.lock().pending.remove(&path);
    }

    fn add_pending(&mut self, path: RelativePath, signature: Option<Signature>, reason: String) {
        if let Some(signature) = signature {
            let before = self.reported.lock().pending.insert(path.as_str().to_owned(), signature);
            if before != Some(signature) {
                self.report.changed.push(ChangedFile { path: path.clone(), key: None, url: None });
            }
        }
        self.report.pending.push(Pending { path, reason });
    }

    /// Returns the report. Changes without an outcome become pending for this reason.
    pub(crate) fn finish(mut self, reason: &str) -> SyncReport {
        for (path, signature) in std::mem::take(&mut self.waiting) {
            match relative(&path) {
                Some(relative) => self.add_pending(relative, signature, reason.to_owned()),
                None => self.skip(Skipped { path, reason: SkipReason::PathTooLong }),
            }
        }
        let completed_late = std::mem::take(&mut self.reported.lock().completed_late);
        for (_, late) in completed_late {
            if self.report.changed.iter().all(|changed| changed.path != late.path) {
                self.report.changed.push(late);
            }
        }
        self.report.changed.sort_by(|a, b| a.path.cmp(&b.path));
        self.report.deleted.sort();
        self.report.pending.sort_by(|a, b| a.path.cmp(&b.path));
        self.report
    }
}
