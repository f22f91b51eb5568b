//! Mirror of a directory in an object store.

mod access;
mod acquire;
mod adopt;
mod apply;
mod background;
mod batch;
mod close;
mod contents;
mod erase;
mod garbage;
mod history;
mod incoming;
mod inventory;
mod lease;
mod leftovers;
mod migrate;
mod numbers;
mod open;
mod path_locks;
mod place;
mod plan;
mod project;
mod pull;
mod refill;
mod refresh;
mod shared;
mod surplus;
mod undelete;
mod unfollowed;
mod view;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox_core::internal::{blocking, lock};
use sandbox_core::{RelativePath, SessionDir};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::SyncError;
use crate::mirror::access::Call;
use crate::mirror::background::changed_paths;
use crate::mirror::refresh::MassRemoval;
use crate::mirror::shared::{Shared, Tenure};
use crate::mirror::unfollowed::OUTDATED;
use crate::paths::relative;
use crate::report::{Outcome, Pending, ReportBuilder, RestoreReport, SyncReport};
use crate::scan::{ChangeSourceReport, Changes, Ignored, Scope};
use crate::state::Batch;

pub use close::{CloseError, CloseMode, CloseReport, remove_rest};
pub use garbage::{GarbageOptions, GarbageReport};
pub use history::{HistoryChange, HistoryEntry, HistoryKind, HistoryObject, HistoryOrigin};
pub use inventory::Inventory;
pub use lease::CallGuard;
pub use open::{LocalStatus, SessionOwner};
pub use undelete::{RestoredVersion, Undelete, UndeleteReport};
pub use view::{LogView, LoggedFile};

/// Reason of changes that are being stored.
const NO_ANSWER: &str = "the store has not answered yet";

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
    /// Task that releases the idle session.
    releases: Option<AbortHandle>,
}

impl Mirror {
    fn new(shared: Arc<Shared>, opened: RestoreReport, deadline: Duration) -> Self {
        let mut mirror = Self {
            shared,
            opened,
            deadline,
            uploads: Mutex::default(),
            retries: Mutex::default(),
            releases: None,
        };
        let release_after = mirror.shared.ownership.release_after;
        mirror.releases = release_after.map(|after| mirror.release_in_background(after));
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
        let call = self.enter().await?;
        self.run(Scope::Changed, self.deadline, &call).await
    }

