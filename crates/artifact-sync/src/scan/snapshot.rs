//! State of a directory at one time: its files with their signatures, directories and symlinks.

use std::io;

use crate::paths::parents;
use crate::scan::signature::Signature;
use crate::scan::skipped::{SkipReason, Skipped};

/// One regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) signature: Signature,
}

/// One directory below the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryEntry {
    pub(crate) path: String,
    /// The nine permission bits.
    pub(crate) mode: u16,
    /// Set if it contains no mirrored file, directory or symlink. Ignored and skipped entries do
    /// not count.
    pub(crate) is_empty: bool,
}

/// One symlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SymlinkEntry {
    pub(crate) path: String,
    /// Text of the symlink, which may lead anywhere.
    pub(crate) target: String,
}

/// Result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Files, by path.
    pub(crate) files: Vec<Entry>,
    /// Directories, by path. A snapshot of some paths includes the directories that contain them.
    pub(crate) directories: Vec<DirectoryEntry>,
    /// Symlinks, by path.
    pub(crate) symlinks: Vec<SymlinkEntry>,
    /// Skipped files, by path.
    pub(crate) skipped: Vec<Skipped>,
    /// Files with several names.
    pub(crate) linked: Vec<(String, Links)>,
    /// Directories that are ignored because of a marker in them, by path.
    pub(crate) ignored: Vec<String>,
    /// Directories that were made readable during the walk, in any order.
    pub(crate) granted: Vec<String>,
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

/// Sizes of the lists of a snapshot.
pub(super) struct Sizes {
    files: usize,
    symlinks: usize,
    skipped: usize,
    linked: usize,
}

impl Sizes {
    /// Returns the number of files and symlinks.
    pub(super) fn mirrored(&self) -> usize {
        self.files + self.symlinks
    }
}

impl Snapshot {
    /// Returns the paths at or below which unseen files may still exist.
    pub(crate) fn blind_spots(&self) -> Vec<&str> {
        let hiding = self.skipped.iter().filter(|skipped| skipped.reason.hides_a_file());
        let ignored = self.ignored.iter().map(String::as_str);
        hiding.map(|skipped| skipped.path.as_str()).chain(ignored).collect()
    }

    /// Returns the sizes of the lists that entries of a directory are added to.
    pub(super) fn sizes(&self) -> Sizes {
        let (files, symlinks) = (self.files.len(), self.symlinks.len());
        Sizes { files, symlinks, skipped: self.skipped.len(), linked: self.linked.len() }
    }

    /// Drops the entries that were added after this state.
    pub(super) fn truncate(&mut self, before: &Sizes) {
        self.files.truncate(before.files);
        self.symlinks.truncate(before.symlinks);
        self.skipped.truncate(before.skipped);
        self.linked.truncate(before.linked);
    }

    /// Returns the number of files and symlinks.
    pub(super) fn mirrored_entries(&self) -> usize {
        self.files.len() + self.symlinks.len()
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Signature> {
        let at = self.files.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at].signature)
    }

    /// Returns whether a path is a directory that was entered.
    pub(crate) fn has_directory(&self, path: &str) -> bool {
        self.directories.binary_search_by(|entry| entry.path.as_str().cmp(path)).is_ok()
    }

    /// Returns whether something was found under a path.
    pub(crate) fn has_anything(&self, path: &str) -> bool {
        self.has(path) || self.has_directory(path) || self.ignored.iter().any(|known| known == path)
    }

    /// Returns whether a path is a symlink.
    pub(crate) fn has_symlink(&self, path: &str) -> bool {
        self.symlinks.binary_search_by(|entry| entry.path.as_str().cmp(path)).is_ok()
    }

    /// Returns whether a path is a file or a symlink, mirrored or skipped.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
            || self.has_symlink(path)
            || self.skipped.iter().any(|skipped| skipped.path == path)
    }

    pub(crate) fn skip(&mut self, path: String, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }

    /// Adds the findings of another walk.
    pub(crate) fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
        self.directories.extend(other.directories);
        self.symlinks.extend(other.symlinks);
        self.skipped.extend(other.skipped);
        self.linked.extend(other.linked);
        self.granted.extend(other.granted);
        self.ignored.extend(other.ignored);
        self.unwatched = self.unwatched.take().or(other.unwatched);
    }

    /// Sorts the findings by path. Directories that contain other directories are not empty.
    pub(crate) fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.symlinks.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.directories.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        // Neighbours in a list of paths may name their directory more than once.
        self.directories.dedup_by(|a, b| a.path == b.path);
        for at in 0..self.directories.len() {
            let above = parents(&self.directories[at].path).next();
            let above = above.and_then(|above| {
                self.directories.binary_search_by(|entry| entry.path.as_str().cmp(above)).ok()
            });
            if let Some(above) = above {
                self.directories[above].is_empty = false;
            }
        }
        self.skipped.sort_unstable();
        // Two names that are not UTF-8 may be shown alike.
        self.skipped.dedup();
    }
}
