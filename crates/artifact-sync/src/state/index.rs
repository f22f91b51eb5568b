//! The index of stored files, with its journal.
//!
//! Files of lost journal lines are inspected and uploaded again. Once most lines are history, the
//! journal is rewritten.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::paths::under;
use crate::scan::{Baseline, RecordedSignature};
use crate::state::entry::{DirectoryId, Failure, IndexEntry, StoredFile};
use crate::state::journal::{Journal, JournalEntry, options};
use crate::state::version::Version;

const FILE: &str = "index.log";
const LOCK: &str = "lock";
/// Smallest number of lines that is worth compacting.
const MIN_HISTORY: usize = 1_000;

/// The index in memory, with its journal on disk.
#[derive(Debug)]
pub(crate) struct Index {
    journal: Journal,
    directory: Option<DirectoryId>,
    entries: BTreeMap<String, IndexEntry>,
    failures: BTreeMap<String, Failure>,
    /// Hashes of uploads since the store last acknowledged one of the file.
    unacknowledged: BTreeMap<String, Vec<String>>,
    /// `None` after the index was released.
    lock: Option<File>,
}

impl Index {
    /// Opens the index in its directory, or creates an empty one. The error names the path.
    pub(crate) fn open(dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let lock_path = dir.join(LOCK);
        let lock = options().open(&lock_path).map_err(at(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => (
                lock_path.clone(),
                io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another mirror of this session is open",
                ),
            ),
            std::fs::TryLockError::Error(error) => (lock_path.clone(), error),
        })?;
        let path = dir.join(FILE);
        let (journal, lines) = Journal::open(path.clone()).map_err(at(&path))?;
        let mut index = Self {
            journal,
            directory: None,
            entries: BTreeMap::new(),
            failures: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            lock: Some(lock),
        };
        let count = lines.len();
        lines.into_iter().for_each(|line| index.apply(line));
        if count > MIN_HISTORY && count > 2 * (index.entries.len() + index.failures.len()) {
            // The old journal remains valid, so a full disk does not matter.
            if let Err(error) = index.compact() {
                tracing::warn!(path = %path.display(), %error, "the index cannot be compacted");
            }
        }
        Ok(index)
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, IndexEntry> {
        &self.entries
    }

    pub(crate) fn get(&self, path: &str) -> Option<&IndexEntry> {
        self.entries.get(path)
    }

    pub(crate) fn stored(&self, path: &str) -> Option<&StoredFile> {
        self.get(path).and_then(IndexEntry::stored)
    }

    pub(crate) fn failure(&self, path: &str) -> Option<&Failure> {
        self.failures.get(path)
    }

    pub(crate) fn directory(&self) -> Option<DirectoryId> {
        self.directory
    }

    /// Starts over with a new directory, which has none of the previous one's files yet.
    pub(crate) fn begin_directory(&mut self, id: DirectoryId) {
        let entries = std::mem::take(&mut self.entries);
        for (path, entry) in entries {
            self.stage(match entry {
                IndexEntry::Stored(StoredFile { version, origin, .. })
                | IndexEntry::ExpectedRemote { version, origin } => {
                    JournalEntry::ExpectedRemote { path, version, origin }
                }
                IndexEntry::Removed { version } => JournalEntry::Removed { path, version },
            });
        }
        self.append(JournalEntry::Directory { id });
    }

    pub(crate) fn set_stored(&mut self, path: &str, stored: StoredFile) {
        self.append(JournalEntry::Stored { path: path.to_owned(), stored });
    }

    pub(crate) fn set_removed(&mut self, path: &str, version: Version) {
        self.append(JournalEntry::Removed { path: path.to_owned(), version });
    }

    pub(crate) fn forget(&mut self, path: &str) {
        if self.entries.contains_key(path) || self.failures.contains_key(path) {
            self.append(JournalEntry::Forgotten { path: path.to_owned() });
        }
    }

    pub(crate) fn set_failed(&mut self, path: &str, failure: Failure) {
        if self.failure(path) != Some(&failure) {
            self.append(JournalEntry::Failed { path: path.to_owned(), failure });
        }
    }

    /// Records an upload that is about to begin.
    pub(crate) fn set_uploading(&mut self, path: &str, hash: &str) {
        if !self.is_unacknowledged(path, hash) {
            let (path, hash) = (path.to_owned(), hash.to_owned());
            self.append(JournalEntry::Uploading { path, hash });
        }
    }

    /// Returns whether an upload of this path may have reached the store without an answer.
    pub(crate) fn has_unacknowledged(&self, path: &str) -> bool {
        self.unacknowledged.contains_key(path)
    }

    /// Returns whether an object with this content may come from this mirror's own upload whose
    /// answer was lost.
    pub(crate) fn is_unacknowledged(&self, path: &str, hash: &str) -> bool {
        self.unacknowledged.get(path).is_some_and(|sent| sent.iter().any(|known| known == hash))
    }

