//! Rules for paths that a command creates.
//!
//! Mounts cover existing paths only. A denied path that does not exist cannot be covered by a
//! mount, and a placeholder file would be visible on the host. An engine therefore receives these
//! rules and applies them when a command creates a path:
//!
//! 1. Nothing may be created at a denied path. Directories may be created on the way to it. Nothing
//!    may be moved or linked onto that way, because it could bring the denied path with it.
//! 2. Nothing may be created at a path that a denied pattern matches.
//! 3. Zones have rules for names at any depth: no repository, or no symlink. The deepest zone above
//!    a path decides.
//! 4. A watched name can extend the reach of the policy. A new repository, for example, brings
//!    hooks that must be protected. The engine then compiles the policy again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::canonical::is_resolved;
use crate::git;
use crate::glob;
use crate::rules::{depth, is_inside};

/// Paths that must not be created, and names whose creation requires another compilation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreationRules {
    /// Canonical paths in writable directories at which nothing may be created.
    pub denied_paths: Vec<DeniedPath>,
    /// Patterns on whole paths at which nothing may be created.
    pub denied_patterns: Vec<Vec<u8>>,
    /// Parts of the tree with their own rules; a deeper one comes first.
    pub zones: Vec<Zone>,
    /// Patterns on single names. After a match the policy must be compiled again.
    pub watched_names: Vec<Vec<u8>>,
}

/// A directory with a rule for the names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Canonical path of the directory.
    pub dir: PathBuf,
    /// The rule.
    pub kind: ZoneKind,
}

/// Rule of a [`Zone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZoneKind {
    /// No entry can be created whose name makes its directory a git repository.
    NoNewRepositories,
    /// No symlink can be created, because git would follow it.
    GitDirectory,
    /// Neither of them can be created.
    GitContainer,
    /// Any name can be created.
    Free,
}

impl ZoneKind {
    /// Returns whether the zone denies names that make a directory a repository.
    pub fn denies_repositories(self) -> bool {
        matches!(self, Self::NoNewRepositories | Self::GitContainer)
    }

    /// Returns whether the zone denies symlinks.
    pub fn denies_links(self) -> bool {
        matches!(self, Self::GitDirectory | Self::GitContainer)
    }
}

/// A path at which nothing may be created.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeniedPath {
    /// The existing part: a directory, or a file in the place of one.
    pub dir: PathBuf,
    /// The missing part; never empty.
    pub rest: PathBuf,
}

impl DeniedPath {
    /// Returns the whole path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.rest)
    }
}

impl CreationRules {
    /// Returns whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.denied_paths.is_empty()
            && self.denied_patterns.is_empty()
            && self.zones.is_empty()
            && self.watched_names.is_empty()
    }

    /// Adds zones. Nothing is denied in `private` directories, which are not those of the host.
    pub(crate) fn add_zones(&mut self, zones: Vec<Zone>, private: &[PathBuf]) {
        if zones.is_empty() {
            return;
        }
        let private = private.iter().map(|dir| Zone { dir: dir.clone(), kind: ZoneKind::Free });
        self.zones = zones.into_iter().chain(private).collect();
        let position = |zone: &Zone| (usize::MAX - depth(&zone.dir), zone.dir.clone(), zone.kind);
        self.zones.sort_by_cached_key(position);
        self.zones.dedup();
    }

    /// Returns whether the canonical `path` must not be created as anything but a symlink. That
    /// holds for each path that is relative or empty, or that has a component `..`.
    pub fn denies(&self, path: &Path) -> bool {
        let is_denied = |denied: &DeniedPath| {
            path.strip_prefix(&denied.dir).is_ok_and(|rest| rest.starts_with(&denied.rest))
        };
        let text = path.as_os_str().as_encoded_bytes();
        !is_resolved(path)
            || self.denied_paths.iter().any(is_denied)
            || self.denied_patterns.iter().any(|pattern| glob::matches(pattern, text))
            || self.is_new_repository(path)
    }

    /// Returns whether a zone denies the path. What an existing repository contains is not denied.
    fn is_new_repository(&self, path: &Path) -> bool {
        let zone = self.zones.iter().find(|zone| is_inside(path, &zone.dir));
        zone.is_some_and(|zone| zone.kind.denies_repositories())
            && git::REPOSITORY_NAMES.iter().any(|name| path.ends_with(name))
    }

    /// Returns whether creating `path` can activate further rules of the policy.
    pub fn affects_policy(&self, path: &Path) -> bool {
        let is_watched = |name: &OsStr| {
            self.watched_names
                .iter()
                .any(|pattern| glob::component(pattern, name.as_encoded_bytes()))
        };
        path.iter().any(is_watched)
    }

    /// Returns patterns on single names that cover every denied creation.
    ///
    /// An engine that supervises creation can skip a call whose name matches none of them. The list
    /// includes each name on the way to a denied path. A directory that is moved there could bring
    /// the denied path with it.
    pub fn intercepted_names(&self) -> BTreeSet<Vec<u8>> {
        let on_the_way = self.denied_paths.iter().flat_map(|denied| {
            let path = denied.path();
            path.iter().skip(1).map(literal).collect::<Vec<_>>()
        });
        let last_names = self.denied_patterns.iter().filter_map(|pattern| {
            let name = pattern.rsplit(|byte| *byte == b'/').next()?;
            Some(if name == b"**" { b"*".to_vec() } else { name.to_vec() })
        });
        let of_zones = git::REPOSITORY_NAMES.iter().filter(|_| !self.zones.is_empty());
        let of_zones = of_zones.map(|name| name.as_bytes().to_vec());
        on_the_way.chain(last_names).chain(of_zones).collect()
    }
}

/// Returns a pattern that matches `name` only.
pub(crate) fn literal(name: &OsStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'*' | b'?' | b'[' => vec![b'[', *byte, b']'],
        // A closing bracket without an opening one matches itself.
        other => vec![*other],
    };
    name.as_encoded_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_pattern_matches_its_name_and_no_other() {
        for name in ["a", "*", "?", "[a]", "a]", "[", "é*"] {
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
