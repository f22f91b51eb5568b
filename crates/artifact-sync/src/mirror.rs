//! Mirror of a directory in an object store.

mod adopt;
mod apply;
mod batch;
mod close;
mod incoming;
mod open;
mod place;
mod plan;
mod project;
mod pull;
mod refresh;
mod shared;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox_core::internal::{blocking, lock};
use sandbox_core::{RelativePath, SessionDir};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::SyncError;
use crate::mirror::refresh::MassRemoval;
use crate::mirror::shared::{ChangeKind, Shared};
use crate::paths::relative;
use crate::report::{ChangedFile, Outcome, Pending, ReportBuilder, RestoreReport, SyncReport};
use crate::scan::{ChangeSourceReport, Changes, Ignored, Scope};

pub use close::{CloseError, CloseMode, CloseReport};
pub use open::{LocalStatus, SessionOwner};

/// Longest time that [`Mirror::flush`] waits for the store.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// Reason of changes that are being stored.
const NO_ANSWER: &str = "the store has not answered yet";
/// Pause before the first background retry of pending changes.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause between two background retries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Mirror of one directory. Calls may overlap, and each waits for its own changes only. Dropping
/// the mirror cancels running uploads; the next mirror of the directory finds what is still
/// pending.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    opened: RestoreReport,
    deadline: Duration,
    /// Uploads that may continue after a call has returned.
    uploads: Mutex<Vec<AbortHandle>>,
    retries: Mutex<Option<AbortHandle>>,
}

impl Mirror {
    fn new(shared: Arc<Shared>, opened: RestoreReport, deadline: Duration) -> Self {
        let mirror =
            Self { shared, opened, deadline, uploads: Mutex::default(), retries: Mutex::default() };
        if mirror.shared.has_background_work() {
            mirror.retry_later();
        }
        mirror
    }

    /// Returns what opening the mirror restored, removed and found.
    pub fn opened(&self) -> &RestoreReport {
        &self.opened
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Arc<SessionDir> {
        &self.shared.dir
    }

    /// Returns the number of the last entry of the session log that this mirror knows.
    pub fn entry(&self) -> u64 {
        self.shared.ledger().position().number
    }

    /// Finds the changes in the directory and stores them. The report names changes that are still
    /// pending.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another process owns the session now, and
    /// [`SyncError::Closing`] while the mirror is being closed.
    ///
    /// # Cancel safety
    /// Running uploads continue, and the next call reports their changes.
    pub async fn sync(&self) -> Result<SyncReport, SyncError> {
        self.shared.access.check()?;
        Ok(self.run(Scope::Changed, self.deadline).await)
    }

    /// Stores one file, without a walk. The report's `changed` names the file once the store holds
    /// it, even if the store held this content before.
    ///
    /// # Errors
    /// Like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn put_file(&self, path: &RelativePath) -> Result<SyncReport, SyncError> {
        self.shared.access.check()?;
        let mut report = self.run(Scope::File(path.clone()), self.deadline).await;
        let is_named = report.changed.iter().any(|changed| changed.path == *path);
        if !is_named && report.pending.iter().all(|pending| pending.path != *path) {
            report.changed.extend(self.shared.stored_file(path).await);
        }
        Ok(report)
    }

