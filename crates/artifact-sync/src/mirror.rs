//! A directory and a prefix of an object store, kept equal.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path as Key;
use sandbox_core::internal::{blocking, lock};
use sandbox_core::{RelativePath, SessionDir, with_causes};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::builder::MirrorBuilder;
use crate::diff::Changes;
use crate::error::SyncError;
use crate::ignore::IgnoreRules;
use crate::index::{Index, Known, Origin};
use crate::keys;
use crate::links::Linker;
use crate::look::{ChangeSourceReport, Lookout, Scope};
use crate::report::{ChangedFile, Direction, Pending, Progress, RestoreReport, SyncReport};
use crate::snapshot::Snapshot;
use crate::tally::{Tally, Told};
use crate::upload::Uploader;

/// How long [`Mirror::flush`] waits.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// More removals than this at one time, of more than half of what the store has, are held back.
const MAX_REMOVALS: usize = 50;
/// How long after a call that left something pending it is tried again, and how long at most
/// between two attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One directory and its objects. Calls may overlap; they take turns. Dropping it ends uploads that
/// are under way: what is not in the store then is pending, and the next mirror of the directory
/// knows.
#[derive(Debug)]
pub struct Mirror {
    pub(crate) inner: Arc<Inner>,
    /// The uploads that may go on after a call has returned.
    work: Mutex<Option<AbortHandle>>,
    retries: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) prefix: Key,
    pub(crate) rules: IgnoreRules,
    pub(crate) uploader: Uploader,
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) progress: Option<Arc<dyn Progress>>,
    pub(crate) deadline: Duration,
    pub(crate) index: Mutex<Index>,
    /// Held while the directory and the store are being made equal.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) told: Told,
    pub(crate) lookout: Lookout,
}

/// How many removals a synchronisation carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removals {
    All,
    UpToMany,
}

impl Mirror {
    /// A mirror of a directory below a prefix; the prefix itself is no object.
    pub fn builder(
        dir: Arc<SessionDir>,
        store: Arc<dyn ObjectStore>,
        prefix: Key,
    ) -> MirrorBuilder {
        MirrorBuilder::new(dir, store, prefix)
    }

    pub(crate) fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), work: Mutex::default(), retries: Mutex::default() }
    }

    /// Looks at what may have changed in the directory and brings the store up to date. What cannot
    /// be brought is pending in the report; the call itself never fails.
    ///
    /// # Cancel safety
    /// Uploads that have begun go on; what they change is known to the next call.
    pub async fn sync(&self) -> SyncReport {
        self.run(Scope::All, Removals::UpToMany, self.inner.deadline).await
    }

    /// Brings one file up to date, without a walk. It is in the report's `changed` once the store
    /// has it, also when the store had this content before.
    ///
    /// # Cancel safety
    /// As [`Mirror::sync`].
    pub async fn put_file(&self, path: &RelativePath) -> SyncReport {
        let mut report =
            self.run(Scope::File(path.clone()), Removals::UpToMany, self.inner.deadline).await;
        if report.changed.is_empty() && report.pending.is_empty() {
            report.changed.extend(self.inner.held(path).await);
        }
        report
    }

    /// As [`Mirror::sync`], but walks the directory whatever events tell, waits up to a minute, and
    /// names everything that is skipped, also what earlier reports have named.
    ///
    /// # Cancel safety
    /// As [`Mirror::sync`].
    pub async fn flush(&self) -> SyncReport {
        self.inner.told.forget_skipped();
        self.run(Scope::Walk, Removals::UpToMany, FLUSH_DEADLINE.max(self.inner.deadline)).await
    }

    /// Fetches what is new in the store, or newer and not changed here: [`Mirror::restore`] for a
    /// session that is open.
    ///
    /// # Errors
    /// As [`Mirror::restore`].
    ///
    /// # Cancel safety
    /// As [`Mirror::restore`].
    pub async fn refresh(&self) -> Result<RestoreReport, SyncError> {
        self.restore().await
    }

    /// As [`Mirror::sync`], and carries out removals that were held back because they were so many.
    ///
    /// # Cancel safety
    /// As [`Mirror::sync`].
    pub async fn sync_with_removals(&self) -> SyncReport {
        self.run(Scope::Walk, Removals::All, self.inner.deadline).await
    }

    /// How changes are found, and where it is by walks, why.
    pub fn change_source(&self) -> ChangeSourceReport {
        self.inner.lookout.report()
    }

    /// What the store does not have, by a look at the directory, without asking the store.
    pub fn pending(&self) -> Vec<Pending> {
        let mut changes = self.inner.look_at_all();
        let held = self.inner.hold_back(&mut changes);
        let index = self.inner.index();
        let reason = |path: &str| match index.failure(path) {
            Some(failure) if failure.is_final => None,
            Some(failure) => Some(failure.reason.clone()),
            None => Some("it was not tried yet".to_owned()),
        };
        let touched = changes
            .touched
            .iter()
            .filter(|entry| keys::key(&self.inner.prefix, &entry.path).is_ok());
        let paths = touched.map(|entry| &entry.path).chain(&changes.gone);
        let pending =
            paths.filter_map(|path| Some(Pending { reason: reason(path)?, path: relative(path)? }));
        let many = "it is gone with many others, and its removal waits to be confirmed".to_owned();
        let held = held
            .iter()
            .filter_map(|path| Some(Pending { reason: many.clone(), path: relative(path)? }));
        pending.chain(held).collect()
    }

    async fn run(&self, scope: Scope, removals: Removals, deadline: Duration) -> SyncReport {
        let deadline = Instant::now() + deadline;
        let inner = Arc::clone(&self.inner);
        let turn = timeout_at(deadline, Arc::clone(&inner.turn).lock_owned()).await;
        let (mut changes, skipped) = {
            let inner = Arc::clone(&inner);
            blocking(move || inner.look(&scope)).await
        };
        let held_back =
            if removals == Removals::UpToMany { inner.hold_back(&mut changes) } else { Vec::new() };
        inner.lookout.has_told(&skipped);
        let mut tally = Tally::new(&inner.told, &changes, skipped, held_back);
        let Ok(turn) = turn else { return tally.finish("earlier uploads are still under way") };
        if changes.is_empty() {
            return tally.finish("");
        }
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let working = Arc::clone(&inner);
        let work = tokio::spawn(async move {
            let tell = |path, outcome| {
                if let Err(SendError((path, outcome))) = sender.send((path, outcome)) {
                    // The call has returned; the next report tells of it.
                    working.told.add_late(path, outcome);
                }
            };
            working.carry_out(changes, tell).await;
            drop(turn);
        });
        *lock(&self.work) = Some(work.abort_handle());
        while let Ok(Some((path, outcome))) = timeout_at(deadline, outcomes.recv()).await {
            tally.add(path, outcome);
        }
        let report = tally.finish("the store has not answered yet");
        if !report.pending.is_empty() {
            self.try_again_later();
        }
        report
    }

    /// Tries again what is pending, also while nobody calls, until all of it is stored.
    fn try_again_later(&self) {
        let mut retries = lock(&self.retries);
        if retries.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                let Some(inner) = inner.upgrade() else { return };
                let _turn = inner.turn.lock().await;
                let looking = Arc::clone(&inner);
                let mut changes = blocking(move || looking.look_at_all()).await;
                inner.hold_back(&mut changes);
                // What arose since the last call is that of the next one to tell.
                changes
                    .touched
                    .retain(|entry| inner.told.is_pending(&entry.path, &entry.signature));
                changes.gone.retain(|path| inner.index().failure(path).is_some());
                if changes.is_empty() {
                    return;
                }
                inner.carry_out(changes, |path, outcome| inner.told.add_late(path, outcome)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        *retries = Some(task.abort_handle());
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for task in [&mut self.work, &mut self.retries] {
            if let Some(task) = task.get_mut().unwrap_or_else(PoisonError::into_inner) {
                task.abort();
            }
        }
        // What was under way may hold on to the rest for a moment.
        self.inner.index().let_go();
    }
}

