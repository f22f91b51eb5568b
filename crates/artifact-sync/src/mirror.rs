//! Mirror of a directory in an object store.

mod restore;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox_core::RelativePath;
use sandbox_core::internal::{blocking, lock};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::paths::relative;
use crate::report::{ChangedFile, Pending, ReportBuilder, ReportedState, SyncReport};
use crate::scan::{
    ChangeSourceReport, ChangeTracker, Changes, Entry, Ignored, Scope, Skipped, Snapshot,
};
use crate::state::{IndexEntry, Origin};
use crate::transfer::Applier;

/// Longest time that [`Mirror::flush`] waits for the store.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// Most removals that are plausible at once. If more files vanished, and more than half of the
/// stored ones, the removals are held back.
const MAX_REMOVALS: usize = 50;
/// Pause before the first background retry of pending changes.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause between two background retries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Mirror of one directory. Concurrent calls take turns. Dropping the mirror cancels running
/// uploads; the next mirror of the directory finds what is still pending.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    deadline: Duration,
    /// Uploads that may continue after a call has returned.
    uploads: Mutex<Option<AbortHandle>>,
    retries: Mutex<Option<AbortHandle>>,
}

/// Parts of a mirror that background tasks use too.
#[derive(Debug)]
struct Shared {
    tracker: ChangeTracker,
    applier: Applier,
    reported: ReportedState,
    /// Held while the directory and the store are compared and changed.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Treatment of implausibly many removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MassRemoval {
    HoldBack,
    Confirmed,
}

impl Mirror {
    pub(crate) fn new(tracker: ChangeTracker, applier: Applier, deadline: Duration) -> Self {
        let shared =
            Shared { tracker, applier, reported: ReportedState::default(), turn: Arc::default() };
        Self {
            shared: Arc::new(shared),
            deadline,
            uploads: Mutex::default(),
            retries: Mutex::default(),
        }
    }

    /// Finds the changes in the directory and stores them. The call never fails; the report names
    /// changes that are still pending.
    ///
    /// # Cancel safety
    /// Running uploads continue, and the next call reports their changes.
    pub async fn sync(&self) -> SyncReport {
        self.run(Scope::Changed, MassRemoval::HoldBack, self.deadline).await
    }

    /// Stores one file, without a walk. The report's `changed` names the file once the store holds
    /// it, even if the store held this content before.
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn put_file(&self, path: &RelativePath) -> SyncReport {
        let scope = Scope::File(path.clone());
        let mut report = self.run(scope, MassRemoval::HoldBack, self.deadline).await;
        if report.changed.is_empty() && report.pending.is_empty() {
            report.changed.extend(self.shared.stored_file(path).await);
        }
        report
    }

    /// Like [`Mirror::sync`], but always walks, waits up to 60 s, and reports every skipped file
    /// again.
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn flush(&self) -> SyncReport {
        self.shared.reported.forget_skipped();
        let deadline = FLUSH_DEADLINE.max(self.deadline);
        self.run(Scope::Walk, MassRemoval::HoldBack, deadline).await
    }

    /// Like [`Mirror::sync`], but always walks and also applies removals that were held back.
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn sync_with_removals(&self) -> SyncReport {
        self.run(Scope::Walk, MassRemoval::Confirmed, self.deadline).await
    }

    /// Returns how changes are found.
    pub fn change_source(&self) -> ChangeSourceReport {
        self.shared.tracker.report()
    }

    /// Scans the directory and returns the changes that the store does not have. Sends no request.
    pub fn pending(&self) -> Vec<Pending> {
        let files = &self.shared.applier.files;
        let mut changes = self.shared.scan_changed();
        let held_back = self.shared.hold_back(&mut changes);
        let index = files.index();
        let reason = |path: &str| match index.failure(path) {
            Some(failure) if failure.is_final => None,
            Some(failure) => Some(failure.reason.clone()),
            None => Some("it was not tried yet".to_owned()),
        };
        let modified = changes.modified.iter().map(|entry| &entry.path);
        let paths = modified
            .filter(|path| files.remote().key(path).is_ok())
            .chain(&changes.removed)
            .filter_map(|path| Some((reason(path)?, relative(path)?)));
        let held_back = held_back.iter().filter_map(|path| {
            let reason = "it vanished with many others, and its removal waits to be confirmed";
            Some((reason.to_owned(), relative(path)?))
        });
        paths.chain(held_back).map(|(reason, path)| Pending { path, reason }).collect()
    }

    /// Lists the ignored files and the topmost ignored directories, which have no copy in the
    /// store. Blocks while it walks the directory.
    pub fn ignored(&self) -> Vec<Ignored> {
        self.shared.tracker.ignored()
    }

