//! The record of what the store holds, in a file that a crash cannot corrupt.
//!
//! One line a change: sixteen hexadecimal digits of the BLAKE3 hash of the rest, a space, and JSON.
//! Lines are only ever appended; a line that was not written whole ends the record when it is next
//! opened. What is lost with it is looked at and uploaded again. The record is written anew, beside
//! the old one, once most of its lines are history.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::conditional::Version;
use crate::signature::Signature;

const FILE: &str = "index.log";
const LOCK: &str = "lock";
const CHECKSUM_DIGITS: usize = 16;
/// Below this many lines nothing is gained by compaction.
const MIN_HISTORY: usize = 1_000;

/// Who made a file first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Origin {
    /// It arose in the directory, so removing it here removes the object.
    Local,
    /// It came from the store, so removing it here leaves the object.
    Remote,
}

/// A file whose content the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) signature: Signature,
    /// BLAKE3, in hexadecimal.
    pub(crate) hash: String,
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) origin: Origin,
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Stored(Stored),
    /// It came from the store, and was removed here: the object stays and is not fetched again,
    /// unless it is another one.
    Removed {
        version: Version,
    },
    /// The store held it when the directory was last seen; the directory is a new one and does not
    /// have it yet.
    Awaited {
        version: Version,
        origin: Origin,
    },
}

/// Which directory the record is about. One that is made anew under the same name is another
/// directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DirectoryId {
    pub(crate) inode: u64,
    /// When it was made; absent where the file system does not tell.
    pub(crate) born: Option<(i64, u32)>,
}

/// Why the store did not take a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Whether it never will.
    pub(crate) is_final: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
enum Record {
    Directory {
        id: DirectoryId,
    },
    Stored {
        path: String,
        #[serde(flatten)]
        stored: Stored,
    },
    Removed {
        path: String,
        #[serde(flatten)]
        version: Version,
    },
    Awaited {
        path: String,
        #[serde(flatten)]
        version: Version,
        origin: Origin,
    },
    Forgotten {
        path: String,
    },
    Failed {
        path: String,
        #[serde(flatten)]
        failure: Failure,
    },
    /// Content is on its way to the store, which may have it though no answer ever tells so.
    Sending {
        path: String,
        hash: String,
    },
}

/// The record, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    file: File,
    /// Up to here the file is known to be good.
    length: u64,
    /// Lines that the disk did not take yet.
    unsaved: Vec<u8>,
    directory: Option<DirectoryId>,
    known: BTreeMap<String, Known>,
    failures: BTreeMap<String, Failure>,
    /// Hashes of what was sent since the store was last known to have a file.
    sent: BTreeMap<String, Vec<String>>,
    /// `None` once the record was let go.
    lock: Option<File>,
}

