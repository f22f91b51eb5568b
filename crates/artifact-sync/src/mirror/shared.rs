//! Parts of a mirror that background tasks use too.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use sandbox_core::internal::lock;
use sandbox_core::{RelativePath, SessionDir};
use tokio::sync::Mutex as AsyncMutex;

use crate::builder::Ownership;
use crate::error::SyncError;
use crate::log::{AppendError, Appended, Content, Hash, Line, LogStore, LogWriter, Node, Token};
use crate::mirror::access::{Access, Calls};
use crate::mirror::adopt::Adoption;
use crate::mirror::contents::Contents;
use crate::mirror::path_locks::PathLocks;
use crate::mirror::project::Held;
use crate::owners::Hold;
use crate::paths::relative;
use crate::report::{Progress, ReportedState, RestoreReport};
use crate::scan::{
    ChangeTracker, Changes, IgnoreRules, RecordedSignature, Scope, Signature, Skipped,
};
use crate::state::{Batch, Boot, Ledger, Remains};
use crate::transfer::{
    Blobs, Fetcher, Links, Projection, Remote, UploadJournal, UploadRecord, UploadStep,
};

/// Everything that a mirror consists of, except its background tasks.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: Arc<SessionDir>,
    pub(super) rules: Arc<IgnoreRules>,
    pub(super) tracker: ChangeTracker,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) appender: AsyncMutex<Appender>,
    pub(super) log: LogStore,
    pub(super) remote: Arc<Remote>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) fetcher: Arc<Fetcher>,
    /// `None` if the projection is turned off.
    pub(super) projection: Option<Projection>,
    pub(super) links: Links,
    pub(super) progress: Option<Arc<dyn Progress>>,
    pub(super) reported: ReportedState,
    pub(super) access: Access,
    pub(super) calls: Calls,
    pub(super) ownership: Ownership,
    /// Ownership of the session in the log. It changes only while the appender is locked.
    pub(super) tenure: Mutex<Tenure>,
    /// Paths whose object another program has replaced.
    pub(super) external: Mutex<BTreeSet<String>>,
    /// Held while external changes are found and adopted.
    pub(super) refreshing: AsyncMutex<()>,
    /// Held while the background brings the projection up to date.
    pub(super) projecting: AsyncMutex<()>,
    /// Held while the object of a path is put or deleted, so that a deletion that lags behind
    /// cannot meet the object of a later version.
    pub(super) objects: PathLocks,
    /// Paths whose objects could not be brought up to date when that was last tried.
    pub(super) lagging: Mutex<BTreeSet<String>>,
    /// Contents that the log has held for paths whose objects were looked at.
    pub(super) held: AsyncMutex<Held>,
    /// Held while garbage is collected.
    pub(super) collecting: AsyncMutex<()>,
    /// Time for which the log keeps what it no longer needs.
    pub(super) retention: Duration,
    /// Time without progress after which a flush ends.
    pub(super) patience: Duration,
    /// Maximum size of the files that batches are storing.
    pub(super) max_queued_bytes: u64,
    /// Start of the machine; `None` if it is unknown.
    pub(super) boot: Option<Boot>,
    /// Number up to which the projection was compared with the log by this process.
    pub(super) compared: AtomicU64,
    /// Set while a lost log is replaced: only this journal tells which objects are known.
    pub(super) is_refilling: AtomicBool,
    /// Contents to which running batches may refer again.
    pub(super) lent: Mutex<Vec<Weak<Contents>>>,
}

/// The only place from which entries are appended.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) writer: LogWriter,
    /// Batch of the entry that was sent and not answered.
    pub(super) sent: Option<SentBatch>,
    /// Line with which the next entry begins, if this home has not yet confirmed its ownership.
    pub(super) own: Option<Line>,
}

/// Ownership of the session, as far as this home knows the log.
#[derive(Debug)]
pub(super) enum Tenure {
    /// This home is the owner, or becomes it with its first entry.
    Held(#[expect(dead_code, reason = "the heartbeat counts it")] Option<Hold>),
    /// The log has no owner. The first announced call becomes it.
    Free,
    /// This home has released the session, or is about to. Every call becomes the owner first.
    Released,
}

/// Facts about the files of an entry that the store has not confirmed.
#[derive(Debug, Default)]
pub(super) struct SentBatch {
    pub(super) batch: Batch,
    pub(super) signatures: Vec<(String, RecordedSignature)>,
    /// Changes that reports name.
    pub(super) changes: Vec<(String, ChangeKind)>,
    /// Changes of the working copy that follow once the log has the entry.
    pub(super) follow_ups: Vec<FollowUp>,
    /// Set if the entry is a snapshot: paths whose records it no longer has.
    pub(super) snapshot: Option<BTreeSet<String>>,
    /// Number of the oldest state that stays retained, if the entry gives up older ones.
    pub(super) retained: Option<u64>,
}

/// Change of the working copy that an entry leads to.
#[derive(Debug)]
pub(super) enum FollowUp {
    /// A file that another program wrote, or an older version.
    Adopt(Box<Adoption>),
    /// A directory or a symlink of an older state.
    Restore {
        path: RelativePath,
        node: Node,
    },
    Remove {
        path: RelativePath,
        local: RecordedSignature,
        hash: Hash,
    },
}

impl FollowUp {
    /// Returns the paths that change.
    fn paths(&self) -> Vec<&RelativePath> {
        match self {
            Self::Adopt(adoption) => adoption.paths(),
            Self::Restore { path, .. } | Self::Remove { path, .. } => vec![path],
        }
    }
}

/// Kind of a change in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    File,
    RemovedFile,
    /// A directory, a symlink, or the times of a file, which reports do not name.
    Unreported,
}

