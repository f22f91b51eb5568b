//! Derivation of the creation rules from rules whose paths do not exist.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::canonical::{self, at_and_above, compare, covers, is_same, rest_below};
use crate::compile::MountCompiler;
use crate::creation::{CreationRules, DeniedPath, literal};
use crate::explain::Access;
use crate::git;
use crate::mandatory;
use crate::plan::{LaterFiles, MountError, MountOp, MountPlan};
use crate::policy::Policy;
use crate::rules::{PathRule, Pattern, exact_name, resolve_lexically};
use crate::tree::{Tree, is_absent};

/// Maximum number of dangling symlinks that one path is followed through; the kernel has the same
/// limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Paths of rules at which no file exists.
#[derive(Debug, Default)]
pub(crate) struct AbsentPaths {
    /// Read-only paths without an entry.
    pub(crate) read_only: Vec<PathBuf>,
    /// Read-only paths without an entry, or with a dangling symlink.
    pub(crate) read_only_or_link: Vec<PathBuf>,
    /// Hidden paths without an entry, or with a dangling symlink.
    pub(crate) hidden: Vec<PathBuf>,
}

impl MountCompiler<'_> {
    /// Returns the creation rules of a policy. `writable` are the canonical paths of `allowWrite`.
    pub(crate) fn creation_rules(
        &mut self,
        policy: &Policy,
        plan: &MountPlan,
        writable: &BTreeSet<PathBuf>,
        later: LaterFiles,
    ) -> Result<CreationRules, MountError> {
        let mut rules = CreationRules::default();
        if writable.is_empty() {
            return Ok(rules);
        }
        canonical::sort(&mut self.absent.read_only);
        canonical::sort(&mut self.absent.read_only_or_link);
        canonical::sort(&mut self.absent.hidden);
        let (tree, absent) = (self.tree, &self.absent);
        // Many absent paths share a few directories.
        let mut known = HashMap::new();
        let mounts: HashMap<&OsStr, &MountOp> = plan
            .ops
            .iter()
            .map(|op| (op.path().unwrap_or(Path::new("/")).as_os_str(), op))
            .collect();
        // The operations are sorted by depth, so the deepest one above a path decides.
        let is_writable_dir = |dir: &Path| {
            let deciding = at_and_above(dir).find_map(|above| mounts.get(above));
            deciding.is_some_and(|op| op.allows(Access::Write))
        };
        // Neighbours follow each other.
        let mut last: Option<(PathBuf, bool)> = None;
        let mut locate = |path: &Path, entry: Entry| {
            let targets = creation_targets(tree, path, entry, &mut known)
                .map_err(|source| MountError::Tree { path: path.to_owned(), source })?;
            // In a read-only directory nothing can be created anyway.
            let mut is_writable = |target: &DeniedPath| match &last {
                Some((dir, known)) if is_same(dir, &target.dir) => *known,
                _ => last.insert((target.dir.clone(), is_writable_dir(&target.dir))).1,
            };
            Ok::<Vec<_>, MountError>(targets.into_iter().filter(|it| is_writable(it)).collect())
        };
        let mut denied = Vec::new();
        for path in &absent.read_only {
            denied.extend(locate(path, Entry::Absent)?);
        }
        for path in &absent.read_only_or_link {
            denied.extend(locate(path, Entry::AbsentOrLink)?);
        }
        if later == LaterFiles::Denied {
            for path in &absent.hidden {
                denied.extend(locate(path, Entry::AbsentOrLink)?);
            }
        }
        denied.sort_by(|a: &DeniedPath, b| {
            compare(&a.dir, &b.dir).then_with(|| compare(&a.rest, &b.rest))
        });
        denied.dedup_by(|a, b| is_same(&a.dir, &b.dir) && is_same(&a.rest, &b.rest));
        rules.denied_paths = denied;
        let mut watched: BTreeSet<Vec<u8>> = BTreeSet::new();
        if !self.protected_roots.is_empty() {
            watched.extend(git::REPOSITORY_NAMES.map(|name| name.as_bytes().to_vec()));
            let names = mandatory::names().flat_map(|name| name.split('/'));
            watched.extend(names.map(|name| name.as_bytes().to_vec()));
        }
        for path in &absent.hidden {
            for target in locate(path, Entry::AbsentOrLink)? {
                watched.extend(target.rest.iter().map(literal));
            }
        }
        if policy.has_no_file_rules() {
            rules.watched_names = watched.into_iter().collect();
            return Ok(rules);
        }
        rules.denied_patterns = patterns(&policy.deny_write).map(<[u8]>::to_vec).collect();
        if later == LaterFiles::Denied {
            let hidden = patterns(&policy.deny_read).map(<[u8]>::to_vec);
            rules.denied_patterns.extend(hidden.chain(self.patterns_of_names()));
        }
        for pattern in patterns(&policy.deny_read) {
            let (prefix, names) = split_pattern(tree, pattern);
            if writable.iter().any(|root| covers(root, &prefix) || covers(&prefix, root)) {
                watched.extend(names);
            }
        }
        rules.watched_names = watched.into_iter().collect();
        Ok(rules)
    }
}

