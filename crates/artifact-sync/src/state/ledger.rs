//! Ledger: the log as far as the working copy follows it, and facts about this machine.
//!
//! The journal keeps both. A record that is lost with a crash costs requests or a comparison of
//! contents, but no file.

mod appends;
mod applying;
mod baseline;
mod claims;
mod migration;
mod reboot;
mod remains;
mod replay;
mod uploads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::log::{Line, LogState, Node, Position, Token};
use crate::scan::RecordedSignature;
use crate::state::entry::{FORMAT, Failure, JournalEntry, Remains, Stage};
use crate::state::journal::Journal;
use crate::state::lock::StateLock;
use crate::state::version::Version;

pub(crate) use baseline::USUAL_DIRECTORY_MODE;
pub(crate) use reboot::Objects;
use uploads::Upload;

const FILE: &str = "journal";
/// Time after which a journal that could not be replaced is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Smallest number of records that is worth compacting.
const MIN_HISTORY: usize = 1_000;

/// State of one working copy, with its journal on disk.
#[derive(Debug)]
pub(crate) struct Ledger {
    journal: Journal,
    log_key: String,
    home: String,
    log: Arc<LogState>,
    position: Position,
    /// Position to which the log is being applied; the default if it is not.
    applying: Position,
    stage: Stage,
    /// Signatures of files that hold the current version of their path, or a version that a batch
    /// is storing.
    local: BTreeMap<String, RecordedSignature>,
    /// Paths to which the log could not be applied.
    unfollowed: BTreeMap<String, Remains>,
    /// Objects of the projection as this machine last saw them.
    seen: BTreeMap<String, KnownObject>,
    /// Paths whose object may differ from the log.
    unprojected: BTreeSet<String>,
    failures: BTreeMap<String, Failure>,
    /// Uploads of blobs that no line refers to yet.
    uploads: BTreeMap<Token, Upload>,
    /// Set if the directory of the working copy was marked.
    is_marked: bool,
    /// Start of the machine in which the working copy was last compared.
    boot: Option<String>,
    /// Time at which the journal was last written by an earlier process, in seconds since 1970.
    last_written: i64,
    /// Set if the machine may have lost objects that the journal knows.
    suspects_objects: bool,
    /// Time of the last listing of the projection, in seconds since 1970; zero if it was not listed
    /// since the machine started.
    listed: i64,
    /// Time of the last collection of garbage, in seconds since 1970; zero if it is unknown.
    collected: i64,
    /// Lines of the log since this process last wrote or read a snapshot.
    lines_since_snapshot: usize,
    sent: Option<SentEntry>,
    claims: HashMap<String, Claim>,
    last_batch: Batch,
    /// Time at which the journal could not be replaced. Until it is, it stays as it was: a later
    /// record would not fit what it has.
    outdated: Option<Instant>,
    /// `None` after the ledger was released.
    lock: Option<StateLock>,
}

/// Number of a group of changes that one call stores.
pub(crate) type Batch = u64;

/// Object of the projection that carries the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownObject {
    pub(crate) token: Token,
    pub(crate) version: Version,
}

/// Entry that was sent and not acknowledged.
#[derive(Debug)]
struct SentEntry {
    position: Position,
    lines: Vec<Line>,
    signatures: Vec<(String, RecordedSignature)>,
}

/// Change that a batch is storing.
#[derive(Debug)]
struct Claim {
    batch: Batch,
    /// Signature of the version that the log holds. New files have none, and may be many.
    before: Option<Box<RecordedSignature>>,
}

