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

use std::collections::BTreeSet;
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

    /// Returns patterns on single names that cover every denied creation.
    ///
    /// An engine that supervises creation can skip a call whose name matches none of them. Each name
    /// on the way to a denied path is among them, because a directory that is moved to that place
    /// could bring the denied path with it.
    pub fn intercepted_names(&self) -> BTreeSet<Vec<u8>> {
        let on_the_way = self.denied_paths.iter().flat_map(|denied| {
            let path = denied.path();
            path.iter().skip(1).map(literal).collect::<Vec<_>>()
        });
        let last_names = self.denied_patterns.iter().filter_map(|pattern| {
            let name = pattern.rsplit('/').next()?;
            Some(if name == "**" { b"*".to_vec() } else { name.as_bytes().to_vec() })
        });
        on_the_way.chain(last_names).collect()
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

/// Returns a pattern that matches `name` only.
pub(crate) fn literal(name: &OsStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'*' | b'?' | b'[' => vec![b'[', *byte, b']'],
        // A closing bracket alone stands for itself.
        other => vec![*other],
    };
    name.as_encoded_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_pattern_matches_its_name_and_no_other() {
        for name in ["a", "*", "?", "[a]", "a]", "[", "\u{e9}*"] {
            let pattern = literal(name.as_ref());
            assert!(glob::component(&pattern, name.as_bytes()), "{name}");
            assert!(!glob::component(&pattern, b"b"), "{name}");
        }
    }

    #[test]
    fn every_name_on_the_way_to_a_denied_path_is_intercepted() {
        let rules = CreationRules {
            denied_paths: vec![DeniedPath { dir: "/w".into(), rest: "a/b*".into() }],
            denied_patterns: vec!["/w/*/*.pem".into(), "/w/x/**".into()],
            ..CreationRules::default()
        };
        let names: Vec<_> = rules.intercepted_names().into_iter().collect();
        assert_eq!(names, [&b"*"[..], b"*.pem", b"a", b"b[*]", b"w"]);
    }
}