impl Shared {
    /// Locks the ledger.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Makes garbage collection spare contents while a batch holds them.
    pub(super) fn lend(&self, contents: &Arc<Contents>) {
        let mut lent = lock(&self.lent);
        lent.retain(|contents| contents.strong_count() > 0);
        lent.push(Arc::downgrade(contents));
    }

    /// Returns when new contents are stored so that a loss of power cannot damage them. An entry
    /// refers to them only afterwards.
    pub(super) async fn flush_contents(
        &self,
        contents: impl Iterator<Item = &Content>,
    ) -> Result<(), object_store::Error> {
        let new: Vec<Token> = {
            let ledger = self.ledger();
            let blobs = contents.filter_map(|content| match content {
                Content::Blob(name) => Some(*name),
                Content::Inline(_) | Content::Entry(_) => None,
            });
            blobs.filter(|name| ledger.uploads().contains_key(name)).collect()
        };
        self.log.flush_blobs(&new).await
    }

    /// Resolves the entry that was sent and not answered.
    pub(super) async fn settle(&self, appender: &mut Appender) -> Result<(), SyncError> {
        self.learn_conditions(appender).await?;
        match appender.writer.settle().await {
            Ok(None) => Ok(()),
            Ok(Some(appended)) => {
                let (late, report) = self.acknowledge(appender, appended).await;
                self.reported.add_conflicts(report.conflicts);
                for (path, kind) in late {
                    let outcome = self.stored_outcome(&path, kind).await;
                    self.reported.add_completed_late(path, outcome);
                }
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Appends lines and records them. Returns what followed in the working copy.
    pub(super) async fn append(
        &self,
        appender: &mut Appender,
        lines: Vec<Line>,
        sent: SentBatch,
    ) -> Result<RestoreReport, SyncError> {
        if !lines.contains(&Line::Erased) {
            self.check_stage()?;
        }
        self.stage(appender, lines, sent);
        self.send(appender).await
    }

    /// Learns how the store creates entries, before the first append.
    pub(super) async fn learn_conditions(&self, appender: &mut Appender) -> Result<(), SyncError> {
        if appender.writer.needs_conditions() {
            let properties = self.remote.properties().await;
            let properties = properties.map_err(|source| SyncError::Append { source })?;
            appender.writer.set_conditional_create(properties.create);
        }
        Ok(())
    }

    /// Prepares an entry and returns its number.
    pub(super) fn stage(&self, appender: &mut Appender, lines: Vec<Line>, sent: SentBatch) -> u64 {
        let own = appender.own.clone();
        let retained = sent.retained.unwrap_or(appender.writer.position().retained);
        let lines = own.into_iter().chain(lines).collect();
        let number = appender.writer.stage_retaining(lines, retained);
        // After a crash, the next process finds out whether the log has this entry. An entry that
        // the working copy does not follow yet is applied like one of another machine.
        match appender.writer.staged().filter(|_| sent.snapshot.is_none()) {
            Some(staged) if sent.follow_ups.is_empty() => {
                self.ledger().record_sent(staged, sent.signatures.clone());
            }
            Some(staged) => self.ledger().set_applying(staged.position),
            None => {}
        }
        appender.sent = Some(sent);
        number
    }

    /// Sends the prepared entry and records it. Returns what followed in the working copy.
    pub(super) async fn send(&self, appender: &mut Appender) -> Result<RestoreReport, SyncError> {
        let appended = appender.writer.send().await.map_err(|error| self.failed(error))?;
        Ok(self.acknowledge(appender, appended).await.1)
    }

    /// Turns an error of the writer into the error of a call.
    pub(super) fn failed(&self, error: AppendError) -> SyncError {
        if matches!(error, AppendError::Fenced) {
            self.access.lose();
            *lock(&self.tenure) = Tenure::Released;
        }
        error.into()
    }

    /// Records an entry that the log holds. Returns its changes, and what followed in the working
    /// copy.
    pub(super) async fn acknowledge(
        &self,
        appender: &mut Appender,
        appended: Appended,
    ) -> (Vec<(String, ChangeKind)>, RestoreReport) {
        let releases = matches!(appended.lines.last(), Some(Line::Release));
        appender.own = releases.then(|| self.ownership.line());
        if !releases {
            self.hold();
        }
        let SentBatch { batch, mut signatures, changes, follow_ups, snapshot, .. } =
            appender.sent.take().unwrap_or_default();
        let mut report = RestoreReport::default();
        if let Some(forgotten) = snapshot {
            self.ledger().record_snapshot(appended, &forgotten);
        } else if follow_ups.is_empty() {
            self.ledger().record_acknowledged(batch);
        } else {
            // The working copy follows before the position advances. After a crash in between, the
            // next opening applies the entry.
            let number = appended.position.number;
            let mut unfollowed = Vec::new();
            for follow_up in follow_ups {
                let remains: Vec<(String, Remains)> = {
                    let ledger = self.ledger();
                    let paths = follow_up.paths().into_iter();
                    paths.map(|path| (path.to_string(), ledger.remains(path.as_str()))).collect()
                };
                if !self.follow(follow_up, number, &mut report, &mut signatures).await {
                    unfollowed.extend(remains);
                }
            }
            self.ledger().record_followed(appended, signatures, unfollowed);
        }
        let mut ledger = self.ledger();
        // A removal has no signature, and its claim ends here too.
        changes.iter().for_each(|(path, _)| ledger.release_claim(batch, path));
        (changes, report)
    }
}

impl UploadJournal for Shared {
    fn interrupted(&self, path: &str) -> Option<(Token, UploadRecord)> {
        self.ledger().resume_upload(path)
    }

    fn begin(&self, path: &str, blob: Token) {
        self.ledger().set_uploading(blob, path);
    }

    fn step(&self, blob: Token, step: UploadStep<'_>) {
        self.ledger().set_upload_step(blob, step);
    }

    fn release(&self, blob: Token) {
        self.ledger().release_upload(blob);
    }

    fn forget(&self, blob: Token) {
        self.ledger().forget_upload(blob);
    }
}

impl Shared {
    /// Scans a part of the directory.
    pub(super) fn scan(&self, scope: &Scope) -> (Changes, Vec<Skipped>) {
        let (mut changes, mut skipped) = self.tracker.scan(scope, &self.ledger);
        self.drop_unchanged(&mut changes);
        self.sweep_staged(&mut skipped);
        (changes, skipped)
    }

    /// Scans everything that may have changed.
    pub(super) fn scan_changed(&self) -> Changes {
        let mut changes = self.tracker.scan_changed(&self.ledger);
        self.drop_unchanged(&mut changes);
        changes
    }

    /// Walks the directory.
    pub(super) fn walk(&self) -> Changes {
        self.scan(&Scope::Walk).0
    }

    /// Drops the files from the changes whose content is that of the log although their signatures
    /// did not prove it.
    fn drop_unchanged(&self, changes: &mut Changes) {
        changes.modified.retain(|entry| !self.has_known_content(&entry.path, &entry.signature));
    }

    /// Compares the content of a file whose signature is the recorded one but for the change time,
    /// and records equal content again. Reading a file that denies it changes that time.
    fn has_known_content(&self, path: &str, signature: &Signature) -> bool {
        let (recorded, hash) = {
            let ledger = self.ledger();
            let recorded = ledger.local(path).copied();
            let hash = ledger.log().file(path).map(|file| file.hash);
            match recorded.zip(hash).filter(|_| !ledger.is_claimed(path)) {
                Some((recorded, hash)) if recorded.signature.is_same_file(signature) => {
                    (recorded, hash)
                }
                _ => return false,
            }
        };
        let Some(current) = self.hashed(path, hash) else { return false };
        let mut ledger = self.ledger();
        // A transfer may have recorded another version meanwhile.
        if ledger.local(path) != Some(&recorded) {
            return false;
        }
        if current != recorded {
            ledger.set_local(path, current);
        }
        true
    }

    /// Returns the record and the hash of a file that has the content of the log.
    pub(super) fn unchanged(&self, path: &RelativePath) -> Option<(RecordedSignature, Hash)> {
        let (local, hash) = {
            let ledger = self.ledger();
            let local = ledger.local(path.as_str()).filter(|_| !ledger.is_claimed(path.as_str()));
            (*local?, ledger.log().file(path.as_str())?.hash)
        };
        let is_unchanged = self.tracker.inspect(path).find(path.as_str()) == Some(&local.signature)
            && (!local.is_racy || self.hashed(path.as_str(), hash).is_some());
        is_unchanged.then_some((local, hash))
    }

    /// Reads a file. Returns its signature if the content has this hash.
    pub(super) fn hashed(&self, path: &str, hash: Hash) -> Option<RecordedSignature> {
        let file = self.dir.open_file(&relative(path)?).ok()?;
        let recorded = Signature::record(&file).ok()?;
        let is_equal = Hash::of_file(&file).ok()?.0 == hash;
        (is_equal && Signature::of(&file).ok()? == recorded.signature).then_some(recorded)
    }
}
