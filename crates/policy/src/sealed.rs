//! Paths about which no rule decides: sealed ones stay hidden, and frozen ones stay as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::compile::MountCompiler;
use crate::links::Route;
use crate::listed::DENY_WRITE;
use crate::plan::MountError;
use crate::policy::Policy;
use crate::protect::Protected;
use crate::rules::{PathRule, depth, is_inside};

/// A path that stays hidden, with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) path: PathBuf,
    /// A directory inside. Rules can open its entries, and not the directory itself.
    pub(crate) open: Option<PathBuf>,
}

impl Sealed {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    pub(crate) fn except(path: &Path, open: &Path) -> Self {
        Self { path: path.to_owned(), open: Some(open.to_owned()) }
    }

    /// Returns whether no rule opens a path.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let is_in = |open: &PathBuf| is_inside(path, open);
        path.starts_with(&self.path) && !self.open.as_ref().is_some_and(is_in)
    }

    /// Returns the depth from which a rule opens a path that is not covered.
    pub(crate) fn opens_from(&self) -> usize {
        depth(self.open.as_ref().unwrap_or(&self.path)) + 1
    }
}

impl Policy {
    /// Hides a path and everything below it whatever the rules say; see
    /// [`PolicyBuilder::seal`](crate::PolicyBuilder::seal).
    #[must_use]
    pub fn seal(mut self, path: &Path) -> Self {
        self.sealed.push(Sealed::new(path));
        self
    }

    /// Hides a path and everything below it; see
    /// [`PolicyBuilder::seal_except`](crate::PolicyBuilder::seal_except).
    #[must_use]
    pub fn seal_except(mut self, path: &Path, open: &Path) -> Self {
        self.sealed.push(Sealed::except(path, open));
        self
    }

    /// Makes a path read-only whatever the rules say; see
    /// [`PolicyBuilder::freeze`](crate::PolicyBuilder::freeze).
    #[must_use]
    pub fn freeze(mut self, path: &Path) -> Self {
        self.frozen.push(path.to_owned());
        self
    }

    /// Returns whether a path lies in a sealed one, and no rule opens it.
    pub(crate) fn is_sealed(&self, path: impl AsRef<Path>) -> bool {
        self.sealed.iter().any(|sealed| sealed.covers(path.as_ref()))
    }
}

impl MountCompiler<'_> {
    /// Returns the sealed paths that exist, in canonical form.
    pub(crate) fn sealed_paths(&mut self, paths: &[Sealed]) -> Result<Vec<Sealed>, MountError> {
        let mut found = Vec::new();
        for Sealed { path, open } in paths {
            match self.resolve(path)? {
                Some(canonical) => {
                    let open = open.as_ref().map(|open| match open.strip_prefix(path) {
                        Ok(below) => canonical.join(below),
                        Err(_) => open.clone(),
                    });
                    found.push(Sealed { path: canonical, open });
                }
                None => {
                    self.absent.hidden.push(path.clone());
                    self.absent.read_only_or_link.push(path.clone());
                }
            }
        }
        Ok(found)
    }

    /// Protects the frozen paths, and the symlinks that lead to frozen and sealed ones.
    pub(crate) fn freeze_paths(
        &mut self,
        policy: &Policy,
        writable: &BTreeSet<PathBuf>,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        for sealed in &policy.sealed {
            protected.links.extend(Route::to(self.tree, &sealed.path).links);
        }
        let rules: Vec<PathRule> = policy.frozen.iter().cloned().map(PathRule::Path).collect();
        let links = &mut protected.links;
        protected.paths.extend(self.denied_paths(policy, DENY_WRITE, &rules, writable, links)?);
        Ok(())
    }
}