    /// Releases the index for another mirror. Afterwards, this one writes nothing.
    pub(crate) fn release(&mut self) {
        if let Some(lock) = self.lock.take() {
            // Closing is not enough: a child process that the host is starting holds a copy of the
            // descriptor until it executes its program.
            let _ = lock.unlock();
        }
    }

    fn append(&mut self, entry: JournalEntry) {
        if self.lock.is_none() {
            return;
        }
        self.stage(entry);
        if let Err(error) = self.journal.save() {
            // The next append retries. A crash before that costs one more upload per lost line.
            let path = self.journal.path.display();
            tracing::warn!(%path, %error, "the index cannot be written");
        }
    }

    fn stage(&mut self, entry: JournalEntry) {
        self.journal.stage(&entry);
        self.apply(entry);
    }

    fn apply(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Directory { id } => {
                self.directory = Some(id);
                // A file that the new directory lacks was not removed from it.
                self.unacknowledged.clear();
            }
            JournalEntry::Stored { path, stored } => {
                self.failures.remove(&path);
                self.unacknowledged.remove(&path);
                self.entries.insert(path, IndexEntry::Stored(stored));
            }
            JournalEntry::Removed { path, version } => {
                self.failures.remove(&path);
                self.entries.insert(path, IndexEntry::Removed { version });
            }
            JournalEntry::ExpectedRemote { path, version, origin } => {
                self.entries.insert(path, IndexEntry::ExpectedRemote { version, origin });
            }
            JournalEntry::Forgotten { path } => {
                self.failures.remove(&path);
                self.unacknowledged.remove(&path);
                self.entries.remove(&path);
            }
            JournalEntry::Failed { path, failure } => {
                self.failures.insert(path, failure);
            }
            JournalEntry::Uploading { path, hash } => {
                self.unacknowledged.entry(path).or_default().push(hash);
            }
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        let directory = self.directory.map(|id| JournalEntry::Directory { id });
        let entries = self.entries.iter().map(|(path, entry)| {
            let path = path.clone();
            match entry.clone() {
                IndexEntry::Stored(stored) => JournalEntry::Stored { path, stored },
                IndexEntry::Removed { version } => JournalEntry::Removed { path, version },
                IndexEntry::ExpectedRemote { version, origin } => {
                    JournalEntry::ExpectedRemote { path, version, origin }
                }
            }
        });
        let failures = self.failures.iter().map(|(path, failure)| {
            let (path, failure) = (path.clone(), failure.clone());
            JournalEntry::Failed { path, failure }
        });
        let uploads = self.unacknowledged.iter().flat_map(|(path, hashes)| {
            hashes.iter().map(move |hash| {
                let (path, hash) = (path.clone(), hash.clone());
                JournalEntry::Uploading { path, hash }
            })
        });
        self.journal.rewrite(directory.into_iter().chain(entries).chain(failures).chain(uploads))
    }
}

impl Baseline for Index {
    fn signature(&self, path: &str) -> Option<&RecordedSignature> {
        self.stored(path).map(|stored| &stored.signature)
    }

