//! Index that version 0.1 kept instead of a journal.
//!
//! Version 0.1 had no session log. Its index recorded the objects that it had seen, with one change
//! a line: sixteen hexadecimal digits of the BLAKE3 hash of the rest, a space, and JSON. This
//! version only reads the index, to migrate the working copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags};
use serde::Deserialize;

use crate::log::{self, Hash, Origin};
use crate::scan::{Signature, permissions};
use crate::state::version::Version;

const FILE: &str = "index.log";
/// File that an interrupted compaction left.
const UNFINISHED: &str = "index.new";

/// Knowledge of version 0.1 about a working copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormerIndex {
    /// Directory that the index describes.
    directory: Option<DirectoryId>,
    pub(crate) files: BTreeMap<String, FormerFile>,
}

/// Knowledge about a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormerFile {
    pub(crate) record: Option<FormerRecord>,
    /// Contents whose upload had begun and was not acknowledged.
    pub(crate) sent: Vec<Hash>,
    /// Set if an upload or a removal had failed.
    pub(crate) has_failed: bool,
}

/// Record of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FormerRecord {
    /// The store held the content of the file.
    Stored { signature: Signature, hash: Hash, version: Version, origin: Origin },
    /// The file came from the store and was removed here. The object was kept.
    Removed { version: Version },
    /// The store held the file, and the directory was a new one that lacked it.
    ExpectedRemote,
}

/// Identity of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryId {
    inode: u64,
    /// Creation time; `None` if the file system does not report it.
    born: Option<(i64, u32)>,
}

/// One line of the index.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
enum Line {
    Directory {
        id: DirectoryId,
    },
    Stored {
        path: String,
        signature: FormerSignature,
        hash: Hash,
        #[serde(flatten)]
        version: Version,
        origin: FormerOrigin,
    },
    Removed {
        path: String,
        #[serde(flatten)]
        version: Version,
    },
    #[serde(rename = "awaited")]
    ExpectedRemote {
        path: String,
    },
    Forgotten {
        path: String,
    },
    Failed {
        path: String,
    },
    Sending {
        path: String,
        hash: Hash,
    },
}

/// Signature with all bits of the mode.
#[derive(Debug, Deserialize)]
struct FormerSignature {
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
    inode: u64,
    mode: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum FormerOrigin {
    Local,
    Remote,
}

impl FormerIndex {
    /// Reads the index in a state directory. Returns `None` if it does not exist.
    pub(crate) fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(state_dir.join(FILE)) {
            Ok(content) => Ok(Some(Self::parse(&content))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the index. Its knowledge must be in a journal that a crash of the machine does not
    /// lose.
    pub(crate) fn delete(state_dir: &Path) -> io::Result<()> {
        for name in [UNFINISHED, FILE] {
            match std::fs::remove_file(state_dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Parses an index up to its first damaged line, like version 0.1.
    fn parse(content: &[u8]) -> Self {
        let mut index = Self::default();
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n").and_then(log::parse) else { break };
            index.apply(line);
        }
        index.files.retain(|_, file| file.record.is_some() || !file.sent.is_empty());
        index
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Directory { id } => {
                self.directory = Some(id);
                // A file that the new directory lacks was not removed from it.
                self.files.values_mut().for_each(|file| file.sent.clear());
            }
            Line::Stored { path, signature, hash, version, origin } => {
                let origin = match origin {
                    FormerOrigin::Local => Origin::Agent,
                    FormerOrigin::Remote => Origin::External,
                };
                let signature = signature.into();
                let record = FormerRecord::Stored { signature, hash, version, origin };
                self.files.insert(path, FormerFile { record: Some(record), ..Default::default() });
            }
            Line::Removed { path, version } => {
                let file = self.files.entry(path).or_default();
                file.record = Some(FormerRecord::Removed { version });
                file.has_failed = false;
            }
            Line::ExpectedRemote { path } => {
                self.files.entry(path).or_default().record = Some(FormerRecord::ExpectedRemote);
            }
            Line::Forgotten { path } => drop(self.files.remove(&path)),
            Line::Failed { path } => self.files.entry(path).or_default().has_failed = true,
            Line::Sending { path, hash } => {
                self.files.entry(path).or_default().sent.push(hash);
            }
        }
    }

    /// Returns whether the index describes this directory, so that a file that the directory lacks
    /// was removed from it. Without a creation time, an equal inode proves nothing.
    pub(crate) fn describes(&self, dir: impl AsFd) -> bool {
        let known = self.directory.filter(|id| id.born.is_some());
        known.is_some() && known == DirectoryId::of(dir).ok()
    }
}

impl DirectoryId {
    fn of(dir: impl AsFd) -> rustix::io::Result<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, wanted)?;
        let has_birth_time =
            StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        Ok(Self { inode: stat.stx_ino, born: has_birth_time.then_some(born) })
    }
}

impl FormerFile {
    /// Returns whether version 0.1 stored this content, or may have stored it.
    pub(crate) fn has_content(&self, content: &Hash) -> bool {
        let stored = match &self.record {
            Some(FormerRecord::Stored { hash, .. }) => Some(hash),
            _ => None,
        };
        stored == Some(content) || self.sent.contains(content)
    }

    /// Returns the version of the object that version 0.1 knew.
    pub(crate) fn version(&self) -> Option<&Version> {
        match &self.record {
            Some(FormerRecord::Stored { version, .. } | FormerRecord::Removed { version }) => {
                Some(version)
            }
            Some(FormerRecord::ExpectedRemote) | None => None,
        }
    }
}

impl From<FormerSignature> for Signature {
    fn from(former: FormerSignature) -> Self {
        let FormerSignature { size, modified, changed, inode, mode } = former;
        // Modes have 16 bits.
        Self { size, modified, changed, inode, mode: permissions(mode as u16) }
    }
}

/// Writes the names of the files in a directory to the disk.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::log::append_checksummed;

