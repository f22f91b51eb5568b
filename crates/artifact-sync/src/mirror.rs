//! A directory and a prefix of an object store, kept equal.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path as Key;
use rustix::fs::{AtFlags, StatxFlags};
use sandbox_core::{RelativePath, SessionDir};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::diff::{Changes, diff};
use crate::error::{SyncError, with_causes};
use crate::ignore::IgnoreRules;
use crate::index::{DirectoryId, Failure, Index, Known, Origin};
use crate::keys;
use crate::links::Linker;
use crate::report::{Direction, Mirrored, Pending, Progress, SkipReason, Skipped, SyncReport};
use crate::snapshot::{Entry, Snapshot};
use crate::tally::{Outcome, Tally, Told};
use crate::upload::{Upload, UploadError, Uploader, blocking};

/// How long a synchronisation waits for the store by default.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long [`Mirror::flush`] waits.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// How many objects are on their way at once.
const UPLOADS_AT_ONCE: usize = 16;

/// One directory and its objects. Calls may overlap; they take turns. Dropping it ends uploads that are under way: what
/// is not in the store then is pending, and the next mirror of the directory knows.
#[derive(Debug)]
pub struct Mirror {
    pub(crate) inner: Arc<Inner>,
    /// The uploads that may go on after a call has returned.
    work: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) prefix: Key,
    pub(crate) rules: IgnoreRules,
    pub(crate) uploader: Uploader,
    linker: Option<Arc<dyn Linker>>,
    pub(crate) progress: Option<Arc<dyn Progress>>,
    deadline: Duration,
    index: Mutex<Index>,
    /// Held while the directory and the store are being made equal.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    told: Told,
}

/// What [`Mirror::builder`] sets.
#[derive(Debug)]
pub struct MirrorBuilder {
    dir: Arc<SessionDir>,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    state_dir: Option<PathBuf>,
    rules: IgnoreRules,
    excluded: Vec<String>,
    linker: Option<Arc<dyn Linker>>,
    progress: Option<Arc<dyn Progress>>,
    deadline: Duration,
}

impl MirrorBuilder {
    /// Where the record of what the store holds is kept: a directory of its own, out of the agent's reach. Required.
    #[must_use]
    pub fn state_dir(mut self, dir: PathBuf) -> Self {
        self.state_dir = Some(dir);
        self
    }

    /// Leaves alone an entry of the directory itself.
    #[must_use]
    pub fn exclude(mut self, name: &str) -> Self {
        self.excluded.push(name.to_owned());
        self
    }

    /// What is left alone at any depth, in the place of the default list.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.rules = rules;
        self
    }

    /// Makes links to what is stored.
    #[must_use]
    pub fn linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = Some(linker);
        self
    }

    /// Is told how far transfers have come.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// How long a call waits for the store, 10 s by default. What is not done by then goes on in the background.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Opens the record. Nothing is transferred.
    ///
    /// # Errors
    /// [`SyncError::Index`] when the record cannot be used.
    pub fn open(mut self) -> Result<Mirror, SyncError> {
        let index_error = |(path, source)| SyncError::Index { path, source };
        let state_dir = self.state_dir.ok_or_else(|| {
            index_error((
                PathBuf::new(),
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "no state directory is set"),
            ))
        })?;
        let mut index = Index::open(&state_dir).map_err(index_error)?;
        let id = identity(self.dir.as_fd()).map_err(|errno| index_error((self.dir.path().to_owned(), errno.into())))?;
        if index.directory() != Some(id) {
            index.begin_directory(id);
        }
        self.excluded.into_iter().for_each(|name| self.rules.add_top_level(name));
        let inner = Inner {
            prefix: self.prefix,
            rules: self.rules,
            uploader: Uploader::new(self.dir, self.store),
            linker: self.linker,
            progress: self.progress,
            deadline: self.deadline,
            index: Mutex::new(index),
            turn: Arc::default(),
            told: Told::default(),
        };
        Ok(Mirror { inner: Arc::new(inner), work: Mutex::default() })
    }
}

fn identity(dir: impl AsFd) -> rustix::io::Result<DirectoryId> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME)?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Ok(DirectoryId { inode: stat.stx_ino, born: told.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)) })
}

/// What a synchronisation looks at.
#[derive(Clone, Debug)]
enum Scope {
    All,
    File(RelativePath),
}

impl Mirror {
    /// A mirror of a directory below a prefix; the prefix itself is no object.
    pub fn builder(dir: Arc<SessionDir>, store: Arc<dyn ObjectStore>, prefix: Key) -> MirrorBuilder {
        MirrorBuilder {
            dir,
            store,
            prefix,
            state_dir: None,
            rules: IgnoreRules::default(),
            excluded: Vec::new(),
            linker: None,
            progress: None,
            deadline: DEADLINE,
        }
    }

