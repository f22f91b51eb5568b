//! The compilation of a policy to mounts, for an engine that builds a session's own view of the
//! file system.
//!
//! The operations are carried out in order, and a later one lies over an earlier one. So:
//!
//! 1. [`MountOp::Root`] comes first: the host's tree, read-only.
//! 2. All others are sorted by depth, the shallow first: what is more specific comes later and
//!    wins.
//! 3. At one path, a private directory comes before a hidden one, and a bind last: where a path is
//!    both denied and allowed, it is shown, and writable only where `allowWrite` has that very
//!    path.
//! 4. An operation that would change nothing is left out: hiding what is hidden, showing what is in
//!    sight.
//! 5. A path that may be written to is bound read-only where `denyWrite` or a protected name covers
//!    it from above; inside a writable path, what may not be written to is bound read-only at its
//!    own depth. So denying wins in any nesting.
//! 6. Between a writable path and something inside it that is hidden or protected, each directory
//!    is bound onto itself: a mount point cannot be renamed or removed, so nobody moves the parent
//!    of a protected path away (`EBUSY`).
//! 7. Where nothing is yet, nothing is mounted: see `creation`.
//! 8. Every path is canonical when the plan is made. An engine that meets a symlink at one of them
//!    refuses.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::absent::{Absent, creation_rules};
use crate::creation::CreationRules;
use crate::explain::is_inside;
use crate::glob;
use crate::mandatory;
use crate::order::{PathSets, order_mounts};
use crate::plan::{MountError, MountOp, MountOptions, MountPlan, Unenforced, UnenforcedReason};
use crate::policy::Policy;
use crate::repositories::Search;
use crate::rules::{PathRule, is_glob};
use crate::tree::{NodeKind, Tree};

/// How many files and directories the patterns of a policy may be compared with.
const MAX_VISITED: usize = 200_000;

/// The list whose rules also hold where nothing is yet.
const DENY_WRITE: &str = "denyWrite";

impl Policy {
    /// Compiles the policy to mounts, against the files that are there now.
    ///
    /// What does not exist is not created, on the host or anywhere: where it may not be written to,
    /// it stands in [`MountPlan::creation_rules`].
    ///
    /// # Errors
    /// [`MountError`], when the tree cannot be looked at, or a pattern cannot be evaluated.
    pub fn mounts(&self, tree: &dyn Tree, options: &MountOptions) -> Result<MountPlan, MountError> {
        if self.files_are_free() {
            return Ok(MountPlan { ops: vec![MountOp::RootWritable], ..MountPlan::default() });
        }
        let mut compiler = Compiler {
            tree,
            unenforced: Vec::new(),
            absent: Absent::default(),
            visited: 0,
            searched: 0,
        };
        let writable = compiler.allowed("allowWrite", &self.allow_write, &BTreeSet::new())?;
        let shown = compiler.allowed("allowRead", &self.allow_read, &writable)?;
        let hidden = compiler.hidden(self, &shown, &writable)?;
        let mut protected = compiler.existing(DENY_WRITE, &self.deny_write)?;
        for root in &writable {
            compiler.protect_root(self, root, &writable, &mut protected)?;
        }
        let sets = PathSets { hidden, shown, writable, protected };
        let ops = order_mounts(&sets, options, tree)?;
        let mut plan = MountPlan {
            ops,
            unenforced: compiler.unenforced,
            creation_rules: CreationRules::default(),
        };
        plan.creation_rules = creation_rules(self, tree, &plan, &sets.writable, &compiler.absent)?;
        Ok(plan)
    }
}

struct Compiler<'t> {
    tree: &'t dyn Tree,
    unenforced: Vec<Unenforced>,
    absent: Absent,
    /// Files that patterns were compared with.
    visited: usize,
    /// Directories that protected names were looked for in.
    searched: usize,
}

