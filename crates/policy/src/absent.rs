//! Derivation of the creation rules from rules whose paths do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::creation::{CreationRules, DeniedPath, literal};
use crate::explain::Access;
use crate::mandatory;
use crate::plan::{MountError, MountPlan};
use crate::policy::Policy;
use crate::rules::{PathRule, is_glob, resolve_lexically};
use crate::tree::Tree;

/// Maximum number of dangling symlinks that one path is followed through; the kernel has the same
/// limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Paths of rules at which no file exists.
#[derive(Debug, Default)]
pub(crate) struct AbsentPaths {
    /// Read-only paths without an entry.
    pub(crate) read_only: BTreeSet<PathBuf>,
    /// Read-only paths without an entry, or with a dangling symlink.
    pub(crate) read_only_or_link: BTreeSet<PathBuf>,
    /// Hidden paths without an entry, or with a dangling symlink.
    pub(crate) hidden: BTreeSet<PathBuf>,
}

/// Returns the creation rules of a policy. `writable` are the canonical paths of `allowWrite`.
pub(crate) fn creation_rules(
    policy: &Policy,
    tree: &dyn Tree,
    plan: &MountPlan,
    writable: &BTreeSet<PathBuf>,
    absent: &AbsentPaths,
) -> Result<CreationRules, MountError> {
    let mut rules = CreationRules::default();
    if writable.is_empty() {
        return Ok(rules);
    }
    // Many absent paths share a few directories.
    let mut known = BTreeMap::new();
    let mut locate = |path: &Path, entry: Entry| {
        let targets = creation_targets(tree, path, entry, &mut known)
            .map_err(|source| MountError::Tree { path: path.to_owned(), source })?;
        // In a read-only directory nothing can be created anyway.
        let is_writable = |target: &DeniedPath| plan.allows(&target.dir, Access::Write);
        Ok::<Vec<_>, MountError>(targets.into_iter().filter(is_writable).collect())
    };
    let mut denied = BTreeSet::new();
    for path in &absent.read_only {
        denied.extend(locate(path, Entry::Absent)?);
    }
    for path in &absent.read_only_or_link {
        denied.extend(locate(path, Entry::AbsentOrLink)?);
    }
    rules.denied_paths = denied.into_iter().collect();
    let mut watched: BTreeSet<String> = BTreeSet::from([".git".to_owned()]);
    for name in mandatory::FILES.iter().chain(&mandatory::DIRECTORIES) {
        watched.extend(name.split('/').map(str::to_owned));
    }
    for path in &absent.hidden {
        for target in locate(path, Entry::AbsentOrLink)? {
            let pattern = |name| String::from_utf8_lossy(&literal(name)).into_owned();
            watched.extend(target.rest.iter().map(pattern));
        }
    }
    rules.denied_patterns = patterns(&policy.deny_write).map(str::to_owned).collect();
    for pattern in patterns(&policy.deny_read) {
        let (prefix, names) = split_pattern(tree, pattern);
        if writable.iter().any(|root| prefix.starts_with(root) || root.starts_with(&prefix)) {
            watched.extend(names);
        }
    }
    rules.watched_names = watched.into_iter().collect();
    Ok(rules)
}

fn patterns(rules: &[PathRule]) -> impl Iterator<Item = &str> {
    rules.iter().filter_map(|rule| match rule {
        PathRule::Glob(pattern) => Some(pattern.as_str()),
        PathRule::Path(_) => None,
    })
}

/// Splits a rule into its longest existing prefix and the remaining name patterns.
fn split_pattern(tree: &dyn Tree, rule: &str) -> (PathBuf, Vec<String>) {
    let mut prefix = PathBuf::from("/");
    let mut names = rule.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) =
        names.next_if(|name| !is_glob(name) && matches!(tree.kind(&prefix.join(name)), Ok(Some(_))))
    {
        prefix.push(name);
    }
    // `**` matches every name. The names after it suffice to recognise a match.
    (prefix, names.filter(|name| *name != "**").map(str::to_owned).collect())
}

/// Possible entries at an absent path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Absent,
    AbsentOrLink,
}

/// Resolves where creating `path` would create a file, following dangling symlinks. `known` caches
/// canonical directories.
fn creation_targets(
    tree: &dyn Tree,
    path: &Path,
    mut entry: Entry,
    known: &mut BTreeMap<PathBuf, PathBuf>,
) -> io::Result<Vec<DeniedPath>> {
    let mut targets = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Some((existing, rest)) = split_existing(tree, &path, entry, known) else { break };
        entry = Entry::AbsentOrLink;
        let canonical = match known.get(&existing) {
            Some(dir) => Ok(dir.clone()),
            None => tree.canonicalize(&existing),
        };
        match canonical {
            Ok(dir) => {
                known.insert(existing, dir.clone());
                if !rest.as_os_str().is_empty() {
                    targets.push(DeniedPath { dir, rest });
                }
                break;
            }
            // The prefix ends in a dangling symlink. A command could also remove the link and
            // create a file in its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = existing.parent().unwrap_or(&existing);
                let name = existing.file_name().unwrap_or_default();
                let dir = tree.canonicalize(parent)?;
                let target = tree.read_link(&existing)?;
                let with_rest = |path: &Path| {
                    if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(&rest) }
                };
                path = resolve_lexically(&dir, &with_rest(&target));
                targets.push(DeniedPath { dir, rest: with_rest(Path::new(name)) });
            }
            // Nothing can be created through a cycle of symlinks or below a file.
            Err(_) => break,
        }
    }
    Ok(targets)
}

/// Splits `path` into its longest existing prefix and the rest.
fn split_existing(
    tree: &dyn Tree,
    path: &Path,
    entry: Entry,
    known: &BTreeMap<PathBuf, PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    for prefix in path.ancestors().skip(usize::from(entry == Entry::Absent)) {
        // A path that cannot be inspected lies in a directory that is read-only for that reason.
        if known.contains_key(prefix) || tree.kind(prefix).is_ok_and(|kind| kind.is_some()) {
            let rest = path.strip_prefix(prefix).unwrap_or(Path::new("")).to_owned();
            return Some((prefix.to_owned(), rest));
        }
    }
    None
}