    async fn run(&self, scope: Scope, removals: MassRemoval, deadline: Duration) -> SyncReport {
        let deadline = Instant::now() + deadline;
        let shared = Arc::clone(&self.shared);
        let turn = timeout_at(deadline, Arc::clone(&shared.turn).lock_owned()).await;
        let (mut changes, skipped) = {
            let shared = Arc::clone(&shared);
            blocking(move || shared.scan(&scope)).await
        };
        let held_back = match removals {
            MassRemoval::HoldBack => shared.hold_back(&mut changes),
            MassRemoval::Confirmed => Vec::new(),
        };
        shared.tracker.mark_reported(&skipped);
        let mut report = ReportBuilder::new(&shared.reported, &changes, skipped, held_back);
        let Ok(turn) = turn else { return report.finish("earlier uploads are still running") };
        if changes.is_empty() {
            return report.finish("");
        }
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let working = Arc::clone(&shared);
        let uploads = tokio::spawn(async move {
            let on_outcome = |path, outcome| {
                // If the call has returned, the next report includes the outcome.
                if let Err(SendError((path, outcome))) = sender.send((path, outcome)) {
                    working.reported.add_completed_late(path, outcome);
                }
            };
            working.applier.apply(changes, on_outcome).await;
            drop(turn);
        });
        *lock(&self.uploads) = Some(uploads.abort_handle());
        while let Ok(Some((path, outcome))) = timeout_at(deadline, outcomes.recv()).await {
            report.add(path, outcome);
        }
        let report = report.finish("the store has not answered yet");
        if !report.pending.is_empty() {
            self.retry_later();
        }
        report
    }

    /// Retries pending changes in the background until all of them are stored.
    fn retry_later(&self) {
        let mut retries = lock(&self.retries);
        if retries.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                let Some(shared) = shared.upgrade() else { return };
                let _turn = shared.turn.lock().await;
                let scanning = Arc::clone(&shared);
                let mut changes = blocking(move || scanning.scan_changed()).await;
                shared.hold_back(&mut changes);
                shared.retain_reported(&mut changes);
                if changes.is_empty() {
                    return;
                }
                let reported = &shared.reported;
                let on_outcome = |path, outcome| reported.add_completed_late(path, outcome);
                shared.applier.apply(changes, on_outcome).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        *retries = Some(task.abort_handle());
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for task in [&mut self.uploads, &mut self.retries] {
            if let Some(task) = task.get_mut().unwrap_or_else(PoisonError::into_inner) {
                task.abort();
            }
        }
        // An aborted task may keep the shared parts for a moment.
        self.shared.applier.files.index().release();
    }
}

impl Shared {
    fn scan(&self, scope: &Scope) -> (Changes, Vec<Skipped>) {
        let (mut changes, skipped) = self.tracker.scan(scope, self.applier.files.baseline());
        self.applier.files.settle(&mut changes);
        (changes, skipped)
    }

    fn scan_changed(&self) -> Changes {
        let mut changes = self.tracker.scan_changed(self.applier.files.baseline());
        self.applier.files.settle(&mut changes);
        changes
    }

    /// Walks the directory. Returns its state and the files whose content is not the recorded one.
    fn walk_and_compare(&self) -> (Snapshot, HashSet<String>) {
        let files = &self.applier.files;
        let snapshot = self.tracker.walk(files.baseline());
        let is_changed = |entry: &&Entry| !files.is_unchanged(&entry.path, &entry.signature);
        let changed = snapshot.files.iter().filter(is_changed);
        let changed = changed.map(|entry| entry.path.clone()).collect();
        (snapshot, changed)
    }

    /// Takes implausibly many removals out of the changes and returns them.
    fn hold_back(&self, changes: &mut Changes) -> Vec<String> {
        let index = self.applier.files.index();
        // Removing a file that came from the store deletes no object, so it is not counted.
        let is_own =
            |path: &String| index.stored(path).is_some_and(|stored| stored.origin == Origin::Local);
        let own = changes.removed.iter().filter(|path| is_own(path)).count();
        let stored =
            || index.entries().values().filter(|entry| matches!(entry, IndexEntry::Stored(_)));
        if own <= MAX_REMOVALS || own * 2 <= stored().count() {
            return Vec::new();
        }
        let (held_back, removed) =
            std::mem::take(&mut changes.removed).into_iter().partition(is_own);
        changes.removed = removed;
        held_back
    }

    /// Drops changes that no report has named as pending. The next call reports them.
    fn retain_reported(&self, changes: &mut Changes) {
        changes.modified.retain(|entry| self.reported.is_pending(&entry.path, &entry.signature));
        let index = self.applier.files.index();
        changes.removed.retain(|path| index.failure(path).is_some());
    }

    /// Returns a file that the store holds in its current state.
    async fn stored_file(&self, path: &RelativePath) -> Option<ChangedFile> {
        let files = &self.applier.files;
        let current = self.tracker.inspect(path);
        let signature = current.find(path.as_str())?;
        if files.index().stored(path.as_str())?.signature.signature != *signature {
            return None;
        }
        let key = files.remote().key(path.as_str()).ok()?;
        let url = self.applier.links.link(&key).await;
        Some(ChangedFile { path: path.clone(), key: Some(key), url })
    }
}