    /// Like [`Mirror::sync`], but always walks, waits up to 60 s, and reports every skipped file
    /// and pending change again.
    ///
    /// # Errors
    /// Like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn flush(&self) -> Result<SyncReport, SyncError> {
        self.shared.access.check()?;
        self.flush_closing().await
    }

    /// Flushes also while the mirror is being closed.
    async fn flush_closing(&self) -> Result<SyncReport, SyncError> {
        if self.shared.access.is_lost() {
            return Err(SyncError::LeaseLost);
        }
        self.shared.reported.forget();
        Ok(self.run(Scope::Walk, FLUSH_DEADLINE.max(self.deadline)).await)
    }

    /// Adopts changes that other programs made to the objects of the session.
    ///
    /// # Errors
    /// Returns [`SyncError::List`] if the store cannot be listed, and otherwise like
    /// [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Each file is either complete or absent, and the next call continues.
    pub async fn refresh(&self) -> Result<RestoreReport, SyncError> {
        self.shared.refresh(MassRemoval::HoldBack).await
    }

    /// Like [`Mirror::refresh`], but also removes files whose objects vanished in suspiciously
    /// large numbers.
    ///
    /// # Errors
    /// Like [`Mirror::refresh`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::refresh`].
    pub async fn refresh_with_removals(&self) -> Result<RestoreReport, SyncError> {
        self.shared.refresh(MassRemoval::Confirmed).await
    }

    /// Returns how changes are found.
    pub fn change_source(&self) -> ChangeSourceReport {
        self.shared.tracker.report()
    }

    /// Scans the directory and returns the changes that the store does not have. Sends no request.
    pub fn pending(&self) -> Vec<Pending> {
        let shared = &self.shared;
        let changes = shared.scan_changed();
        let ledger = shared.ledger();
        let reason = |path: &str| match ledger.failure(path) {
            Some(failure) if failure.is_final => None,
            Some(failure) => Some(failure.reason.clone()),
            None if ledger.is_claimed(path) => Some("it is being stored".to_owned()),
            None => Some("it was not tried yet".to_owned()),
        };
        let paths = changed_paths(&changes).chain(ledger.claimed());
        let mut pending: Vec<Pending> = paths
            .filter_map(|path| Some((reason(path)?, relative(path)?)))
            .map(|(reason, path)| Pending { path, reason })
            .collect();
        pending.sort_by(|a, b| a.path.cmp(&b.path));
        pending.dedup_by(|a, b| a.path == b.path);
        pending
    }

    /// Lists the ignored files and the topmost ignored directories, which have no copy in the
    /// store. Blocks while it walks the directory.
    pub fn ignored(&self) -> Vec<Ignored> {
        self.shared.tracker.ignored()
    }

    async fn run(&self, scope: Scope, deadline: Duration) -> SyncReport {
        let deadline = Instant::now() + deadline;
        let shared = Arc::clone(&self.shared);
        let is_walk = matches!(scope, Scope::Walk);
        let (changes, skipped) = {
            let shared = Arc::clone(&shared);
            blocking(move || shared.scan(&scope)).await
        };
        shared.tracker.mark_reported(&skipped);
        let batches = shared.claim(changes);
        let own: HashSet<String> =
            batches.iter().flat_map(|(_, changes)| changed_paths(changes)).cloned().collect();
        let mut report = ReportBuilder::new(&shared.reported, own.clone(), skipped);
        if batches.is_empty() && !is_walk {
            return self.finish(report, &own, is_walk);
        }
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let working = Arc::clone(&shared);
        let uploads = tokio::spawn(async move {
            let on_outcome = |path: String, outcome: Outcome| {
                // If the call has returned, the next report includes the outcome.
                if let Err(SendError((path, outcome))) = sender.send((path, outcome)) {
                    working.reported.add_completed_late(path, outcome);
                }
            };
            let storing = batches
                .into_iter()
                .map(|(batch, changes)| working.store_batch(batch, changes, &on_outcome));
            futures::future::join_all(storing).await;
            if is_walk {
                working.settle_claims().await;
                working.project_all().await;
            }
            working.adopt_conflicts().await;
            // The call returns now. The objects of renamed files come later.
            drop(sender);
            working.project_all().await;
        });
        self.track(uploads.abort_handle());
        while let Ok(Some((path, outcome))) = timeout_at(deadline, outcomes.recv()).await {
            report.add(path, outcome);
        }
        self.finish(report, &own, is_walk)
    }

    /// Finishes a report. It counts changes that earlier calls could not store in time. A flush
    /// names changes of running calls too.
    fn finish(
        &self,
        mut report: ReportBuilder<'_>,
        own: &HashSet<String>,
        is_flush: bool,
    ) -> SyncReport {
        let claimed = self.shared.claimed_paths();
        for path in claimed.iter().filter(|path| !own.contains(*path)) {
            if !is_flush {
                report.count_pending(path);
            } else if let Some(path) = relative(path) {
                report.add_pending_elsewhere(path, NO_ANSWER.to_owned());
            }
        }
        let report = report.finish(NO_ANSWER, self.entry());
        if !report.is_complete() || self.shared.has_background_work() {
            self.retry_later();
        }
        report
    }

    fn track(&self, task: AbortHandle) {
        let mut uploads = lock(&self.uploads);
        uploads.retain(|task| !task.is_finished());
        uploads.push(task);
    }

    /// Retries pending changes in the background until all of them are stored, and brings the
    /// projection up to date.
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
                if shared.access.check().is_err() || !shared.retry().await {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        *retries = Some(task.abort_handle());
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let uploads = self.uploads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let retries = self.retries.get_mut().unwrap_or_else(PoisonError::into_inner);
        uploads.drain(..).chain(retries.take()).for_each(|task| task.abort());
        // An aborted task may keep the shared parts for a moment.
        self.shared.ledger().release();
    }
}