    fn stored(path: &str, etag: &str) -> Value {
        let signature = json!({
            "size": 1, "modified": [-1, 2], "changed": [3, 4], "inode": 5, "mode": 0o100_755,
        });
        let hash = Hash::of(path.as_bytes()).to_string();
        json!({
            "op": "stored", "path": path, "signature": signature, "hash": hash, "etag": etag,
            "origin": "local",
        })
    }

    fn sending(path: &str, content: &[u8]) -> Value {
        json!({ "op": "sending", "path": path, "hash": Hash::of(content).to_string() })
    }

    fn directory(born: Option<(i64, u32)>) -> Value {
        json!({ "op": "directory", "id": { "inode": 7, "born": born } })
    }

    fn version(etag: &str) -> Version {
        Version { etag: Some(etag.to_owned()), version: None }
    }

    fn text(lines: &[Value]) -> Vec<u8> {
        let mut text = Vec::new();
        lines.iter().for_each(|line| append_checksummed(&mut text, line));
        text
    }

    fn lines() -> Vec<Value> {
        vec![
            directory(Some((8, 9))),
            sending("a", b"a"),
            stored("a", "1"),
            sending("a", b"changed"),
            json!({ "op": "failed", "path": "a", "reason": "no answer", "isFinal": false }),
            stored("é \"x\"\n", "2"),
            json!({ "op": "removed", "path": "r", "etag": "3", "version": "generation" }),
            json!({ "op": "awaited", "path": "w", "etag": "4", "origin": "remote" }),
            stored("forgotten", "5"),
            json!({ "op": "forgotten", "path": "forgotten" }),
            sending("new", b"new"),
            json!({ "op": "failed", "path": "only failed", "reason": "none", "isFinal": true }),
        ]
    }

    #[test]
    fn each_record_is_understood() {
        let index = FormerIndex::parse(&text(&lines()));
        assert_eq!(index.directory, Some(DirectoryId { inode: 7, born: Some((8, 9)) }));
        assert_eq!(index.files.keys().collect::<Vec<_>>(), ["a", "new", "r", "w", "é \"x\"\n"]);
        let file = &index.files["a"];
        let Some(FormerRecord::Stored { signature, hash, version: known, origin }) = &file.record
        else {
            panic!("{file:?}");
        };
        assert_eq!((signature.mode, signature.modified), (0o755, (-1, 2)));
        assert_eq!((*hash, known, *origin), (Hash::of(b"a"), &version("1"), Origin::Agent));
        assert!(file.has_failed && file.has_content(&Hash::of(b"changed")));
        assert!(!file.has_content(&Hash::of(b"other")));
        let generation = Version { version: Some("generation".to_owned()), ..version("3") };
        assert_eq!(index.files["r"].record, Some(FormerRecord::Removed { version: generation }));
        assert_eq!(index.files["w"].record, Some(FormerRecord::ExpectedRemote));
        assert_eq!(index.files["new"].record, None);
    }

    #[test]
    fn a_new_directory_forgets_uploads_and_an_answer_forgets_those_of_its_file() {
        let index = FormerIndex::parse(&text(&[sending("a", b"1"), directory(None)]));
        assert!(index.files.is_empty());
        let index = FormerIndex::parse(&text(&[sending("a", b"1"), stored("a", "1")]));
        assert!(index.files["a"].sent.is_empty());
    }

    #[test]
    fn only_a_directory_with_a_known_creation_time_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let dir = File::open(dir.path()).unwrap();
        let DirectoryId { inode, born } = DirectoryId::of(&dir).unwrap();
        let describes = |directory| FormerIndex { directory, ..Default::default() }.describes(&dir);
        assert_eq!(describes(Some(DirectoryId { inode, born })), born.is_some());
        assert!(!describes(Some(DirectoryId { inode, born: None })));
        assert!(!describes(Some(DirectoryId { inode: inode + 1, born })));
        assert!(!describes(None));
    }

    #[test]
    fn an_absent_index_is_none_and_a_deleted_one_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FormerIndex::read(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(FILE), text(&lines())).unwrap();
        std::fs::write(dir.path().join(UNFINISHED), "half").unwrap();
        assert_eq!(FormerIndex::read(dir.path()).unwrap().unwrap().files.len(), 5);
        FormerIndex::delete(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        FormerIndex::delete(dir.path()).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(bytes: Vec<u8>) {
            FormerIndex::parse(&bytes);
        }

        #[test]
        fn a_line_of_any_json_is_parsed(json in "[\"{}:,a-z0-9\\\\ ]{0,60}") {
            let Ok(value) = serde_json::from_str::<Value>(&json) else { return Ok(()) };
            prop_assert_eq!(FormerIndex::parse(&text(&[value])), FormerIndex::default());
        }

        #[test]
        fn a_damaged_byte_costs_the_lines_from_there_on(at in 0..2_000_usize, byte: u8) {
            let whole = text(&lines());
            let at = at % whole.len();
            let mut damaged = whole.clone();
            damaged[at] = byte;
            let before = whole[..at].iter().filter(|byte| **byte == b'\n').count();
            let expected = match damaged == whole {
                true => FormerIndex::parse(&whole),
                false => FormerIndex::parse(&text(&lines()[..before])),
            };
            prop_assert_eq!(FormerIndex::parse(&damaged), expected);
            prop_assert_eq!(
                FormerIndex::parse(&whole[..at]),
                FormerIndex::parse(&text(&lines()[..before]))
            );
        }
    }
}