impl MountCompiler<'_> {
    /// Returns patterns of the protected names and of repositories in the directories of the user.
    fn patterns_of_names(&self) -> impl Iterator<Item = Vec<u8>> {
        let names = mandatory::names().chain(git::REPOSITORY_NAMES);
        self.protected_roots.iter().flat_map(move |root| {
            let root: Vec<u8> = root
                .iter()
                .skip(1)
                .flat_map(|name| [b"/".to_vec(), literal(name)].concat())
                .collect();
            names.clone().map(move |name| [&root[..], b"/**/", name.as_bytes()].concat())
        })
    }
}

fn patterns(rules: &[PathRule]) -> impl Iterator<Item = &[u8]> {
    let globs = rules.iter().filter_map(|rule| match rule {
        PathRule::Glob(pattern) => Some(pattern),
        PathRule::Path(_) => None,
    });
    globs.flat_map(Pattern::readings)
}

/// Splits a pattern into its longest existing prefix and the remaining patterns of names.
fn split_pattern(tree: &dyn Tree, pattern: &[u8]) -> (PathBuf, Vec<Vec<u8>>) {
    let mut prefix = PathBuf::from("/");
    let parts = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let mut parts = parts.peekable();
    while let Some(name) = parts.peek().and_then(|part| exact_name(part)) {
        if !matches!(tree.kind(&prefix.join(&name)), Ok(Some(_))) {
            break;
        }
        prefix.push(name);
        parts.next();
    }
    // `**` matches every name. The names after it suffice to recognise a match.
    (prefix, parts.filter(|part| *part != b"**").map(<[u8]>::to_vec).collect())
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
    known: &mut HashMap<OsString, PathBuf>,
) -> io::Result<Vec<DeniedPath>> {
    let mut targets = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Some((existing, rest)) = split_existing(tree, &path, entry, known) else { break };
        entry = Entry::AbsentOrLink;
        let canonical = match known.get(existing.as_os_str()) {
            Some(dir) => Ok(dir.clone()),
            None => tree.canonicalize(existing).inspect(|dir| {
                known.insert(existing.into(), dir.clone());
            }),
        };
        match canonical {
            Ok(dir) => {
                if !rest.as_os_str().is_empty() {
                    targets.push(DeniedPath { dir, rest: rest.to_owned() });
                }
                break;
            }
            // The prefix ends in a dangling symlink. A command could also remove the link and
            // create a file in its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = existing.parent().unwrap_or(existing);
                let name = existing.file_name().unwrap_or_default();
                let link = tree.canonicalize(parent).and_then(|dir| {
                    let target = tree.read_link(existing)?;
                    Ok((dir, target))
                });
                let (dir, target) = match link {
                    // The host has removed the directory in the meantime.
                    Err(error) if is_absent(&error) => break,
                    other => other?,
                };
                let with_rest = |path: &Path| {
                    if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) }
                };
                let next = resolve_lexically(&dir, &with_rest(&target));
                targets.push(DeniedPath { dir, rest: with_rest(Path::new(name)) });
                path = next;
            }
            // Nothing can be created through a cycle of symlinks or below a file.
            Err(_) => break,
        }
    }
    Ok(targets)
}

/// Splits `path` into its longest existing prefix and the rest.
fn split_existing<'p>(
    tree: &dyn Tree,
    path: &'p Path,
    entry: Entry,
    known: &HashMap<OsString, PathBuf>,
) -> Option<(&'p Path, &'p Path)> {
    for prefix in at_and_above(path).skip(usize::from(entry == Entry::Absent)) {
        let prefix = Path::new(prefix);
        // A path that cannot be inspected lies in a directory that is read-only for that reason.
        if known.contains_key(prefix.as_os_str())
            || tree.kind(prefix).is_ok_and(|kind| kind.is_some())
        {
            return Some((prefix, rest_below(prefix, path)));
        }
    }
    None
}