impl Ledger {
    /// Opens the ledger of a state directory, or creates an empty one. `log_key` names the log that
    /// it follows. The error names the path. The time grows with the number of files.
    pub(crate) fn open(lock: StateLock, log_key: &str) -> Result<Self, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        let path = lock.dir().join(FILE);
        let last_written = std::fs::metadata(&path).map_or(0, |journal| journal.mtime());
        let (journal, mut records) = Journal::open(path.clone()).map_err(at(&path))?;
        let mut ledger = Self {
            journal,
            log_key: log_key.to_owned(),
            home: String::new(),
            log: Arc::default(),
            position: Position::default(),
            applying: Position::default(),
            stage: Stage::default(),
            local: BTreeMap::new(),
            unfollowed: BTreeMap::new(),
            seen: BTreeMap::new(),
            unprojected: BTreeSet::new(),
            failures: BTreeMap::new(),
            uploads: BTreeMap::new(),
            is_marked: false,
            boot: None,
            suspects_objects: false,
            last_written,
            listed: 0,
            collected: 0,
            lines_since_snapshot: 0,
            sent: None,
            claims: HashMap::new(),
            last_batch: 0,
            outdated: None,
            lock: Some(lock),
        };
        let mut is_first = true;
        while let Some(record) = records.next().map_err(at(&path))? {
            let header = JournalEntry::Journal { format: FORMAT, log: log_key.to_owned() };
            if std::mem::take(&mut is_first) && record != header {
                return Err((path, io::Error::new(io::ErrorKind::InvalidData, foreign(&record))));
            }
            ledger.apply(record);
        }
        ledger.lines_since_snapshot = 0;
        ledger.uploads.values_mut().for_each(|upload| upload.is_running = false);
        ledger.journal.end_reading(&records).map_err(at(&path))?;
        if is_first {
            ledger.stage_record(JournalEntry::Journal { format: FORMAT, log: log_key.to_owned() });
            ledger.append(JournalEntry::Home { id: Token::random().to_string() });
        } else if ledger.journal.records > MIN_HISTORY && ledger.journal.records > 3 * ledger.size()
        {
            ledger.compact();
        }
        Ok(ledger)
    }

    /// Returns the id under which this state directory owns its session by default.
    pub(crate) fn home(&self) -> &str {
        &self.home
    }

    pub(crate) fn log(&self) -> &LogState {
        &self.log
    }

    /// Returns the log for use without the ledger. While it is in use, a change copies it.
    pub(crate) fn shared_log(&self) -> Arc<LogState> {
        Arc::clone(&self.log)
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn local(&self, path: &str) -> Option<&RecordedSignature> {
        self.local.get(path)
    }

    pub(crate) fn locals(&self) -> &BTreeMap<String, RecordedSignature> {
        &self.local
    }

    pub(crate) fn seen(&self, path: &str) -> Option<&KnownObject> {
        self.seen.get(path)
    }

    pub(crate) fn all_seen(&self) -> impl Iterator<Item = (&String, &KnownObject)> {
        self.seen.iter()
    }

    pub(crate) fn failure(&self, path: &str) -> Option<&Failure> {
        self.failures.get(path)
    }

    pub(crate) fn listed(&self) -> i64 {
        self.listed
    }

    pub(crate) fn collected(&self) -> i64 {
        self.collected
    }

    pub(crate) fn lines_since_snapshot(&self) -> usize {
        self.lines_since_snapshot
    }

    /// Returns the paths whose object may differ from the log.
    pub(crate) fn unprojected(&self) -> &BTreeSet<String> {
        &self.unprojected
    }

    /// Replaces the state of the log, with the signatures of files that were put in place, and the
    /// paths that do not follow.
    pub(crate) fn replace_log(
        &mut self,
        log: impl Into<Arc<LogState>>,
        position: Position,
        signatures: Vec<(String, RecordedSignature)>,
        unfollowed: BTreeMap<String, Remains>,
    ) {
        let unknown: BTreeSet<String> = self.unknown_objects().cloned().collect();
        self.log = log.into();
        self.position = position;
        self.applying = Position::default();
        self.sent = None;
        let nodes = &self.log.nodes;
        self.local.retain(|path, _| matches!(nodes.get(path), Some(Node::File(_))));
        self.local.extend(signatures);
        self.unfollowed.clear();
        for (path, remains) in unfollowed {
            self.set_remains(path, remains);
        }
        self.unprojected = unknown;
        let paths: Vec<String> = self
            .log
            .files()
            .map(|(path, _)| path.clone())
            .chain(self.seen.keys().cloned())
            .collect();
        paths.iter().for_each(|path| self.update_projection(path));
        self.compact();
    }

    pub(crate) fn set_local(&mut self, path: &str, signature: RecordedSignature) {
        self.append(JournalEntry::Local { path: path.to_owned(), signature });
    }

    pub(crate) fn set_seen(&mut self, path: &str, seen: KnownObject) {
        if self.seen.get(path) != Some(&seen) {
            let KnownObject { token, version } = seen;
            self.append(JournalEntry::KnownObject { path: path.to_owned(), token, version });
        }
    }

    pub(crate) fn set_unseen(&mut self, path: &str) {
        if self.seen.contains_key(path) || self.unprojected.contains(path) {
            self.append(JournalEntry::NoObject { path: path.to_owned() });
        }
    }

    pub(crate) fn set_failed(&mut self, path: &str, failure: Failure) {
        if self.failure(path) != Some(&failure) {
            self.append(JournalEntry::Failed { path: path.to_owned(), failure });
        }
    }

    pub(crate) fn set_stage(&mut self, stage: Stage) {
        if self.stage != stage {
            self.append(JournalEntry::Stage { stage });
        }
    }

    pub(crate) fn set_listed(&mut self, at: i64) {
        self.append(JournalEntry::Listed { at });
    }

    pub(crate) fn set_collected(&mut self, at: i64) {
        self.append(JournalEntry::Collected { at });
    }

    pub(crate) fn drop_projected(&mut self) -> BTreeMap<String, Version> {
        std::mem::take(&mut Arc::make_mut(&mut self.log).projected)
    }

    /// Forgets everything except uploads, after the working copy was deleted. What is left of an
    /// upload is still to be aborted.
    pub(crate) fn clear(&mut self) {
        self.log = Arc::default();
        self.position = Position::default();
        self.applying = Position::default();
        self.stage = Stage::default();
        self.is_marked = false;
        self.local.clear();
        self.unfollowed.clear();
        self.seen.clear();
        self.unprojected.clear();
        self.failures.clear();
        self.listed = 0;
        self.collected = 0;
        self.sent = None;
        self.compact();
    }

    /// Deletes the journal. Afterwards, the ledger writes nothing.
    pub(crate) fn delete(&mut self) {
        let _ = std::fs::remove_file(&self.journal.path);
        self.unlock();
    }

    /// Releases the ledger for another mirror. Afterwards, this one writes nothing.
    pub(crate) fn release(&mut self) {
        // This is the last chance for records that could not be written before.
        if self.outdated.is_some() {
            self.compact();
        } else if self.journal.has_unsaved() {
            self.save();
        }
        self.unlock();
    }

    fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            // Closing is not enough: a child process that the host is starting holds a copy of the
            // descriptor until it executes its program.
            let _ = lock.unlock();
        }
    }

    fn append(&mut self, record: JournalEntry) {
        self.stage_record(record);
        self.save();
    }

    fn stage_record(&mut self, record: JournalEntry) {
        if self.lock.is_some() && self.outdated.is_none() {
            self.journal.stage(&record);
        }
        self.apply(record);
    }

    fn save(&mut self) {
        if self.lock.is_none() {
            return;
        }
        match self.outdated {
            Some(tried) if tried.elapsed() < RETRY => return,
            Some(_) => return self.compact(),
            None => {}
        }
        if let Err(error) = self.journal.save() {
            // The next append retries. A crash before that costs comparisons with the log.
            let path = self.journal.path.display();
            tracing::warn!(%path, %error, "the journal cannot be written");
        }
    }
}