    /// Starts to store the changes that no call has found. The next report names them.
    ///
    /// # Errors
    /// Like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn store_unreported(&self) -> Result<(), SyncError> {
        let call = self.enter().await?;
        let shared = Arc::clone(&self.shared);
        let (mut changes, _) = blocking(move || shared.scan(&Scope::Changed)).await;
        self.shared.take_outdated(&mut changes).await;
        self.shared.take_surplus(&mut changes);
        let batches = self.shared.claim(changes);
        // Without a receiver, outcomes are kept for the next report.
        drop(self.store(batches, false, &call));
        Ok(())
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
        let call = self.enter().await?;
        let mut report = self.run(Scope::File(path.clone()), self.deadline, &call).await?;
        let is_named = report.changed.iter().any(|changed| changed.path == *path);
        if !is_named && report.pending.iter().all(|pending| pending.path != *path) {
            report.changed.extend(self.shared.stored_file(path).await);
        }
        Ok(report)
    }

    /// Like [`Mirror::sync`], but always walks, waits up to 60 s, and reports every skipped file
    /// and pending change again. Files beyond the limit of the queue need another call.
    ///
    /// # Errors
    /// Like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn flush(&self) -> Result<SyncReport, SyncError> {
        self.flush_within(self.shared.patience).await
    }

    /// Like [`Mirror::flush`], but gives up after this time without progress.
    ///
    /// # Errors
    /// Like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::sync`].
    pub async fn flush_within(&self, patience: Duration) -> Result<SyncReport, SyncError> {
        let _call = self.enter().await?;
        self.flush_closing(patience).await
    }

    /// Flushes also while the mirror is being closed.
    async fn flush_closing(&self, patience: Duration) -> Result<SyncReport, SyncError> {
        let call = self.shared.calls.begin().await;
        self.shared.access.check_lease()?;
        if self.shared.is_released() {
            self.shared.reacquire().await?;
        }
        self.shared.reported.forget();
        self.run(Scope::Walk, patience, &call).await
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
        self.refresh_as_call(MassRemoval::HoldBack).await
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
        self.refresh_as_call(MassRemoval::Confirmed).await
    }

    async fn refresh_as_call(&self, removals: MassRemoval) -> Result<RestoreReport, SyncError> {
        let _call = self.enter().await?;
        tokio::select! {
            biased;
            () = self.shared.access.lost() => Err(SyncError::LeaseLost),
            report = self.shared.refresh(removals) => report,
        }
    }

    /// Returns how changes are found.
    pub fn change_source(&self) -> ChangeSourceReport {
        self.shared.tracker.report()
    }

    /// Scans the directory and returns the changes that the store does not have. Sends no request.
    pub fn pending(&self) -> Vec<Pending> {
        self.shared.pending()
    }

    /// Lists the ignored files and the topmost ignored directories, which have no copy in the
    /// store. Blocks while it walks the directory.
    pub fn ignored(&self) -> Vec<Ignored> {
        self.shared.tracker.ignored()
    }

    /// Stores what a scan finds. Waits for `limit`, and for a walk as long as uploads make progress
    /// within it.
    async fn run(
        &self,
        scope: Scope,
        limit: Duration,
        call: &Call,
    ) -> Result<SyncReport, SyncError> {
        let started = Instant::now();
        let shared = Arc::clone(&self.shared);
        let is_walk = matches!(scope, Scope::Walk);
        if !is_walk {
            // Results name keys and links, so the objects come first.
            let settling = async {
                if shared.settle_failed().await {
                    shared.project_awaited().await;
                }
            };
            let _ = timeout_at(started + limit, settling).await;
        }
        let (mut changes, skipped) = {
            let shared = Arc::clone(&shared);
            blocking(move || shared.scan(&scope)).await
        };
        shared.tracker.mark_reported(&skipped);
        let outdated = shared.take_outdated(&mut changes).await;
        let surplus = shared.take_surplus(&mut changes);
        let batches = shared.claim(changes);
        let own: HashSet<String> =
            batches.iter().flat_map(|(_, changes)| changed_paths(changes)).cloned().collect();
        let removed = batches.iter().flat_map(|(_, changes)| changes.removed.clone()).collect();
        let mut report = ReportBuilder::new(&shared.reported, own.clone(), removed, skipped);
        for path in outdated {
            report.add(path, Outcome::Pending(OUTDATED.to_owned()));
        }
        for (path, reason) in surplus {
            report.add(path, Outcome::Pending(reason));
        }
        if batches.is_empty() && !is_walk {
            return Ok(self.finish(report, &own, is_walk));
        }
        let mut outcomes = self.store(batches, is_walk, call);
        loop {
            let outcome = match is_walk {
                true => shared.next_outcome(&mut outcomes, limit).await,
                false => timeout_at(started + limit, outcomes.recv()).await.unwrap_or_default(),
            };
            let Some((path, outcome)) = outcome else { break };
            report.add(path, outcome);
        }
        shared.access.check_lease()?;
        Ok(self.finish(report, &own, is_walk))
    }

    /// Stores batches in the background and returns their outcomes.
    fn store(
        &self,
        batches: Vec<(Batch, Changes)>,
        is_walk: bool,
        call: &Call,
    ) -> mpsc::UnboundedReceiver<(String, Outcome)> {
        let (sender, outcomes) = mpsc::unbounded_channel();
        let working = Arc::clone(&self.shared);
        // The call lasts until its last upload ends.
        let call = call.clone();
        let storing = async move {
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
                working.settle_all_claims().await;
                working.project_all().await;
            }
            working.adopt_conflicts().await;
            // The call returns now. The objects of renamed files come later.
            drop(sender);
            working.project_all().await;
            working.maintain().await;
        };
        let access = Arc::clone(&self.shared);
        let uploads = tokio::spawn(async move {
            // Nothing more is sent after another owner was found.
            tokio::select! {
                biased;
                () = access.access.lost() => {}
                () = storing => {}
            }
            drop(call);
        });
        self.track(uploads.abort_handle());
        outcomes
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
                report.add_pending_elsewhere(self.shared.unanswered(path, NO_ANSWER));
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
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let uploads = self.uploads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let retries = self.retries.get_mut().unwrap_or_else(PoisonError::into_inner);
        let releases = self.releases.take();
        let tasks = uploads.drain(..).chain(retries.take()).chain(releases);
        tasks.for_each(|task| task.abort());
        // An aborted task may keep the shared parts for a moment.
        self.shared.ledger().release();
        *lock(&self.shared.tenure) = Tenure::Released;
    }
}
