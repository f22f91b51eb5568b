//! Canonical paths of the lists of a policy, for the files that exist now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::compile::MountCompiler;
use crate::links::{Route, is_above_any, is_dispensable};
use crate::plan::{MountError, UnenforcedReason};
use crate::policy::Policy;
use crate::protect::Protected;
use crate::repositories::is_kernel_tree;
use crate::rules::{PathRule, is_inside};
use crate::tree::{NodeKind, inspectable_above};

/// Maximum number of files and directories that the patterns of one policy are compared with. A
/// session directory has at most a million files, so no command makes a session exceed it.
const MAX_VISITED: usize = 1_500_000;

/// Name of the list whose rules also apply to paths that do not exist.
pub(crate) const DENY_WRITE: &str = "denyWrite";

impl MountCompiler<'_> {
    /// Returns the canonical paths of an allowing list. An agent could have created a symlink in a
    /// writable directory, so such a link opens nothing outside it.
    pub(crate) fn allowed_paths(
        &mut self,
        policy: &Policy,
        list: &'static str,
        rules: &[PathRule],
        writable: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let mut found = Vec::new();
        for rule in rules {
            for path in self.candidates(policy, list, rule, writable)? {
                // A command may have closed a directory above. No command opens it then.
                match self.resolve(&path).ok().flatten() {
                    Some(canonical) if self.is_replaced(list, rule, &canonical) => {}
                    Some(canonical) if self.is_sealed(&canonical) => {
                        self.report_unenforced(list, rule, UnenforcedReason::Sealed);
                    }
                    Some(canonical) => {
                        let links = Route::to(self.tree, &path).links;
                        found.push((rule, path, links, canonical));
                    }
                    None => self.report_unenforced(list, rule, UnenforcedReason::Absent),
                }
            }
        }
        // The directories of all rules count, in whatever order the rules are.
        let roots = found.iter().map(|(_, _, _, canonical)| canonical);
        let roots: Vec<PathBuf> = match found.iter().any(|(_, _, links, _)| !links.is_empty()) {
            true => writable.iter().chain(roots).cloned().collect(),
            false => Vec::new(),
        };
        let mut allowed = BTreeSet::new();
        for (rule, path, links, canonical) in found {
            let escapes = |root: &PathBuf| {
                !canonical.starts_with(root) && links.iter().any(|link| is_inside(link, root))
            };
            if !links.is_empty() && roots.iter().any(escapes) {
                self.report_unenforced(list, rule, UnenforcedReason::EscapingSymlink);
            } else {
                self.record_link(&canonical, list, rule, &path);
                allowed.insert(canonical);
            }
        }
        Ok(allowed)
    }

    /// Returns the read-only paths of `denyWrite`, and the symlinks that lead to them.
    pub(crate) fn read_only_paths(
        &mut self,
        policy: &Policy,
        writable: &BTreeSet<PathBuf>,
    ) -> Result<Protected, MountError> {
        let mut links = BTreeSet::new();
        let paths =
            self.denied_paths(policy, DENY_WRITE, &policy.deny_write, writable, &mut links)?;
        Ok(Protected { paths, links, kept: writable.clone(), ..Protected::default() })
    }

    /// Returns the hidden paths. `/` stands for every entry in it except the kernel's trees.
    pub(crate) fn hidden_paths(
        &mut self,
        policy: &Policy,
        shown: &BTreeSet<PathBuf>,
        writable: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let rules = &policy.deny_read;
        let mut hidden =
            self.denied_paths(policy, "denyRead", rules, writable, &mut BTreeSet::new())?;
        let root = Path::new("/");
        if hidden.remove(root) && !shown.contains(root) && !writable.contains(root) {
            let names = self
                .tree
                .read_dir(root)
                .map_err(|source| MountError::Tree { path: root.to_owned(), source })?;
            for path in names.into_iter().map(|(name, _)| root.join(name)) {
                // The target of a symlink is hidden or shown at its own path.
                if !is_kernel_tree(&path)
                    && self.kind(&path)?.is_some_and(|kind| kind != NodeKind::Symlink)
                {
                    hidden.insert(path);
                }
            }
        }
        Ok(hidden)
    }

    /// Returns the canonical paths of a denying list that exist, and records those that do not.
    /// Adds the symlinks on the way to them to `links`.
    pub(crate) fn denied_paths(
        &mut self,
        policy: &Policy,
        list: &'static str,
        rules: &[PathRule],
        writable: &BTreeSet<PathBuf>,
        links: &mut BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let mut found = BTreeSet::new();
        for rule in rules {
            for path in self.candidates(policy, list, rule, writable)? {
                let route = Route::to(self.tree, &path);
                let is_chosen = route.may_be_chosen(writable);
                links.extend(route.links.iter().cloned());
                let resolved = match self.resolve(&path) {
                    Ok(resolved) => resolved,
                    // The commands run as the same user, so they cannot follow the link either.
                    Err(_)
                        if is_chosen && !writable.iter().any(|dir| route.end.starts_with(dir)) =>
                    {
                        self.report_unenforced(list, rule, UnenforcedReason::Unreachable);
                        continue;
                    }
                    // A path that cannot be inspected is covered by a directory above it.
                    Err(error) => {
                        let above = inspectable_above(self.tree, &route.end).ok_or(error)?;
                        self.record_link(&above, list, rule, &path);
                        found.insert(above);
                        continue;
                    }
                };
                match resolved {
                    Some(canonical) if self.is_replaced(list, rule, &canonical) => {}
                    Some(canonical) if is_chosen && !self.may_deny(list, &canonical, writable) => {
                        self.report_unenforced(list, rule, UnenforcedReason::NeededTarget);
                    }
                    Some(canonical) => {
                        self.record_link(&canonical, list, rule, &path);
                        found.insert(canonical);
                    }
                    None if list == DENY_WRITE => {
                        self.absent.read_only_or_link.push(path);
                    }
                    None => {
                        self.report_unenforced(list, rule, UnenforcedReason::Absent);
                        self.absent.hidden.push(path);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns whether a session works although a list denies the target of a symlink.
    fn may_deny(&self, list: &str, target: &Path, writable: &BTreeSet<PathBuf>) -> bool {
        if list == DENY_WRITE {
            !is_above_any(target, writable) && !is_kernel_tree(target)
        } else {
            is_dispensable(target, writable)
        }
    }

    /// Returns the path of a rule, or the paths that its pattern matches now.
    fn candidates(
        &mut self,
        policy: &Policy,
        list: &'static str,
        rule: &PathRule,
        writable: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, MountError> {
        let (pattern, base) = match rule {
            PathRule::Path(path) if self.is_replaced(list, rule, path) => return Ok(Vec::new()),
            PathRule::Path(path) => return Ok(vec![path.clone()]),
            PathRule::Glob(pattern) => (pattern, pattern.base()),
        };
        if self.is_replaced(list, rule, &base) {
            return Ok(Vec::new());
        }
        if base == Path::new("/") {
            return Err(MountError::PatternTooBroad { pattern: pattern.to_string() });
        }
        // A name with pattern characters that exists is meant as it is.
        let literal = pattern.to_string();
        let is_literal = matches!(self.tree.kind(Path::new(&literal)), Ok(Some(_)));
        if list != DENY_WRITE && !is_literal {
            self.report_unenforced(list, rule, UnenforcedReason::FutureFiles);
        }
        let route = Route::to(self.tree, &base);
        if route.may_be_chosen(writable) && !writable.iter().any(|root| route.end.starts_with(root))
        {
            // An agent could lead the search through the whole machine.
            self.report_unenforced(list, rule, UnenforcedReason::EscapingSymlink);
            return Ok(Vec::new());
        }
        let is_denying = list.starts_with("deny");
        let mut found = Vec::new();
        let mut rest = vec![base];
        while let Some(path) = rest.pop() {
            self.visited += 1;
            if self.visited > MAX_VISITED {
                return Err(MountError::TooManyFiles {
                    pattern: pattern.to_string(),
                    max: MAX_VISITED,
                });
            }
            let is_match = pattern.matches(&path);
            if is_match {
                found.push(path.clone());
            }
            // Everything below a match is covered, except by a rule inside it.
            if is_match && !(pattern.has_deep_matches() && policy.has_rule_inside(&path, rule)) {
                continue;
            }
            let names = match self.tree.kind(&path) {
                Ok(Some(NodeKind::Directory)) => {
                    self.tree.read_dir(&path).map_err(|_| Some(path.clone()))
                }
                Ok(_) => continue,
                Err(_) => Err(inspectable_above(self.tree, &path)),
            };
            match names {
                Ok(names) => rest.extend(names.into_iter().map(|(name, _)| path.join(name))),
                // The entries of a directory that cannot be listed are unknown. It is hidden or
                // protected as a whole, and never opened.
                Err(unknown) if is_denying => {
                    self.unsearched.extend(unknown.iter().cloned());
                    found.extend(unknown);
                }
                Err(_) => {}
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}
