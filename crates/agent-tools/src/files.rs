//! Files of a session for programs: inspecting, listing, reading and changing them without a
//! command.
//!
//! Paths follow the rules of the file tools: a path below the session directory, a path below
//! `/tmp` as commands see it, or another one that is anchored in the session directory. The policy
//! of the session applies, and no symlink leads out. A change is mirrored before the call returns.

mod archive;
mod export;
mod import;
mod judge;
mod local;
mod location;
mod session;

use std::path::PathBuf;

use sandbox_core::FileStat;
use serde::{Deserialize, Serialize};

pub use archive::{TarLimits, TarReport};

/// The maximum number of bytes that [`Session::read_range`](crate::Session::read_range) returns.
pub const MAX_RANGE_BYTES: u64 = 32 << 20;

/// Options of [`Session::list`](crate::Session::list).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListOptions {
    /// The name after which the page begins: [`DirectoryPage::next`] of the page before.
    pub after: Option<String>,
    /// The maximum number of entries, 1,000 by default.
    pub limit: usize,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { after: None, limit: 1_000 }
    }
}

/// A part of a directory, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DirectoryPage {
    /// The entries, without those that the policy hides.
    pub entries: Vec<ListedEntry>,
    /// The position of the next page; `None` after the last one.
    pub next: Option<String>,
    /// The number of names in the whole directory that are not UTF-8. They cannot be listed.
    pub unnameable: usize,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListedEntry {
    /// The name, without its directory.
    pub name: String,
    /// The properties of the entry. Those of a symlink are its own.
    #[serde(flatten)]
    pub stat: FileStat,
}

impl ListedEntry {
    /// Creates an entry, for example for a fake in a test.
    pub fn new(name: String, stat: FileStat) -> Self {
        Self { name, stat }
    }
}

/// A range of a file's bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileBytes {
    /// The bytes, at most [`MAX_RANGE_BYTES`]. Nothing is redacted.
    #[serde(with = "crate::sharing::owned_bytes")]
    pub bytes: Vec<u8>,
    /// The size of the whole file.
    pub total_bytes: u64,
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, total_bytes } = self;
        write!(f, "FileBytes({} of {total_bytes} bytes)", bytes.len())
    }
}

/// An entry that a call has found, with the path by which the policy judges it.
#[derive(Debug)]
struct Judged<T> {
    entry: T,
    real_path: PathBuf,
}
