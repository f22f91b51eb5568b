//! Storing of a batch: the changes of one call, or one large file.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::StreamExt;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::error::{SyncError, with_causes};
use crate::log::{Content, FileVersion, MAX_INLINE_BYTES_PER_ENTRY, Node};
use crate::mirror::contents::Contents;
use crate::mirror::shared::{ChangeKind, Shared};
use crate::paths::relative;
use crate::report::{Direction, Outcome, ProgressCounter};
use crate::scan::{Changes, Entry, SkipReason};
use crate::state::{Batch, Failure, KnownObject};
use crate::transfer::{ContentError, Projected, StoredContent};

/// Concurrent uploads.
const UPLOADS_AT_ONCE: usize = 16;
/// Largest file that waits for the other files of its call, and they for it.
const MAX_TOGETHER_BYTES: u64 = 8 << 20;
/// Most files of one entry, unless files are removed too: they may have been renamed. Each line of
/// an entry is in memory several times.
const MAX_TOGETHER_FILES: usize = 4_096;

/// File of a batch whose content the store has.
pub(super) struct Ready {
    pub(super) path: String,
    pub(super) stored: StoredContent,
}

impl Shared {
    /// Assigns changes to batches. Changes that another batch is storing are left out.
    pub(super) fn claim(&self, changes: Changes) -> Vec<(Batch, Changes)> {
        let mut ledger = self.ledger();
        let mut batches = Vec::new();
        let mut together = ledger.begin_batch();
        let has_renames = !changes.removed.is_empty();
        let mut first = Changes::default();
        for entry in changes.modified {
            let is_claimed = ledger.is_claimed(&entry.path);
            if is_claimed
                && ledger.local(&entry.path).map(|recorded| recorded.signature)
                    == Some(entry.signature)
            {
                continue;
            }
            if entry.signature.size > MAX_TOGETHER_BYTES {
                let batch = ledger.begin_batch();
                ledger.claim(batch, &entry.path, Some(entry.signature));
                let changes = Changes { modified: vec![entry], ..Changes::default() };
                batches.push((batch, changes));
            } else {
                if first.modified.len() == MAX_TOGETHER_FILES && !has_renames {
                    batches.push((together, std::mem::take(&mut first)));
                    together = ledger.begin_batch();
                }
                ledger.claim(together, &entry.path, Some(entry.signature));
                first.modified.push(entry);
            }
        }
        for path in changes.removed {
            let is_file = ledger.local(&path).is_some();
            let is_other = !matches!(ledger.log().nodes.get(&path), None | Some(Node::File(_)));
            if is_file || is_other {
                if is_file {
                    ledger.claim(together, &path, None);
                }
                first.removed.push(path);
            }
        }
        (first.directories, first.symlinks) = (changes.directories, changes.symlinks);
        if !first.is_empty() {
            batches.insert(0, (together, first));
        }
        batches
    }

    /// Stores a batch and passes the outcome of each change to `on_outcome`.
    pub(super) async fn store_batch(
        self: &Arc<Self>,
        batch: Batch,
        changes: Changes,
        on_outcome: impl Fn(String, Outcome),
    ) {
        // While the batch runs, garbage collection spares what it may refer to again.
        let known = Arc::new(self.known_contents(&changes));
        self.lend(&known);
        let inline_left = AtomicU64::new(MAX_INLINE_BYTES_PER_ENTRY);
        let progress = self.progress.as_deref();
        let counter = ProgressCounter::new(progress, Direction::Upload, changes.modified.len());
        let Changes { modified, removed, directories, symlinks } = changes;
        let (found, modified) = self.blobs.find_small(modified, known.clone()).await;
        found.iter().for_each(|_| counter.increment());
        let stored: Vec<_> = futures::stream::iter(modified)
            .map(async |Entry { path, .. }| {
                let stored = self.store_file(&path, &known, &inline_left).await;
                counter.increment();
                (path, stored)
            })
            .buffer_unordered(UPLOADS_AT_ONCE)
            .collect()
            .await;
        let found = found.into_iter().map(|(path, stored)| Ready { path, stored });
        let mut ready: Vec<Ready> = found.collect();
        for (path, stored) in stored {
            match stored {
                Ok(stored) => ready.push(Ready { path, stored }),
                Err(error) => {
                    let outcome = self.give_up(batch, &path, error);
                    on_outcome(path, outcome);
                }
            }
        }
        // Entries name changes in the order of their paths.
        ready.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let rest = Changes { modified: Vec::new(), removed, directories, symlinks };
        if let Err(source) =
            self.flush_contents(ready.iter().map(|ready| &ready.stored.content)).await
        {
            let error = SyncError::Append { source };
            return self.fail_batch(batch, ready, rest, &error, &on_outcome);
        }
        self.commit(batch, ready, rest, &on_outcome).await;
    }