impl Index {
    /// Opens the record in a directory of its own, or begins one.
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
        let mut index = Self {
            file: options().open(&path).map_err(at(&path))?,
            length: 0,
            unsaved: Vec::new(),
            directory: None,
            known: BTreeMap::new(),
            failures: BTreeMap::new(),
            sent: BTreeMap::new(),
            lock: Some(lock),
            path: path.clone(),
        };
        let lines = index.read().map_err(at(&path))?;
        if lines > MIN_HISTORY && lines > 2 * (index.known.len() + index.failures.len()) {
            // The old record is as good, so a disk that is full does not matter.
            if let Err(error) = index.compact() {
                tracing::warn!(path = %path.display(), %error, "the record cannot be compacted");
            }
        }
        Ok(index)
    }

    pub(crate) fn known(&self) -> &BTreeMap<String, Known> {
        &self.known
    }

    pub(crate) fn stored(&self, path: &str) -> Option<&Stored> {
        match self.known.get(path)? {
            Known::Stored(stored) => Some(stored),
            Known::Removed { .. } | Known::Awaited { .. } => None,
        }
    }

    pub(crate) fn failure(&self, path: &str) -> Option<&Failure> {
        self.failures.get(path)
    }

    pub(crate) fn directory(&self) -> Option<DirectoryId> {
        self.directory
    }

    /// Begins with another directory, which has nothing yet of what the last one had.
    pub(crate) fn begin_directory(&mut self, id: DirectoryId) {
        let known = std::mem::take(&mut self.known);
        for (path, known) in known {
            let record = match known {
                Known::Stored(Stored { version, origin, .. })
                | Known::Awaited { version, origin } => Record::Awaited { path, version, origin },
                Known::Removed { version } => Record::Removed { path, version },
            };
            self.note(record);
        }
        self.record(Record::Directory { id });
    }

    pub(crate) fn set_stored(&mut self, path: &str, stored: Stored) {
        self.record(Record::Stored { path: path.to_owned(), stored });
    }

    pub(crate) fn set_removed(&mut self, path: &str, version: Version) {
        self.record(Record::Removed { path: path.to_owned(), version });
    }

    pub(crate) fn forget(&mut self, path: &str) {
        if self.known.contains_key(path) || self.failures.contains_key(path) {
            self.record(Record::Forgotten { path: path.to_owned() });
        }
    }

    pub(crate) fn set_failed(&mut self, path: &str, failure: Failure) {
        if self.failure(path) != Some(&failure) {
            self.record(Record::Failed { path: path.to_owned(), failure });
        }
    }

    /// Notes what is about to be sent.
    pub(crate) fn set_sending(&mut self, path: &str, hash: &str) {
        if !self.was_sent(path, hash) {
            self.record(Record::Sending { path: path.to_owned(), hash: hash.to_owned() });
        }
    }

    pub(crate) fn may_have_been_sent(&self, path: &str) -> bool {
        self.sent.contains_key(path)
    }

    /// The files that [`Index::was_sent`] has something to say about.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &String> {
        self.sent.keys()
    }

    /// Whether an object with this content may be this side's own, of which the store's answer was
    /// lost.
    pub(crate) fn was_sent(&self, path: &str, hash: &str) -> bool {
        self.sent.get(path).is_some_and(|sent| sent.iter().any(|known| known == hash))
    }

    /// Lets another one open the record; from now on this one notes nothing.
    pub(crate) fn let_go(&mut self) {
        if let Some(lock) = self.lock.take() {
            // Closing it would do, but for a process that the host starts at this moment: until it
            // executes its program it has the descriptor too.
            let _ = lock.unlock();
        }
    }

    fn record(&mut self, record: Record) {
        if self.lock.is_none() {
            return;
        }
        self.note(record);
        if let Err(error) = self.save() {
            // The next record tries again. Until then a crash costs one more upload of what is not
            // recorded.
            tracing::warn!(path = %self.path.display(), %error, "the record cannot be written");
        }
    }

    fn note(&mut self, record: Record) {
        self.unsaved.extend_from_slice(line(&record).as_bytes());
        self.apply(record);
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Directory { id } => {
                self.directory = Some(id);
                // What the new directory lacks was not removed from it.
                self.sent.clear();
            }
            Record::Stored { path, stored } => {
                self.failures.remove(&path);
                self.sent.remove(&path);
                self.known.insert(path, Known::Stored(stored));
            }
            Record::Removed { path, version } => {
                self.failures.remove(&path);
                self.known.insert(path, Known::Removed { version });
            }
            Record::Awaited { path, version, origin } => {
                self.known.insert(path, Known::Awaited { version, origin });
            }
            Record::Forgotten { path } => {
                self.failures.remove(&path);
                self.sent.remove(&path);
                self.known.remove(&path);
            }
            Record::Failed { path, failure } => {
                self.failures.insert(path, failure);
            }
            Record::Sending { path, hash } => self.sent.entry(path).or_default().push(hash),
        }
    }

    fn save(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.unsaved) {
            // A part of a line may have been written; nothing may follow it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += self.unsaved.len() as u64;
        self.unsaved.clear();
        Ok(())
    }

    /// Reads the lines that are whole, and cuts what follows. Gives their number.
    fn read(&mut self) -> io::Result<usize> {
        let content = std::fs::read(&self.path)?;
        let mut rest = content.as_slice();
        let mut lines = 0;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let Some(record) = parse(&rest[..end]) else { break };
            self.apply(record);
            self.length += end as u64 + 1;
            rest = &rest[end + 1..];
            lines += 1;
        }
        if !rest.is_empty() {
            tracing::warn!(path = %self.path.display(), bytes = rest.len(), "the record's damaged end is cut off");
            self.file.set_len(self.length)?;
        }
        Ok(lines)
    }

    fn compact(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut text = String::new();
        if let Some(id) = self.directory {
            text += &line(&Record::Directory { id });
        }
        for (path, known) in &self.known {
            let path = path.clone();
            text += &line(&match known.clone() {
                Known::Stored(stored) => Record::Stored { path, stored },
                Known::Removed { version } => Record::Removed { path, version },
                Known::Awaited { version, origin } => Record::Awaited { path, version, origin },
            });
        }
        for (path, failure) in &self.failures {
            text += &line(&Record::Failed { path: path.clone(), failure: failure.clone() });
        }
        for (path, hashes) in &self.sent {
            let record = |hash: &String| Record::Sending { path: path.clone(), hash: hash.clone() };
            text.extend(hashes.iter().map(|hash| line(&record(hash))));
        }
        let mut file = options().open(&beside)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        self.file = file;
        self.length = text.len() as u64;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

fn line(record: &Record) -> String {
    let json = serde_json::to_string(record).expect("text and numbers only");
    format!("{} {json}\n", checksum(json.as_bytes()))
}

fn parse(line: &[u8]) -> Option<Record> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (sum == checksum(json).as_bytes()).then(|| serde_json::from_slice(json).ok()).flatten()
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..CHECKSUM_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(size: u64) -> Stored {
        let signature = Signature { size, modified: (1, 2), changed: (3, 4), inode: 5, mode: 6 };
        let version = Version { etag: Some("\"e\"".to_owned()), version: None };
        Stored { signature, hash: "h".to_owned(), version, origin: Origin::Local }
    }

    fn failure() -> Failure {
        Failure { reason: "no answer".to_owned(), is_final: false }
    }

    fn filled(dir: &Path) -> BTreeMap<String, Known> {
        let mut index = Index::open(dir).unwrap();
        index.begin_directory(DirectoryId { inode: 1, born: Some((2, 3)) });
        index.set_stored("a\nb", stored(1));
        index.set_stored("gone", stored(2));
        index.forget("gone");
        index.set_removed("é", Version::default());
        index.set_failed("f", failure());
        index.set_sending("f", "hash");
        index.known().clone()
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path());
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(*index.known(), before);
        assert_eq!(index.directory(), Some(DirectoryId { inode: 1, born: Some((2, 3)) }));
        assert_eq!(index.failure("f"), Some(&failure()));
        assert!(index.was_sent("f", "hash") && !index.was_sent("f", "other"));
        assert_eq!(before.len(), 2);
    }

    #[test]
    fn a_record_cut_or_changed_anywhere_keeps_the_lines_before_it_and_can_be_written_on() {
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
        fn any_bytes_are_read_as_far_as_they_are_a_record(bytes: Vec<u8>, good in 0usize..5) {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            let path = dir.path().join(FILE);
            let whole = std::fs::read(&path).unwrap();
            let kept: Vec<u8> = whole.split_inclusive(|byte| *byte == b'\n').take(good).flatten().copied().collect();
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
    fn history_is_dropped_and_nothing_else() {
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
        assert_eq!(index.known().len(), before.len() + 1);
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() * 100 < long);
        drop(index);
        let mut index = Index::open(dir.path()).unwrap();
        assert_eq!(index.failure("f"), Some(&failure()));
        assert!(index.was_sent("f", "hash"));
        index.set_stored("f", stored(1));
        assert!(!index.was_sent("f", "hash"), "the store is known to have it");
    }

    #[test]
    fn another_directory_awaits_what_the_last_one_had() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let id = DirectoryId { inode: 9, born: None };
        Index::open(dir.path()).unwrap().begin_directory(id);
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.directory(), Some(id));
        let awaited = Known::Awaited { version: stored(1).version, origin: Origin::Local };
        assert_eq!(index.known().get("a\nb"), Some(&awaited));
        assert_eq!(index.known().get("é"), Some(&Known::Removed { version: Version::default() }));
    }

    #[test]
    fn a_second_mirror_of_the_same_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Index::open(dir.path()).unwrap();
        let (path, error) = Index::open(dir.path()).unwrap_err();
        assert!(path.ends_with(LOCK) && error.to_string().contains("another mirror"), "{error}");
    }

    #[test]
    fn a_record_that_was_let_go_is_free_and_is_never_written_by_two() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Index::open(dir.path()).unwrap();
        first.let_go();
        let mut second = Index::open(dir.path()).unwrap();
        first.set_stored("of the first", stored(1));
        second.set_stored("of the second", stored(2));
        drop((first, second));
        assert_eq!(
            Index::open(dir.path()).unwrap().known().keys().collect::<Vec<_>>(),
            ["of the second"]
        );
    }

    #[test]
    fn a_disk_that_takes_nothing_loses_nothing_that_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path()).unwrap();
        let good = std::mem::replace(&mut index.file, File::open(dir.path().join(FILE)).unwrap());
        index.set_stored("a", stored(1));
        assert_eq!(index.stored("a"), Some(&stored(1)));
        index.file = good;
        index.set_stored("b", stored(2));
        drop(index);
        let index = Index::open(dir.path()).unwrap();
        assert!(index.stored("a").is_some() && index.stored("b").is_some());
    }
}