    /// Walks the directory once and brings the store up to date. What cannot be brought is pending in the report; the
    /// call itself never fails.
    ///
    /// # Cancel safety
    /// Uploads that have begun go on; what they change is known to the next call.
    pub async fn sync(&self) -> SyncReport {
        self.run(Scope::All, self.inner.deadline).await
    }

    /// Brings one file up to date, without a walk. It is in the report's `changed` once the store has it, also when
    /// the store had this content before.
    ///
    /// # Cancel safety
    /// As [`Mirror::sync`].
    pub async fn put_file(&self, path: &RelativePath) -> SyncReport {
        let mut report = self.run(Scope::File(path.clone()), self.inner.deadline).await;
        if report.changed.is_empty() && report.pending.is_empty() {
            report.changed.extend(self.inner.held(path).await);
        }
        report
    }

    /// As [`Mirror::sync`], but waits up to a minute, and names everything that is skipped, also what earlier reports have
    /// named.
    ///
    /// # Cancel safety
    /// As [`Mirror::sync`].
    pub async fn flush(&self) -> SyncReport {
        self.inner.told.forget_skipped();
        self.run(Scope::All, FLUSH_DEADLINE.max(self.inner.deadline)).await
    }

    /// What the store does not have, by a walk, without asking the store.
    pub fn pending(&self) -> Vec<Pending> {
        let (changes, _) = self.inner.look(&Scope::All);
        let index = self.inner.index();
        let reason = |path: &str| match index.failure(path) {
            Some(failure) if failure.is_final => None,
            Some(failure) => Some(failure.reason.clone()),
            None => Some("it was not tried yet".to_owned()),
        };
        let touched = changes.touched.iter().filter(|entry| keys::key(&self.inner.prefix, &entry.path).is_ok());
        let paths = touched.map(|entry| &entry.path).chain(&changes.gone);
        paths.filter_map(|path| Some(Pending { reason: reason(path)?, path: relative(path)? })).collect()
    }

    async fn run(&self, scope: Scope, deadline: Duration) -> SyncReport {
        let deadline = Instant::now() + deadline;
        let inner = Arc::clone(&self.inner);
        let turn = timeout_at(deadline, Arc::clone(&inner.turn).lock_owned()).await;
        let (changes, skipped) = {
            let inner = Arc::clone(&inner);
            blocking(move || inner.look(&scope)).await
        };
        let mut tally = Tally::new(&inner.told, &changes, skipped);
        let Ok(turn) = turn else { return tally.finish("earlier uploads are still under way") };
        if changes.is_empty() {
            return tally.finish("");
        }
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let working = Arc::clone(&inner);
        let work = tokio::spawn(async move {
            working.carry_out(changes, &sender).await;
            drop(turn);
        });
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(work.abort_handle());
        while let Ok(Some((path, outcome))) = timeout_at(deadline, outcomes.recv()).await {
            tally.add(path, outcome);
        }
        tally.finish("the store has not answered yet")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(work) = self.work.get_mut().unwrap_or_else(PoisonError::into_inner) {
            work.abort();
        }
        // What was under way may hold on to the rest for a moment.
        self.inner.index().let_go();
    }
}