    async fn store_file(
        &self,
        path: &str,
        known: &Contents,
        inline_left: &AtomicU64,
    ) -> Result<StoredContent, ContentError> {
        let Some(relative) = relative(path) else {
            return Err(ContentError::Permanent("its path is too long".to_owned()));
        };
        self.blobs.store(&relative, known, inline_left, self).await
    }

    /// Ends the claim on a change that cannot be stored now.
    fn give_up(&self, batch: Batch, path: &str, error: ContentError) -> Outcome {
        let mut ledger = self.ledger();
        ledger.give_up(batch, path);
        self.tracker.mark_dirty(path);
        let (reason, is_final) = match error {
            ContentError::Gone => return Outcome::Unchanged,
            ContentError::Retryable(reason) => (reason, false),
            ContentError::Permanent(reason) => (reason, true),
        };
        ledger.set_failed(path, Failure { reason: reason.clone(), is_final });
        match is_final {
            false => Outcome::Pending(reason),
            true => Outcome::Skipped(SkipReason::Key { reason }),
        }
    }

    /// Returns contents that the batch may refer to again: those of removed paths, because files
    /// may have been renamed, and the previous ones of changed paths.
    fn known_contents(&self, changes: &Changes) -> Contents {
        let ledger = self.ledger();
        let mut known = Contents::default();
        let modified = changes.modified.iter().map(|entry| &entry.path);
        for path in modified.chain(&changes.removed) {
            ledger.log().file(path).into_iter().for_each(|file| known.add(file));
        }
        known
    }

    /// Appends one entry for the batch, with the projection in parallel.
    async fn commit(
        self: &Arc<Self>,
        batch: Batch,
        ready: Vec<Ready>,
        rest: Changes,
        on_outcome: &impl Fn(String, Outcome),
    ) {
        let mut appender = self.appender.lock().await;
        // A change that a running call made before the close began is still stored.
        let settled = match self.access.check_lease().and_then(|()| self.check_stage()) {
            Err(error) => Err(error),
            Ok(()) => self.settle(&mut appender).await,
        };
        if let Err(error) = settled {
            drop(appender);
            return self.fail_batch(batch, ready, rest, &error, on_outcome);
        }
        let plan = self.plan(batch, ready, rest);
        for path in plan.unchanged {
            on_outcome(path, Outcome::Unchanged);
        }
        if plan.lines.is_empty() {
            return;
        }
        // Another home that took the session over may have deleted it since.
        let is_proven = appender.writer.unproven_for() <= self.ownership.timings.lease;
        let sent_changes = plan.sent.changes.clone();
        let number = self.stage(&mut appender, plan.lines, plan.sent);
        let early: Vec<(String, FileVersion)> = plan
            .files
            .into_iter()
            .filter(|_| is_proven)
            .map(|(path, file)| (path, FileVersion { number, ..file }))
            .collect();
        let (sent, ()) = tokio::join!(
            async {
                let sent = self.send(&mut appender).await;
                drop(appender);
                sent
            },
            self.project_early(early)
        );
        match sent {
            Ok(_) => {
                self.project(plan.touched).await;
                for (path, kind) in sent_changes {
                    let outcome = self.stored_outcome(&path, kind).await;
                    on_outcome(path, outcome);
                }
            }
            // The entry may be in the store, so its changes stay claimed until that is known.
            Err(error) => {
                let reason = with_causes(&error);
                for (path, _) in sent_changes {
                    let failure = Failure { reason: reason.clone(), is_final: false };
                    self.ledger().set_failed(&path, failure);
                    on_outcome(path, Outcome::Pending(reason.clone()));
                }
            }
        }
    }