    fn recorded_under<'b>(
        &'b self,
        path: &str,
    ) -> impl Iterator<Item = (&'b str, &'b RecordedSignature)> {
        under(&self.entries, path)
            .filter_map(|(path, entry)| Some((path.as_str(), &entry.stored()?.signature)))
    }

    /// Returns the paths of uploads that the store has not acknowledged.
    fn uncertain(&self) -> impl Iterator<Item = &str> {
        self.unacknowledged.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Signature;
    use crate::state::entry::Origin;

    fn stored(size: u64) -> StoredFile {
        let signature = Signature { size, modified: (1, 2), changed: (3, 4), inode: 5, mode: 6 };
        let signature = RecordedSignature { signature, is_racy: size.is_multiple_of(2) };
        let version = Version { etag: Some("\"e\"".to_owned()), version: None };
        StoredFile { signature, hash: "h".to_owned(), version, origin: Origin::Local }
    }

    fn failure() -> Failure {
        Failure { reason: "no answer".to_owned(), is_final: false }
    }

    fn filled(dir: &Path) -> BTreeMap<String, IndexEntry> {
        let mut index = Index::open(dir).unwrap();
        index.begin_directory(DirectoryId { inode: 1, born: Some((2, 3)) });
        index.set_stored("a\nb", stored(1));
        index.set_stored("gone", stored(2));
        index.forget("gone");
        index.set_removed("é", Version::default());
        index.set_failed("f", failure());
        index.set_uploading("f", "hash");
        index.entries().clone()
    }

    #[test]
    fn an_index_reopens_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path());
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(*index.entries(), before);
        assert_eq!(index.directory(), Some(DirectoryId { inode: 1, born: Some((2, 3)) }));
        assert_eq!(index.failure("f"), Some(&failure()));
        assert!(index.is_unacknowledged("f", "hash") && !index.is_unacknowledged("f", "other"));
        assert_eq!(before.len(), 2);
    }

    #[test]
    fn a_journal_damaged_anywhere_keeps_the_lines_before_and_accepts_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            for damaged in
                [whole[..cut].to_vec(), [&whole[..cut], b"\xff", &whole[cut + 1..]].concat()]
            {
                std::fs::write(&path, damaged).unwrap();
                let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
                let mut index = Index::open(dir.path()).unwrap();
                assert_eq!(index.directory().is_some(), lines >= 1, "cut at {cut}");
                assert_eq!(index.stored("a\nb").is_some(), lines >= 2, "cut at {cut}");
                index.set_stored("later", stored(9));
                drop(index);
                assert_eq!(
                    Index::open(dir.path()).unwrap().stored("later"),
                    Some(&stored(9)),
                    "cut at {cut}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn bytes_after_the_last_valid_line_are_cut_off(bytes: Vec<u8>, good in 0usize..5) {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            let path = dir.path().join(FILE);
            let whole = std::fs::read(&path).unwrap();
            let lines = whole.split_inclusive(|byte| *byte == b'\n');
            let kept: Vec<u8> = lines.take(good).flatten().copied().collect();
            std::fs::write(&path, [kept.clone(), bytes].concat()).unwrap();
            let mut index = Index::open(dir.path()).unwrap();
            proptest::prop_assert_eq!(std::fs::read(&path).unwrap(), kept);
            index.set_stored("later", stored(9));
            drop(index);
            let index = Index::open(dir.path()).unwrap();
            proptest::prop_assert_eq!(index.stored("later"), Some(&stored(9)));
        }
    }

    #[test]
    fn compaction_drops_history_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path());
        let mut index = Index::open(dir.path()).unwrap();
        for size in 0..3_000 {
            index.set_stored("often", stored(size));
        }
        drop(index);
        let long = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.stored("often"), Some(&stored(2_999)));
        assert_eq!(index.entries().len(), before.len() + 1);
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() * 100 < long);
        drop(index);
        let mut index = Index::open(dir.path()).unwrap();
        assert_eq!(index.failure("f"), Some(&failure()));
        assert!(index.is_unacknowledged("f", "hash"));
        index.set_stored("f", stored(1));
        assert!(!index.is_unacknowledged("f", "hash"), "the store has acknowledged it");
    }

    #[test]
    fn a_new_directory_expects_the_files_of_the_previous_one() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let id = DirectoryId { inode: 9, born: None };
        Index::open(dir.path()).unwrap().begin_directory(id);
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.directory(), Some(id));
        let expected =
            IndexEntry::ExpectedRemote { version: stored(1).version, origin: Origin::Local };
        assert_eq!(index.entries().get("a\nb"), Some(&expected));
        assert_eq!(
            index.entries().get("é"),
            Some(&IndexEntry::Removed { version: Version::default() })
        );
    }

    #[test]
    fn scans_compare_with_stored_files_only() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let mut index = Index::open(dir.path()).unwrap();
        index.set_stored("d/a", stored(3));
        index.set_removed("d/b", Version::default());
        let recorded = |path| index.recorded_under(path).map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(recorded(""), ["a\nb", "d/a"]);
        assert_eq!(recorded("d"), ["d/a"]);
        assert_eq!(index.signature("d/b"), None);
        assert_eq!(index.uncertain().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn a_second_mirror_of_the_same_index_fails_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Index::open(dir.path()).unwrap();
        let (path, error) = Index::open(dir.path()).unwrap_err();
        assert!(path.ends_with(LOCK) && error.to_string().contains("another mirror"), "{error}");
    }

    #[test]
    fn a_released_index_can_be_opened_and_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Index::open(dir.path()).unwrap();
        first.release();
        let mut second = Index::open(dir.path()).unwrap();
        first.set_stored("of the first", stored(1));
        second.set_stored("of the second", stored(2));
        drop((first, second));
        assert_eq!(
            Index::open(dir.path()).unwrap().entries().keys().collect::<Vec<_>>(),
            ["of the second"]
        );
    }

    #[test]
    fn a_failed_write_loses_nothing_that_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path()).unwrap();
        let good =
            std::mem::replace(&mut index.journal.file, File::open(dir.path().join(FILE)).unwrap());
        index.set_stored("a", stored(1));
        assert_eq!(index.stored("a"), Some(&stored(1)));
        index.journal.file = good;
        index.set_stored("b", stored(2));
        drop(index);
        let index = Index::open(dir.path()).unwrap();
        assert!(index.stored("a").is_some() && index.stored("b").is_some());
    }
}
