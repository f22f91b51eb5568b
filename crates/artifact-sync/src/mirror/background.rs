//! Pending changes, and the retries that store them.

use std::sync::Arc;
use std::time::Duration;

use sandbox_core::RelativePath;
use sandbox_core::internal::{blocking, lock};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::mirror::Mirror;
use crate::mirror::shared::{ChangeKind, Shared};
use crate::paths::relative;
use crate::report::{ChangedFile, Outcome, Pending};
use crate::scan::Changes;

/// Pauses while other calls store their changes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pause before the first background retry of pending changes.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest pause between two background retries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl Mirror {
    /// Retries pending changes in the background until all of them are stored, and brings the
    /// projection up to date.
    pub(super) fn retry_later(&self) {
        let mut retries = lock(&self.retries);
        if retries.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let task = tokio::spawn(async move {
            let mut pause = FIRST_RETRY;
            loop {
                tokio::time::sleep(pause).await;
                let Some(shared) = shared.upgrade() else { return };
                let _call = shared.calls.begin().await;
                if shared.access.check_start().is_err() || shared.is_released() {
                    return;
                }
                let is_left = tokio::select! {
                    biased;
                    () = shared.access.lost() => false,
                    is_left = shared.retry() => is_left,
                };
                if !is_left {
                    return;
                }
                pause = (pause * 2).min(LONGEST_RETRY);
            }
        });
        *retries = Some(task.abort_handle());
    }
}

impl Shared {
    pub(super) fn has_background_work(&self) -> bool {
        self.has_lagging_objects(|_| true)
            || !lock(&self.external).is_empty()
            || !lock(&self.lagging).is_empty()
    }

    /// Returns whether the session must not be released yet: its log has everything, but not all
    /// objects were tried. Objects that failed are left to the next opening that lists them.
    pub(super) fn has_untried_work(&self) -> bool {
        let lagging = lock(&self.lagging).clone();
        self.has_lagging_objects(|path| !lagging.contains(path)) || !lock(&self.external).is_empty()
    }

    fn has_lagging_objects(&self, counts: impl Fn(&str) -> bool) -> bool {
        let ledger = self.ledger();
        // No retry can put an object whose key cannot exist.
        let is_final = |path: &String| ledger.failure(path).is_some_and(|why| why.is_final);
        self.projection.is_some()
            && ledger.unprojected().iter().any(|path| !is_final(path) && counts(path))
    }

    /// Scans the directory and returns the changes that the store does not have.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let changes = self.scan_changed();
        let ledger = self.ledger();
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

    /// Describes a change that is not stored yet, with `reason` unless it has failed.
    pub(super) fn unanswered(&self, path: RelativePath, reason: &str) -> Pending {
        let ledger = self.ledger();
        let reason = ledger.failure(path.as_str()).map_or(reason, |why| &why.reason).to_owned();
        Pending { path, reason }
    }

    pub(super) fn claimed_paths(&self) -> Vec<String> {
        self.ledger().claimed().cloned().collect()
    }

    /// Resolves an entry without an answer, so that its changes end being claimed.
    pub(super) async fn settle_claims(&self) {
        let mut appender = self.appender.lock().await;
        if let Err(error) = self.settle(&mut appender).await {
            let error = sandbox_core::with_causes(&error);
            tracing::debug!(error, "an entry is still unanswered");
        }
    }

    /// Resolves an entry whose sending has failed, unless another call does so. Returns whether the
    /// log has it now.
    pub(super) async fn settle_failed(&self) -> bool {
        let Ok(mut appender) = self.appender.try_lock() else { return false };
        if appender.writer.staged().is_none() {
            return false;
        }
        match self.settle(&mut appender).await {
            Ok(()) => true,
            Err(error) => {
                let error = sandbox_core::with_causes(&error);
                tracing::debug!(error, "an entry is still unanswered");
                false
            }
        }
    }

    /// Waits for the next outcome of a flush as long as uploads make progress within `limit`.
    pub(super) async fn next_outcome(
        &self,
        outcomes: &mut mpsc::UnboundedReceiver<(String, Outcome)>,
        limit: Duration,
    ) -> Option<(String, Outcome)> {
        let (mut progress, mut since) = (self.blobs.progress(), Instant::now());
        loop {
            if let Ok(outcome) = timeout(LONGEST_PAUSE.min(limit), outcomes.recv()).await {
                return outcome;
            }
            let now = self.blobs.progress();
            if now != progress {
                (progress, since) = (now, Instant::now());
            } else if since.elapsed() >= limit {
                return None;
            }
        }
    }

    /// Waits until other calls have stored their changes too.
    pub(super) async fn settle_all_claims(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            self.settle_claims().await;
            if self.claimed_paths().is_empty() || self.access.is_lost() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Adopts the external versions that batches have met.
    pub(super) async fn adopt_conflicts(self: &Arc<Self>) {
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
    pub(super) async fn retry(self: &Arc<Self>) -> bool {
        self.settle_claims().await;
        let shared = Arc::clone(self);
        let mut changes = blocking(move || shared.scan_changed()).await;
        // The next call reports changes that no report has named.
        changes.modified.retain(|entry| self.reported.is_pending(&entry.path));
        changes.removed.retain(|path| self.reported.is_pending(path));
        changes.directories.retain(|entry| self.reported.is_pending(&entry.path));
        changes.symlinks.retain(|entry| self.reported.is_pending(&entry.path));
        self.take_outdated(&mut changes).await;
        self.take_surplus(&mut changes);
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
    pub(super) async fn stored_file(&self, path: &RelativePath) -> Option<ChangedFile> {
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
pub(super) fn changed_paths(changes: &Changes) -> impl Iterator<Item = &String> {
    let modified = changes.modified.iter().map(|entry| &entry.path);
    let directories = changes.directories.iter().map(|entry| &entry.path);
    let symlinks = changes.symlinks.iter().map(|entry| &entry.path);
    modified.chain(&changes.removed).chain(directories).chain(symlinks)
}