impl Shared {
    fn has_background_work(&self) -> bool {
        let has_projection = self.projection.is_some();
        has_projection && !self.ledger().unprojected().is_empty()
            || !lock(&self.external).is_empty()
    }

    fn claimed_paths(&self) -> Vec<String> {
        self.ledger().claimed().cloned().collect()
    }

    /// Resolves an entry without an answer, so that its changes end being claimed.
    async fn settle_claims(&self) {
        let mut appender = self.appender.lock().await;
        if let Err(error) = self.settle(&mut appender).await {
            let error = sandbox_core::with_causes(&error);
            tracing::debug!(error, "an entry is still unanswered");
        }
    }

    /// Adopts the external versions that batches have met.
    async fn adopt_conflicts(self: &Arc<Self>) {
        let paths = std::mem::take(&mut *lock(&self.external));
        if paths.is_empty() {
            return;
        }
        match self.refresh_paths(paths.clone()).await {
            Ok(report) => self.reported.add_conflicts(report.conflicts),
            Err(error) => {
                let error = sandbox_core::with_causes(&error);
                tracing::debug!(error, "an external version could not be adopted");
                lock(&self.external).extend(paths);
            }
        }
    }

    /// Tries again what failed. Returns whether something is left.
    async fn retry(self: &Arc<Self>) -> bool {
        self.settle_claims().await;
        let shared = Arc::clone(self);
        let mut changes = blocking(move || shared.scan_changed()).await;
        // The next call reports changes that no report has named.
        changes.modified.retain(|entry| self.reported.is_pending(&entry.path));
        changes.removed.retain(|path| self.reported.is_pending(path));
        changes.directories.retain(|entry| self.reported.is_pending(&entry.path));
        changes.symlinks.retain(|entry| self.reported.is_pending(&entry.path));
        let batches = self.claim(changes);
        let is_tried = !batches.is_empty();
        let on_outcome = |path, outcome| self.reported.add_completed_late(path, outcome);
        for (batch, changes) in batches {
            self.store_batch(batch, changes, on_outcome).await;
        }
        self.adopt_conflicts().await;
        self.project_all().await;
        is_tried || self.has_background_work() || !self.claimed_paths().is_empty()
    }

    /// Returns a file that the store holds in its current state.
    async fn stored_file(&self, path: &RelativePath) -> Option<ChangedFile> {
        let current = self.tracker.inspect(path);
        let signature = current.find(path.as_str())?;
        let is_stored = {
            let ledger = self.ledger();
            let local = ledger.local(path.as_str()).map(|recorded| recorded.signature);
            local == Some(*signature) && !ledger.is_claimed(path.as_str())
        };
        if !is_stored {
            return None;
        }
        match self.stored_outcome(path.as_str(), ChangeKind::File).await {
            Outcome::Stored { key, url, number } => {
                Some(ChangedFile { path: path.clone(), entry: Some(number), key, url })
            }
            _ => None,
        }
    }
}

/// Returns the paths of all changes.
fn changed_paths(changes: &Changes) -> impl Iterator<Item = &String> {
    let modified = changes.modified.iter().map(|entry| &entry.path);
    let directories = changes.directories.iter().map(|entry| &entry.path);
    let symlinks = changes.symlinks.iter().map(|entry| &entry.path);
    modified.chain(&changes.removed).chain(directories).chain(symlinks)
}