    /// Returns the outcome of a change that the log holds.
    pub(super) async fn stored_outcome(&self, path: &str, kind: ChangeKind) -> Outcome {
        let (number, has_object, content) = {
            let ledger = self.ledger();
            let (file, seen) = (ledger.log().file(path), ledger.seen(path));
            let has_object = file.zip(seen).is_some_and(|(file, seen)| file.token == seen.token);
            let content = file.map(|file| file.content.clone());
            (ledger.position().number, has_object, content)
        };
        match kind {
            ChangeKind::Unreported => return Outcome::Unchanged,
            ChangeKind::RemovedFile => return Outcome::Deleted,
            ChangeKind::File => {}
        }
        let key = self.projection.as_ref().and_then(|to| to.remote.key(path).ok());
        if key.is_some() && !has_object {
            self.reported.await_object(path);
        }
        let key = key.filter(|_| has_object);
        let linked = match content {
            _ if !self.links.open_versions() => key.clone(),
            Some(Content::Blob(blob)) => Some(self.log.blob_key(blob)),
            _ => None,
        };
        let url = match &linked {
            Some(key) => self.links.link(key).await,
            None => None,
        };
        Outcome::Stored { key, url, number }
    }

    fn fail_batch(
        &self,
        batch: Batch,
        ready: Vec<Ready>,
        rest: Changes,
        error: &SyncError,
        on_outcome: &impl Fn(String, Outcome),
    ) {
        let reason = with_causes(error);
        for ready in &ready {
            if let Content::Blob(blob) = ready.stored.content {
                self.ledger().release_upload(blob);
            }
        }
        let others = rest.directories.into_iter().map(|entry| entry.path);
        let others = others.chain(rest.symlinks.into_iter().map(|entry| entry.path));
        let paths = ready.into_iter().map(|ready| ready.path).chain(rest.removed).chain(others);
        for path in paths {
            let outcome = self.give_up(batch, &path, ContentError::Retryable(reason.clone()));
            on_outcome(path, outcome);
        }
    }
}

impl Shared {
    /// Puts the objects of files whose entry is on its way. Only markers make that safe: without
    /// one, an object whose entry was never stored would look like an external one.
    async fn project_early(&self, files: Vec<(String, FileVersion)>) {
        let Some(projection) = &self.projection else { return };
        if !projection.remote.keeps_attributes().await {
            return;
        }
        futures::stream::iter(files)
            .for_each_concurrent(UPLOADS_AT_ONCE, async |(path, file)| {
                let Some(relative) = RelativePath::parse(&path).ok() else { return };
                let _object = self.objects.lock(&path).await;
                let seen = self.ledger().seen(&path).cloned();
                let expected = seen.as_ref().map(|seen| &seen.version);
                // Whatever fails here is done again after the entry is acknowledged.
                match projection.put(&relative, &file, expected).await {
                    Ok(Projected::Put(version)) => {
                        let token = file.token;
                        self.ledger().set_seen(&path, KnownObject { token, version });
                    }
                    Err(ContentError::Retryable(_)) => {
                        lock(&self.lagging).insert(path.clone());
                    }
                    Ok(_) | Err(_) => {}
                }
            })
            .await;
    }
}