impl Compiler<'_> {
    fn skip(&mut self, list: &'static str, rule: &dyn fmt::Display, reason: UnenforcedReason) {
        self.unenforced.push(Unenforced { list, rule: rule.to_string(), reason });
    }

    fn kind(&self, path: &Path) -> Result<Option<NodeKind>, MountError> {
        self.tree.kind(path).map_err(|source| MountError::Tree { path: path.to_owned(), source })
    }

    /// The canonical path, where something is there.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, MountError> {
        match self.tree.canonicalize(path) {
            Ok(path) => Ok(Some(path)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(MountError::Tree { path: path.to_owned(), source }),
        }
    }

    /// The paths of an allowing list. A symlink in a writable place could be an agent's, so it
    /// opens nothing.
    fn allowed(
        &mut self,
        list: &'static str,
        rules: &[PathRule],
        writable: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let mut found = BTreeSet::new();
        for rule in rules {
            for path in self.candidates(list, rule)? {
                let Some(canonical) = self.resolve(&path)? else {
                    self.skip(list, rule, UnenforcedReason::Absent);
                    continue;
                };
                let roots = writable.iter().chain(&found);
                if canonical != path
                    && roots
                        .clone()
                        .any(|root| is_inside(&path, root) && !canonical.starts_with(root))
                {
                    self.skip(list, rule, UnenforcedReason::EscapingSymlink);
                    continue;
                }
                found.insert(canonical);
            }
        }
        Ok(found)
    }

    /// The paths of a denying list that exist.
    fn existing(
        &mut self,
        list: &'static str,
        rules: &[PathRule],
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let mut found = BTreeSet::new();
        for rule in rules {
            for path in self.candidates(list, rule)? {
                match self.resolve(&path)? {
                    Some(canonical) => {
                        found.insert(canonical);
                    }
                    None if list == DENY_WRITE => {
                        self.absent.leading_nowhere.insert(path);
                    }
                    None => {
                        self.skip(list, rule, UnenforcedReason::Absent);
                        self.absent.unreadable.insert(path);
                    }
                }
            }
        }
        Ok(found)
    }

    fn hidden(
        &mut self,
        policy: &Policy,
        shown: &BTreeSet<PathBuf>,
        writable: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, MountError> {
        let mut hidden = self.existing("denyRead", &policy.deny_read)?;
        let root = Path::new("/");
        if hidden.remove(root) && !shown.contains(root) && !writable.contains(root) {
            let names = self
                .tree
                .read_dir(root)
                .map_err(|source| MountError::Tree { path: root.to_owned(), source })?;
            for path in names.into_iter().map(|(name, _)| root.join(name)) {
                let kernels_own = [Path::new("/proc"), Path::new("/dev"), Path::new("/sys")]
                    .contains(&path.as_path());
                // What a symlink leads to is hidden or shown for itself.
                if !kernels_own && self.kind(&path)?.is_some_and(|kind| kind != NodeKind::Symlink) {
                    hidden.insert(path);
                }
            }
        }
        Ok(hidden)
    }

    /// The paths that a rule stands for: its own, or those that its pattern matches now.
    fn candidates(
        &mut self,
        list: &'static str,
        rule: &PathRule,
    ) -> Result<Vec<PathBuf>, MountError> {
        let pattern = match rule {
            PathRule::Path(path) => return Ok(vec![path.clone()]),
            PathRule::Glob(pattern) => pattern,
        };
        let literal: PathBuf = pattern
            .split('/')
            .take_while(|part| !is_glob(part))
            .fold("/".into(), |base: PathBuf, part| base.join(part));
        if literal == Path::new("/") {
            return Err(MountError::PatternTooBroad { pattern: pattern.clone() });
        }
        if list != DENY_WRITE {
            self.skip(list, rule, UnenforcedReason::FutureFiles);
        }
        let mut found = Vec::new();
        let mut rest = vec![literal];
        while let Some(path) = rest.pop() {
            self.visited += 1;
            if self.visited > MAX_VISITED {
                return Err(MountError::TooManyFiles {
                    pattern: pattern.clone(),
                    max: MAX_VISITED,
                });
            }
            if glob::matches(pattern.as_bytes(), path.as_os_str().as_encoded_bytes()) {
                found.push(path);
            } else if self.kind(&path)? == Some(NodeKind::Directory) {
                match self.tree.read_dir(&path) {
                    Ok(names) => rest.extend(names.into_iter().map(|(name, _)| path.join(name))),
                    // What cannot be listed cannot be compared; it is hidden whole, and never
                    // opened.
                    Err(_) if list == "denyRead" => found.push(path),
                    Err(_) => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The protected names in a writable directory that exist, and those of every repository in it.
    /// At its top, and in a repository, they are protected also where nothing is yet.
    fn protect_root(
        &mut self,
        policy: &Policy,
        root: &Path,
        writable: &BTreeSet<PathBuf>,
        protected: &mut BTreeSet<PathBuf>,
    ) -> Result<(), MountError> {
        if self.kind(root)? != Some(NodeKind::Directory) {
            return Ok(());
        }
        let mut search = Search::new(self.tree, writable, &mut self.searched);
        let is_complete = search.find(root, policy.config().mandatory_deny_search_depth);
        let Search { repositories, names, .. } = search;
        let at_the_top =
            mandatory::FILES.iter().chain(&mandatory::DIRECTORIES).map(|name| root.join(name));
        // What the search has not come across is not there.
        let found: HashSet<&PathBuf> = names.iter().collect();
        self.absent.unwritable.extend(at_the_top.clone().filter(|name| !found.contains(name)));
        let tops: HashSet<PathBuf> = at_the_top.collect();
        for name in &names {
            if !self.protect_existing(name, protected)? && tops.contains(name) {
                self.absent.leading_nowhere.insert(name.clone());
            }
        }
        for repository in repositories {
            self.protect(&repository.join(mandatory::GIT_HOOKS), protected)?;
            if !policy.allows_git_config() {
                for name in mandatory::GIT_CONFIGS {
                    self.protect(&repository.join(name), protected)?;
                }
            }
        }
        if !is_complete {
            self.skip("allowWrite", &root.display(), UnenforcedReason::TooLarge);
        }
        Ok(())
    }

    fn protect(
        &mut self,
        path: &Path,
        protected: &mut BTreeSet<PathBuf>,
    ) -> Result<(), MountError> {
        if !self.protect_existing(path, protected)? {
            self.absent.leading_nowhere.insert(path.to_owned());
        }
        Ok(())
    }

    /// `false` where nothing is, or a symlink that leads nowhere.
    fn protect_existing(
        &mut self,
        path: &Path,
        protected: &mut BTreeSet<PathBuf>,
    ) -> Result<bool, MountError> {
        let found = if self.kind(path)?.is_some() { self.resolve(path)? } else { None };
        let exists = found.is_some();
        protected.extend(found);
        Ok(exists)
    }
}
