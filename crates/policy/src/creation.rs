//! What must not come into being, and what asks for a new compilation when it does.
//!
//! Mounts cover what is there. A path that is denied and at which nothing is yet cannot be mounted
//! over, and a file that was made there to mount over would show on the host. So an engine is told
//! of such paths, and sees to them when something is made:
//!
//! 1. At a refused path nothing may be made. On the way to it directories may be made, but nothing
//!    may be moved or linked there: that could bring a denied path along.
//! 2. Nothing may be made that a refused pattern matches.
//! 3. When something is made under a watched name, the policy may cover more than before: a
//!    repository, for one. Compiling it again tells.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::glob;

/// What must not come into being, and what asks for a new compilation when it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreationRules {
    /// Canonical paths in writable directories.
    pub denied_paths: Vec<DeniedPath>,
    /// Patterns on whole paths.
    pub denied_patterns: Vec<String>,
    /// Patterns on names.
    pub watched_names: Vec<String>,
}

/// A path at which nothing may be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeniedPath {
    /// How far the way to it exists: a directory, or a file in the place of one.
    pub dir: PathBuf,
    /// The rest of the path; never empty.
    pub rest: PathBuf,
}

impl DeniedPath {
    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.rest)
    }
}

impl CreationRules {
    /// Whether there is nothing to see to.
    pub fn is_empty(&self) -> bool {
        self.denied_paths.is_empty()
            && self.denied_patterns.is_empty()
            && self.watched_names.is_empty()
    }

    /// Whether nothing may be made at a canonical path.
    pub fn denies(&self, path: &Path) -> bool {
        let is_refused = |refused: &DeniedPath| {
            path.strip_prefix(&refused.dir).is_ok_and(|at| at.starts_with(&refused.rest))
        };
        let text = path.as_os_str().as_encoded_bytes();
        self.denied_paths.iter().any(is_refused)
            || self.denied_patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), text))
    }

    /// Whether a path has a watched name on it, so that the policy may cover more once something is
    /// there.
    pub fn affects_policy(&self, path: &Path) -> bool {
        let is_watched = |name: &OsStr| {
            self.watched_names
                .iter()
                .any(|pattern| glob::component(pattern.as_bytes(), name.as_encoded_bytes()))
        };
        path.iter().any(is_watched)
    }
}

/// A pattern that matches one name only.
pub(crate) fn literal(name: &str) -> String {
    name.chars()
        .map(|c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() })
        .collect()
}
