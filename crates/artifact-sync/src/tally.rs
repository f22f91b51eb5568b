//! The report of a synchronisation, gathered outcome by outcome.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::diff::Changes;
use crate::mirror::relative;
use crate::report::{ChangedFile, ConflictCopy, Pending, SkipReason, Skipped, SyncReport};
use crate::signature::Signature;

/// What became of one change.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored {
        key: Key,
        url: Option<String>,
        /// Where the store's own version is now, where it had changed too.
        copy: Option<RelativePath>,
    },
    /// The content is what the store held; or the file is no longer there.
    Nothing,
    Deleted,
    Pending(String),
    Skipped(SkipReason),
}

/// What reports have named already.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Named>);

#[derive(Debug, Default)]
struct Named {
    /// Changes that are pending, as they were.
    pending: HashMap<String, Signature>,
    skipped: HashSet<Skipped>,
    /// What was stored after the call that had found it.
    late: BTreeMap<String, ChangedFile>,
}

impl Told {
    /// Has the next report name everything that is skipped.
    pub(crate) fn forget_skipped(&self) {
        self.lock().skipped.clear();
    }

    /// Whether a report has named this state of a file as pending.
    pub(crate) fn is_pending(&self, path: &str, signature: &Signature) -> bool {
        self.lock().pending.get(path) == Some(signature)
    }

    /// Keeps for the next report what has become of a change that an earlier one named as pending.
    pub(crate) fn add_late(&self, path: String, outcome: Outcome) {
        let mut named = self.lock();
        if matches!(outcome, Outcome::Pending(_)) {
            return;
        }
        named.pending.remove(&path);
        if let (Outcome::Stored { key, url, .. }, Some(relative)) = (outcome, relative(&path)) {
            named.late.insert(path, ChangedFile { path: relative, key: Some(key), url });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Named> {
        lock(&self.0)
    }
}

/// A report in the making.
pub(crate) struct Tally<'m> {
    told: &'m Told,
    /// Changes of which the outcome is not known yet: files with their signatures, removals
    /// without.
    waiting: BTreeMap<String, Option<Signature>>,
    report: SyncReport,
}

impl<'m> Tally<'m> {
    pub(crate) fn new(
        told: &'m Told,
        changes: &Changes,
        skipped: Vec<Skipped>,
        held_back: Vec<String>,
    ) -> Self {
        let touched =
            changes.touched.iter().map(|entry| (entry.path.clone(), Some(entry.signature)));
        let waiting = touched.chain(changes.gone.iter().map(|path| (path.clone(), None))).collect();
        let held_back = held_back.iter().filter_map(|path| relative(path)).collect();
        let mut tally =
            Self { told, waiting, report: SyncReport { held_back, ..SyncReport::default() } };
        skipped.into_iter().for_each(|skipped| tally.skip(skipped));
        tally
    }

    /// Names what is skipped once in the life of a mirror.
    fn skip(&mut self, skipped: Skipped) {
        if self.told.lock().skipped.insert(skipped.clone()) {
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
            Outcome::Nothing => {}
        }
        self.told.lock().pending.remove(&path);
    }

    fn add_pending(&mut self, path: RelativePath, signature: Option<Signature>, reason: String) {
        if let Some(signature) = signature {
            let before = self.told.lock().pending.insert(path.as_str().to_owned(), signature);
            if before != Some(signature) {
                self.report.changed.push(ChangedFile { path: path.clone(), key: None, url: None });
            }
        }
        self.report.pending.push(Pending { path, reason });
    }

    /// The report; what is still waiting is pending for this reason.
    pub(crate) fn finish(mut self, reason: &str) -> SyncReport {
        for (path, signature) in std::mem::take(&mut self.waiting) {
            match relative(&path) {
                Some(relative) => self.add_pending(relative, signature, reason.to_owned()),
                None => self.skip(Skipped { path, reason: SkipReason::PathTooLong }),
            }
        }
        let late = std::mem::take(&mut self.told.lock().late);
        for (_, mirrored) in late {
            if self.report.changed.iter().all(|changed| changed.path != mirrored.path) {
                self.report.changed.push(mirrored);
            }
        }
        self.report.changed.sort_by(|a, b| a.path.cmp(&b.path));
        self.report.deleted.sort();
        self.report.pending.sort_by(|a, b| a.path.cmp(&b.path));
        self.report
    }
}
