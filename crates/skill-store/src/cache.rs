//! The cache of skills on a host.

use std::path::{Path, PathBuf};

/// A directory of downloaded files, shared by the sessions and processes of one user.
///
/// Files are named by their SHA-256 digests, and verified whenever they are read. So a crash, a
/// full disk or a damaged file costs another download at most. The agents of sessions must not
/// reach the directory: they could learn the skills of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkillCache {
    dir: PathBuf,
    max_bytes: u64,
}

impl SkillCache {
    /// Uses a directory, with at most 1 GiB. The first installation creates it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 1 << 30 }
    }

    /// Sets the maximum size of all files together, in bytes. During an installation, the cache
    /// can exceed it by the size of the skill.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn limit(&self) -> u64 {
        self.max_bytes
    }
}