impl Inner {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, scope: &Scope) -> (Changes, Vec<Skipped>) {
        let dir = self.uploader.dir.as_fd();
        match scope {
            Scope::All => {
                let snapshot = Snapshot::take(dir, &self.rules);
                (diff(&snapshot, self.index().known()), snapshot.skipped)
            }
            Scope::File(path) => {
                let snapshot = Snapshot::of_file(dir, path, &self.rules);
                let known = self
                    .index()
                    .known()
                    .get_key_value(path.as_str())
                    .map(|(path, known)| (path.clone(), known.clone()));
                let Changes { touched, .. } = diff(&snapshot, &known.into_iter().collect());
                (Changes { touched, gone: Vec::new() }, snapshot.skipped)
            }
        }
    }

    /// The file as the store holds it, where that is what is there.
    async fn held(&self, path: &RelativePath) -> Option<Mirrored> {
        let there = Snapshot::of_file(self.uploader.dir.as_fd(), path, &self.rules);
        let signature = there.find(path.as_str())?;
        if self.index().stored(path.as_str())?.signature != *signature {
            return None;
        }
        let key = keys::key(&self.prefix, path.as_str()).ok()?;
        let url = self.link(&key).await;
        Some(Mirrored { path: path.clone(), key: Some(key), url })
    }

    async fn carry_out(&self, changes: Changes, outcomes: &mpsc::UnboundedSender<(String, Outcome)>) {
        let (first, last) = in_the_way(&changes);
        // A report that nobody waits for any more is no reason to stop.
        let tell = |path: String, outcome| drop(outcomes.send((path, outcome)));
        self.remove_all(first, &tell).await;
        let counter = Counter::new(self, Direction::Upload, changes.touched.len());
        futures::stream::iter(changes.touched)
            .for_each_concurrent(UPLOADS_AT_ONCE, |entry| async {
                let outcome = self.upload(&entry).await;
                counter.count();
                tell(entry.path, outcome);
            })
            .await;
        self.remove_all(last, &tell).await;
    }

    async fn remove_all(&self, paths: Vec<String>, tell: &impl Fn(String, Outcome)) {
        futures::stream::iter(paths)
            .for_each_concurrent(UPLOADS_AT_ONCE, |path| async {
                let outcome = self.remove(&path).await;
                tell(path, outcome);
            })
            .await;
    }

    async fn upload(&self, entry: &Entry) -> Outcome {
        let Some(path) = relative(&entry.path) else { return Outcome::Skipped(SkipReason::PathTooLong) };
        let key = match keys::key(&self.prefix, &entry.path) {
            Ok(key) => key,
            Err(reason) => return Outcome::Skipped(SkipReason::Key { reason: reason.to_owned() }),
        };
        let known = self.index().known().get(&entry.path).cloned();
        let (before, origin) = match known {
            Some(Known::Stored(stored)) => (Some(stored.clone()), stored.origin),
            Some(Known::Awaited { origin, .. }) => (None, origin),
            // The object under this key is not the session's own.
            Some(Known::Removed { .. }) => (None, Origin::Remote),
            None => (None, Origin::Local),
        };
        let failed = |reason: &str, is_final| {
            self.index().set_failed(&entry.path, Failure { reason: reason.to_owned(), is_final });
        };
        match self.uploader.upload(&path, &key, before, origin).await {
            Ok(Upload::Stored { stored, is_unchanged }) => {
                self.index().set_stored(&entry.path, stored);
                if is_unchanged {
                    return Outcome::Nothing;
                }
                let url = self.link(&key).await;
                Outcome::Stored { key, url }
            }
            Ok(Upload::Gone) => Outcome::Nothing,
            Err(UploadError::Pending(reason)) => {
                failed(&reason, false);
                Outcome::Pending(reason)
            }
            Err(UploadError::Never(reason)) => {
                failed(&reason, true);
                Outcome::Skipped(SkipReason::Key { reason })
            }
        }
    }

    async fn link(&self, key: &Key) -> Option<String> {
        let linked = self.linker.as_ref()?.link(key).await;
        linked.unwrap_or_else(|error| {
            tracing::warn!(%key, error = with_causes(&error), "no link");
            None
        })
    }

    async fn remove(&self, path: &str) -> Outcome {
        let Some(stored) = self.index().stored(path).cloned() else { return Outcome::Nothing };
        if stored.origin == Origin::Remote {
            self.index().set_removed(path, stored.etag);
            return Outcome::Deleted;
        }
        // What is known has a key.
        let Ok(key) = keys::key(&self.prefix, path) else { return Outcome::Nothing };
        match self.uploader.remove(&key, stored.etag.as_deref()).await {
            // Where the object is another one by now, it is as if it had come from elsewhere.
            Ok(_) => {
                self.index().forget(path);
                Outcome::Deleted
            }
            Err(error) => {
                let reason = format!("it could not be removed: {}", with_causes(&error));
                self.index().set_failed(path, Failure { reason: reason.clone(), is_final: false });
                Outcome::Pending(reason)
            }
        }
    }
}

/// The removals that must come before the uploads, because a directory takes a file's place or the other way
/// round; and the others, which come last: until then the store has what a rename has moved.
fn in_the_way(changes: &Changes) -> (Vec<String>, Vec<String>) {
    let touched: HashSet<&str> = changes.touched.iter().map(|entry| entry.path.as_str()).collect();
    let gone: HashSet<&str> = changes.gone.iter().map(String::as_str).collect();
    let above: HashSet<&str> =
        touched.iter().flat_map(|path| parents(path)).filter(|path| gone.contains(path)).collect();
    changes
        .gone
        .iter()
        .cloned()
        .partition(|path| above.contains(path.as_str()) || parents(path).any(|above| touched.contains(above)))
}

/// `a/b`, then `a`, of `a/b/c`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/'), |(above, _)| above.rsplit_once('/')).map(|(above, _)| above)
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
            progress.moved(self.direction, done, self.total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Signature;

    #[test]
    fn removals_come_first_only_where_a_name_changes_its_kind() {
        let entry = |path: &str| Entry {
            path: path.to_owned(),
            signature: Signature { size: 0, modified: (0, 0), changed: (0, 0), inode: 0, mode: 0 },
        };
        let changes = Changes {
            touched: ["a/b/c", "d", "new"].map(entry).into(),
            gone: ["a", "d/e/f", "old", "dd"].map(str::to_owned).into(),
        };
        assert_eq!(
            in_the_way(&changes),
            (vec!["a".to_owned(), "d/e/f".to_owned()], vec!["old".to_owned(), "dd".to_owned()])
        );
    }
}
