//! Derivation of the creation rules from rules whose paths do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::creation::{CreationRules, DeniedPath, literal};
use crate::explain::Access;
use crate::mandatory;
use crate::plan::{MountError, MountPlan};
use crate::policy::Policy;
use crate::rules::{PathRule, is_glob};
use crate::tree::Tree;

/// How many symlinks are followed, one after another, to a target that does not exist; as many as
/// the kernel follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Paths of rules at which nothing is.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    /// Nothing may be written there.
    pub(crate) unwritable: BTreeSet<PathBuf>,
    /// The same, and perhaps there is a symlink that leads nowhere.
    pub(crate) leading_nowhere: BTreeSet<PathBuf>,
    /// It is to be hidden when it is there.
    pub(crate) unreadable: BTreeSet<PathBuf>,
}

/// Finds out where nothing may be made, and what is to be looked out for. `writable` are the
/// canonical paths of `allowWrite`.
pub(crate) fn creation_rules(
    policy: &Policy,
    tree: &dyn Tree,
    plan: &MountPlan,
    writable: &BTreeSet<PathBuf>,
    absent: &Absent,
) -> Result<CreationRules, MountError> {
    let mut rules = CreationRules::default();
    if writable.is_empty() {
        return Ok(rules);
    }
    // Most of them are in the same few directories.
    let mut known = BTreeMap::new();
    let mut settled = |path: &Path, what: Stands| {
        let found = settle(tree, path, what, &mut known);
        let found = found.map_err(|source| MountError::Tree { path: path.to_owned(), source })?;
        // Where nothing can be written, nothing can arise.
        Ok(found
            .into_iter()
            .filter(|found| plan.allows(&found.dir, Access::Write))
            .collect::<Vec<_>>())
    };
    let mut refused = BTreeSet::new();
    for path in &absent.unwritable {
        refused.extend(settled(path, Stands::Nothing)?);
    }
    for path in &absent.leading_nowhere {
        refused.extend(settled(path, Stands::PerhapsLink)?);
    }
    rules.denied_paths = refused.into_iter().collect();
    let mut watched: BTreeSet<String> = BTreeSet::from([".git".to_owned()]);
    for name in mandatory::FILES.iter().chain(&mandatory::DIRECTORIES) {
        watched.extend(name.split('/').map(str::to_owned));
    }
    for path in &absent.unreadable {
        for found in settled(path, Stands::PerhapsLink)? {
            let pattern = |name| String::from_utf8_lossy(&literal(name)).into_owned();
            watched.extend(found.rest.iter().map(pattern));
        }
    }
    rules.denied_patterns = patterns(&policy.deny_write).map(str::to_owned).collect();
    for pattern in patterns(&policy.deny_read) {
        let (at, names) = ahead(tree, pattern);
        if writable.iter().any(|root| at.starts_with(root) || root.starts_with(&at)) {
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

/// How far the way to what a rule covers leads through what exists, and the names from there on.
fn ahead(tree: &dyn Tree, rule: &str) -> (PathBuf, Vec<String>) {
    let mut at = PathBuf::from("/");
    let mut names = rule.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) =
        names.next_if(|name| !is_glob(name) && matches!(tree.kind(&at.join(name)), Ok(Some(_))))
    {
        at.push(name);
    }
    // What lies at any depth is known by the names that follow.
    (at, names.filter(|name| *name != "**").map(str::to_owned).collect())
}

/// What is known to be at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Nothing,
    PerhapsLink,
}

/// Where something would arise at a path: there, and where symlinks that lead nowhere would have
/// it. `known` remembers directories.
fn settle(
    tree: &dyn Tree,
    path: &Path,
    mut what: Stands,
    known: &mut BTreeMap<PathBuf, PathBuf>,
) -> io::Result<Vec<DeniedPath>> {
    let mut found = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Some((at, rest)) = split(tree, &path, what, known)? else { break };
        what = Stands::PerhapsLink;
        let canonical = match known.get(&at) {
            Some(dir) => Ok(dir.clone()),
            None => tree.canonicalize(&at),
        };
        match canonical {
            Ok(dir) => {
                known.insert(at, dir.clone());
                if !rest.as_os_str().is_empty() {
                    found.push(DeniedPath { dir, rest });
                }
                break;
            }
            // A symlink whose target is missing: it can be removed, and something else be made in
            // its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) =
                    (at.parent().unwrap_or(&at), at.file_name().unwrap_or_default());
                let dir = tree.canonicalize(parent)?;
                let target = tree.read_link(&at)?;
                let below = |at: &Path| {
                    if rest.as_os_str().is_empty() { at.to_owned() } else { at.join(&rest) }
                };
                found.push(DeniedPath { dir: dir.clone(), rest: below(Path::new(name)) });
                path = folded(&dir, &below(&target));
            }
            // A circle leads nowhere, and neither does what lies below a file.
            Err(_) => break,
        }
    }
    Ok(found)
}

/// A path in two: as far as something is there, and the rest.
fn split(
    tree: &dyn Tree,
    path: &Path,
    what: Stands,
    known: &BTreeMap<PathBuf, PathBuf>,
) -> io::Result<Option<(PathBuf, PathBuf)>> {
    for at in path.ancestors().skip(usize::from(what == Stands::Nothing)) {
        if known.contains_key(at) || tree.kind(at)?.is_some() {
            let rest = path.strip_prefix(at).unwrap_or(Path::new("")).to_owned();
            return Ok(Some((at.to_owned(), rest)));
        }
    }
    Ok(None)
}

/// What a symlink's target is when its directory is known.
fn folded(dir: &Path, target: &Path) -> PathBuf {
    let mut path = dir.to_owned();
    for component in target.components() {
        match component {
            Component::RootDir => path = PathBuf::from("/"),
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(OsStr::new(name)),
            _ => {}
        }
    }
    path
}
