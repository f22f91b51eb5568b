//! Journal of the index: a file that a crash cannot corrupt.
//!
//! The journal has one line per change: sixteen hexadecimal digits of the BLAKE3 hash of the rest,
//! a space, and JSON. Lines are only appended. When the journal is opened, it is cut at the first
//! incomplete line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::state::entry::{DirectoryId, Failure, Origin, StoredFile};
use crate::state::version::Version;

const CHECKSUM_DIGITS: usize = 16;

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(super) enum JournalEntry {
    Directory {
        id: DirectoryId,
    },
    Stored {
        path: String,
        #[serde(flatten)]
        stored: StoredFile,
    },
    Removed {
        path: String,
        #[serde(flatten)]
        version: Version,
    },
    #[serde(rename = "awaited")]
    ExpectedRemote {
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
    /// An upload has begun. The store may hold this content even if its answer is lost.
    #[serde(rename = "sending")]
    Uploading {
        path: String,
        hash: String,
    },
}

/// The journal file.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Length up to which the file is known to be valid.
    length: u64,
    /// Lines that could not be written yet.
    unsaved: Vec<u8>,
}

impl Journal {
    /// Opens or creates a journal and returns its entries. The file is cut after the last complete
    /// line.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Vec<JournalEntry>)> {
        let file = options().open(&path)?;
        let content = std::fs::read(&path)?;
        let mut journal = Self { path, file, length: 0, unsaved: Vec::new() };
        let mut entries = Vec::new();
        let mut rest = content.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let Some(entry) = parse(&rest[..end]) else { break };
            entries.push(entry);
            journal.length += end as u64 + 1;
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            let (path, bytes) = (journal.path.display(), rest.len());
            tracing::warn!(%path, bytes, "the damaged end of the index is cut off");
            journal.file.set_len(journal.length)?;
        }
        Ok((journal, entries))
    }

    /// Adds an entry to those that the next save writes.
    pub(super) fn stage(&mut self, entry: &JournalEntry) {
        self.unsaved.extend_from_slice(line(entry).as_bytes());
    }

    /// Writes the staged entries. If this fails, the next call retries.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.unsaved) {
            // A partial line may have been written, and no line may follow it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += self.unsaved.len() as u64;
        self.unsaved.clear();
        Ok(())
    }

    /// Replaces the journal with these entries. If this fails, the old journal remains valid.
    pub(super) fn rewrite(
        &mut self,
        entries: impl Iterator<Item = JournalEntry>,
    ) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let text: String = entries.map(|entry| line(&entry)).collect();
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

/// Options to open a file of the index for appending.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

fn line(entry: &JournalEntry) -> String {
    let json = serde_json::to_string(entry).expect("text and numbers only");
    format!("{} {json}\n", checksum(json.as_bytes()))
}

fn parse(line: &[u8]) -> Option<JournalEntry> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (sum == checksum(json).as_bytes()).then(|| serde_json::from_slice(json).ok()).flatten()
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..CHECKSUM_DIGITS].to_owned()
}