/// Describes the first record of a journal that this program or this log does not have.
fn foreign(record: &JournalEntry) -> String {
    match record {
        JournalEntry::Journal { format: FORMAT, log } => format!(
            "it follows the log {log:?} of another store or prefix; use that one, or close the \
             session there before it gets another store"
        ),
        _ => "it belongs to another version of the program".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::samples::{file, removed};
    use crate::log::{Appended, Hash};
    use crate::scan::{Baseline, Signature};

    const LOG: &str = "logs/user_u/s";

    fn signature(size: u64) -> RecordedSignature {
        let (modified, changed) = ((1, 2), (3, 4));
        let signature = Signature { size, modified, changed, inode: 5, mode: 0o644 };
        RecordedSignature { signature, is_racy: false }
    }

    fn position(number: u64) -> Position {
        Position { number, hash: Some(Hash::of(b"entry")), snapshot: 0, retained: 0 }
    }

    /// Records an entry with one file.
    fn store(ledger: &mut Ledger, number: u64, path: &str) {
        let batch = ledger.begin_batch();
        ledger.claim(batch, path, Some(signature(number).signature));
        let appended = Appended { position: position(number), lines: vec![file(path, b"1")] };
        ledger.record_sent(appended, vec![(path.to_owned(), signature(number))]);
        ledger.record_acknowledged(batch);
    }

    fn open(dir: &Path) -> Ledger {
        Ledger::open(StateLock::take(dir).unwrap(), LOG).unwrap()
    }

    fn filled(dir: &Path) -> (LogState, Position) {
        let mut ledger = open(dir);
        ledger.set_stage(Stage::Open);
        store(&mut ledger, 1, "a\nb");
        store(&mut ledger, 2, "gone");
        let lines = vec![removed("gone")];
        let remains = Remains::Directory { mode: 0o700 };
        let unfollowed = vec![("stays".to_owned(), remains)];
        ledger.record_followed(Appended { position: position(3), lines }, Vec::new(), unfollowed);
        ledger.set_failed("f", Failure { reason: "no answer".to_owned(), is_final: false });
        ledger.set_uploading(Token::random(), "large");
        (ledger.log().clone(), ledger.position())
    }

    #[test]
    fn a_ledger_reopens_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (log, at) = filled(dir.path());
        let mut ledger = open(dir.path());
        assert_eq!((ledger.log(), ledger.position(), ledger.stage()), (&log, at, Stage::Open));
        assert_eq!(ledger.local("a\nb"), Some(&signature(1)));
        assert_eq!(ledger.local("gone"), None);
        assert_eq!(ledger.remains("stays"), Remains::Directory { mode: 0o700 });
        assert_eq!(ledger.failure("f").unwrap().reason, "no answer");
        assert_eq!(ledger.uploads().values().next().unwrap().path, "large");
        assert_eq!(ledger.unprojected().iter().collect::<Vec<_>>(), ["a\nb"]);
        // Once the objects were listed, one that was not seen must be looked at.
        ledger.set_listed(1);
        store(&mut ledger, 4, "unseen");
        let lines = vec![removed("unseen")];
        let appended = Appended { position: position(5), lines };
        ledger.record_followed(appended, Vec::new(), Vec::new());
        drop(ledger);
        let ledger = open(dir.path());
        assert_eq!(ledger.unprojected().iter().collect::<Vec<_>>(), ["a\nb", "unseen"]);
    }

    #[test]
    fn a_journal_damaged_anywhere_keeps_the_lines_before_and_accepts_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in header..whole.len() {
            for damaged in
                [whole[..cut].to_vec(), [&whole[..cut], b"\xff", &whole[cut + 1..]].concat()]
            {
                std::fs::write(&path, damaged).unwrap();
                let mut ledger = open(dir.path());
                let known = ledger.position().number;
                store(&mut ledger, known + 1, "later");
                drop(ledger);
                let ledger = open(dir.path());
                assert_eq!(ledger.position().number, known + 1, "cut at {cut}");
                assert!(ledger.local("later").is_some(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn compaction_drops_history_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let mut ledger = open(dir.path());
        for number in 4..2_000 {
            store(&mut ledger, number, "often");
        }
        let (log, at) = (ledger.log().clone(), ledger.position());
        drop(ledger);
        let long = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        let ledger = open(dir.path());
        assert_eq!((ledger.log(), ledger.position()), (&log, at));
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() * 100 < long);
        drop(ledger);
        let ledger = open(dir.path());
        assert_eq!((ledger.log(), ledger.position(), ledger.stage()), (&log, at, Stage::Open));
        assert_eq!(ledger.local("often"), Some(&signature(1_999)));
        assert_eq!(ledger.uploads().len(), 1);
    }

    #[test]
    fn an_entry_without_an_answer_is_known_to_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        let appended = Appended { position: position(1), lines: vec![file("a", b"1")] };
        ledger.record_sent(appended, vec![("a".to_owned(), signature(1))]);
        drop(ledger);
        let mut ledger = open(dir.path());
        assert_eq!((ledger.sent(), ledger.position().number), (Some(position(1)), 0));
        assert!(ledger.log().nodes.is_empty());
        ledger.record_acknowledged(0);
        assert_eq!((ledger.sent(), ledger.position()), (None, position(1)));
        assert_eq!(ledger.local("a"), Some(&signature(1)));
    }

    #[test]
    fn a_change_belongs_to_the_last_batch_that_claimed_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        store(&mut ledger, 1, "a");
        let (first, second) = (ledger.begin_batch(), ledger.begin_batch());
        ledger.claim(first, "a", Some(signature(2).signature));
        ledger.claim(second, "a", None);
        assert!(!ledger.owns(first, "a") && ledger.owns(second, "a"));
        assert!(!ledger.give_up(first, "a"), "the claim has passed on");
        assert_eq!(ledger.signature("a"), None);
        assert!(ledger.give_up(second, "a"));
        assert_eq!(ledger.signature("a"), Some(&signature(1)), "the next scan finds the change");
    }

    #[test]
    fn a_ledger_of_another_log_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let (path, error) =
            Ledger::open(StateLock::take(dir.path()).unwrap(), "logs/user_u/other").unwrap_err();
        assert!(path.ends_with(FILE) && error.to_string().contains("another store"), "{error}");
    }

    #[test]
    fn a_second_mirror_of_the_same_ledger_fails_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let (path, error) = StateLock::take(dir.path()).unwrap_err();
        assert!(path.ends_with("lock") && error.to_string().contains("another mirror"), "{error}");
        drop(first);
    }

    #[test]
    fn a_released_ledger_can_be_opened_and_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path());
        first.release();
        let mut second = open(dir.path());
        store(&mut first, 1, "of the first");
        store(&mut second, 1, "of the second");
        drop((first, second));
        let ledger = open(dir.path());
        assert_eq!(ledger.log().nodes.keys().collect::<Vec<_>>(), ["of the second"]);
    }

    #[test]
    fn a_journal_that_cannot_be_replaced_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        store(&mut ledger, 1, "a");
        // Nothing can be written to a directory.
        let beside = dir.path().join(FILE).with_extension("new");
        std::fs::create_dir(&beside).unwrap();
        let position = Position { number: 7, ..Position::default() };
        ledger.replace_log(LogState::default(), position, Vec::new(), BTreeMap::new());
        store(&mut ledger, 8, "b");
        assert_eq!(ledger.position().number, 8);
        {
            let path = dir.path().join(FILE);
            let copy = tempfile::tempdir().unwrap();
            std::fs::copy(path, copy.path().join(FILE)).unwrap();
            let earlier = open(copy.path());
            assert_eq!(earlier.position().number, 1);
            assert_eq!(earlier.log().nodes.keys().collect::<Vec<_>>(), ["a"]);
        }
        std::fs::remove_dir(beside).unwrap();
        std::thread::sleep(RETRY);
        store(&mut ledger, 9, "c");
        drop(ledger);
        let ledger = open(dir.path());
        assert_eq!(ledger.position().number, 9);
        assert_eq!(ledger.log().nodes.keys().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn records_that_could_not_be_written_are_written_when_the_ledger_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        let unwritable = std::fs::File::open(dir.path().join(FILE)).unwrap();
        let good = std::mem::replace(&mut ledger.journal.file, unwritable);
        store(&mut ledger, 1, "a");
        // What such a disk wrote of a line cannot be removed yet.
        std::io::Write::write_all(&mut &good, b"partial").unwrap();
        ledger.journal.file = good;
        ledger.release();
        let mut ledger = open(dir.path());
        assert_eq!(ledger.position().number, 1);
        let beside = dir.path().join(FILE).with_extension("new");
        std::fs::create_dir(&beside).unwrap();
        ledger.compact();
        store(&mut ledger, 2, "b");
        assert!(ledger.end_migration().is_err(), "the journal does not know the migration");
        std::fs::remove_dir(beside).unwrap();
        ledger.release();
        assert_eq!(open(dir.path()).position().number, 2);
    }

    #[test]
    fn a_failed_write_loses_nothing_that_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        let unwritable = std::fs::File::open(dir.path().join(FILE)).unwrap();
        let good = std::mem::replace(&mut ledger.journal.file, unwritable);
        store(&mut ledger, 1, "a");
        assert_eq!(ledger.position().number, 1);
        ledger.journal.file = good;
        store(&mut ledger, 2, "b");
        drop(ledger);
        let ledger = open(dir.path());
        assert!(ledger.local("a").is_some() && ledger.local("b").is_some());
    }
}