impl Inner {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Takes removals out of the changes when they are too many to be meant.
    fn hold_back(&self, changes: &mut Changes) -> Vec<String> {
        let index = self.index();
        // Removals that only the record knows of cost nobody anything.
        let is_own =
            |path: &String| index.stored(path).is_some_and(|stored| stored.origin == Origin::Local);
        let own = changes.gone.iter().filter(|path| is_own(path)).count();
        let known =
            || index.known().values().filter(|known| matches!(known, Known::Stored(_))).count();
        if own <= MAX_REMOVALS || own * 2 <= known() {
            return Vec::new();
        }
        let (held, gone) = std::mem::take(&mut changes.gone).into_iter().partition(is_own);
        changes.gone = gone;
        held
    }

    /// The file as the store holds it, where that is what is there.
    async fn held(&self, path: &RelativePath) -> Option<ChangedFile> {
        let there = Snapshot::of_file(self.uploader.dir.as_fd(), path, &self.rules);
        let signature = there.find(path.as_str())?;
        if self.index().stored(path.as_str())?.signature != *signature {
            return None;
        }
        let key = keys::key(&self.prefix, path.as_str()).ok()?;
        let url = self.link(&key).await;
        Some(ChangedFile { path: path.clone(), key: Some(key), url })
    }

    pub(crate) async fn link(&self, key: &Key) -> Option<String> {
        let linked = self.linker.as_ref()?.link(key).await;
        linked.unwrap_or_else(|error| {
            tracing::warn!(%key, error = with_causes(&error), "no link");
            None
        })
    }
}

/// The walk gives plain paths only; one that is too long for a system call is not mirrored.
pub(crate) fn relative(path: &str) -> Option<RelativePath> {
    RelativePath::parse(path).ok()
}

/// Counts the files of one transfer for whoever wants to know.
pub(crate) struct Counter<'m> {
    progress: Option<&'m dyn Progress>,
    direction: Direction,
    done: AtomicUsize,
    total: usize,
}

impl<'m> Counter<'m> {
    pub(crate) fn new(inner: &'m Inner, direction: Direction, total: usize) -> Self {
        Self { progress: inner.progress.as_deref(), direction, done: AtomicUsize::new(0), total }
    }

    pub(crate) fn count(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(progress) = self.progress {
            progress.advanced(self.direction, done, self.total);
        }
    }
}
