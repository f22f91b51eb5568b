//! State of a directory at one time: every regular file with its signature.

use std::io;

use crate::scan::signature::Signature;
use crate::scan::skipped::{SkipReason, Skipped};

/// One regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) signature: Signature,
}

/// Result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Files, by path.
    pub(crate) files: Vec<Entry>,
    /// Skipped files, by path.
    pub(crate) skipped: Vec<Skipped>,
    /// Files with several names.
    pub(crate) linked: Vec<(String, Links)>,
    /// Error of the first directory that could not be watched. No later directory is watched.
    pub(crate) unwatched: Option<io::Error>,
}

/// Identity of a file with several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) inode: u64,
    /// Number of names.
    pub(crate) count: u32,
}

impl Snapshot {
    /// Returns the paths at or below which unseen files may still exist.
    pub(crate) fn blind_spots(&self) -> Vec<&str> {
        let hiding = self.skipped.iter().filter(|skipped| skipped.reason.hides_a_file());
        hiding.map(|skipped| skipped.path.as_str()).collect()
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Signature> {
        let at = self.files.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at].signature)
    }

    /// Returns whether a path is a file, mirrored or skipped.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_some() || self.skipped.iter().any(|skipped| skipped.path == path)
    }

    pub(crate) fn skip(&mut self, path: String, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }

    /// Adds the findings of another walk.
    pub(crate) fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
        self.skipped.extend(other.skipped);
        self.linked.extend(other.linked);
        self.unwatched = self.unwatched.take().or(other.unwatched);
    }

    /// Sorts the findings by path.
    pub(crate) fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_unstable();
        // Two names that are not UTF-8 may be shown alike.
        self.skipped.dedup();
    }
}
