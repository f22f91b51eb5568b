//! Compilation of a policy to mounts, for an engine that gives each session its own view of the
//! file system.
//!
//! An engine performs the operations in order, and a later one covers an earlier one. So:
//!
//! 1. [`MountOp::Root`] comes first: the host's tree, read-only.
//! 2. All others are sorted by depth. The more specific one comes later and wins.
//! 3. At one path, a private directory comes before a hidden one, and a bind comes last. A path
//!    that is both denied and allowed is therefore readable. It is writable only if `allowWrite`
//!    contains this very path.
//! 4. Operations without effect are omitted: hiding a hidden path, showing a visible one.
//! 5. A writable path is bound read-only if `denyWrite` or a protected name covers it from above.
//!    Inside a writable path, each read-only path is bound at its own depth. Denying therefore wins
//!    at any nesting.
//! 6. Between a writable path and a hidden or protected path inside it, each directory is bound
//!    onto itself. A mount point cannot be renamed or removed (`EBUSY`), so a command cannot move
//!    the parent of a protected path.
//! 7. A path that does not exist gets no mount: see `creation`.
//! 8. A sealed path is hidden, and no rule opens a path at or inside it, except in its open
//!    directory. A frozen path is protected like one of `denyWrite`. Both hold without other rules
//!    too.
//! 9. Every path is canonical at the time of compilation, except that of a pinned symlink. An
//!    engine fails if one of them has become a symlink.
//! 10. A writable root does not include `/sys`, in which root changes settings of the machine.
//! 11. A symlink that leads to a protected path is bound onto itself, so that it stays. A git
//!     directory is bound onto itself too.
//! 12. A symlink in a writable directory can be the agent's. Its target is hidden or protected
//!     too, except one that the session needs: see `links`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::absent::AbsentPaths;
use crate::creation::CreationRules;
use crate::git;
use crate::on_disk::{Decision, Origin};
use crate::order::{PathSets, order_mounts};
use crate::plan::{LaterFiles, MountError, MountOptions, MountPlan, Unenforced, UnenforcedReason};
use crate::policy::Policy;
use crate::protect::Protected;
use crate::reason::Rule;
use crate::rules::PathRule;
use crate::sealed::Sealed;
use crate::tree::{NodeKind, Tree, is_absent};

/// Settings of the kernel, which are writable only if an entry names them.
pub(crate) const KERNEL_SETTINGS: &str = "/sys";

impl Policy {
    /// Compiles the policy to mounts for the files that exist now.
    ///
    /// Compiling creates nothing, on the host or in the session. Denied paths that do not exist are
    /// in [`MountPlan::creation_rules`].
    ///
    /// # Errors
    /// Returns [`MountError`] if the tree cannot be inspected or a pattern matches too much.
    pub fn mounts(&self, tree: &dyn Tree, options: &MountOptions) -> Result<MountPlan, MountError> {
        let mut compiler = MountCompiler {
            tree,
            unenforced: Vec::new(),
            absent: AbsentPaths::default(),
            visited: 0,
            searched: 0,
            unsearched: BTreeSet::new(),
            later: options.later,
            own: options.own.clone(),
            git_configs: options.git_configs.clone(),
            max_directories: options.max_directories,
            protected_roots: Vec::new(),
            origins: Vec::new(),
            sealed: Vec::new(),
        };
        compiler.sealed = compiler.sealed_paths(&self.sealed)?;
        let sealed: BTreeSet<PathBuf> =
            compiler.sealed.iter().map(|sealed| sealed.path.clone()).collect();
        if self.has_no_file_rules() {
            return compiler.plan_without_rules(self, sealed);
        }
        let mut writable =
            compiler.allowed_paths(self, "allowWrite", &self.allow_write, &BTreeSet::new())?;
        let protected_matches = compiler.take_protected(self, &mut writable)?;
        let mut shown = compiler.allowed_paths(self, "allowRead", &self.allow_read, &writable)?;
        shown.extend(protected_matches);
        let mut hidden = compiler.hidden_paths(self, &shown, &writable)?;
        hidden.extend(sealed.iter().cloned());
        let mut protected = compiler.read_only_paths(self, &writable)?;
        compiler.freeze_paths(self, &writable, &mut protected)?;
        compiler.protect_names(self, &writable, &mut protected)?;
        let zones = std::mem::take(&mut protected.zones);
        let repositories = std::mem::take(&mut protected.repositories);
        let kernel_settings = PathBuf::from(KERNEL_SETTINGS);
        let is_separate = !writable.contains(&kernel_settings)
            && compiler.kind(&kernel_settings)? == Some(NodeKind::Directory);
        let kernel_settings = is_separate.then_some(kernel_settings);
        let sets = PathSets { hidden, shown, writable, protected, kernel_settings };
        let ops = order_mounts(&sets, options, tree)?;
        let mut plan = MountPlan {
            ops,
            unenforced: std::mem::take(&mut compiler.unenforced),
            creation_rules: CreationRules::default(),
            sealed,
            unsearched: std::mem::take(&mut compiler.unsearched),
            origins: std::mem::take(&mut compiler.origins),
            repositories,
        };
        let mut rules = compiler.creation_rules(self, &plan, &sets.writable, options.later)?;
        rules.add_zones(zones, &options.private);
        plan.creation_rules = rules;
        Ok(plan)
    }
}

/// State of one compilation.
pub(crate) struct MountCompiler<'t> {
    pub(crate) tree: &'t dyn Tree,
    unenforced: Vec<Unenforced>,
    pub(crate) absent: AbsentPaths,
    /// Number of files that patterns were compared with.
    pub(crate) visited: usize,
    /// Number of directories that were searched for protected names.
    pub(crate) searched: usize,
    /// Directories that cannot be listed.
    pub(crate) unsearched: BTreeSet<PathBuf>,
    pub(crate) later: LaterFiles,
    /// Directories in which no rule has an effect.
    own: Vec<PathBuf>,
    pub(crate) git_configs: Vec<PathBuf>,
    pub(crate) max_directories: usize,
    /// Writable directories of the user, whose names are protected.
    pub(crate) protected_roots: Vec<PathBuf>,
    /// Rules that reach a path whose name does not show that.
    pub(crate) origins: Vec<Origin>,
    /// The sealed paths that exist, in canonical form.
    sealed: Vec<Sealed>,
}

impl MountCompiler<'_> {
    /// Returns the plan of a policy that lifts every rule for files. Only sealed paths are hidden,
    /// and only frozen ones are protected.
    fn plan_without_rules(
        &mut self,
        policy: &Policy,
        sealed: BTreeSet<PathBuf>,
    ) -> Result<MountPlan, MountError> {
        let mut writable = BTreeSet::from([PathBuf::from("/")]);
        let open: Vec<PathBuf> = self.sealed.iter().filter_map(|it| it.open.clone()).collect();
        for dir in open {
            writable.extend(self.resolve(&dir)?);
        }
        let mut protected = Protected { kept: writable.clone(), ..Protected::default() };
        self.freeze_paths(policy, &writable, &mut protected)?;
        let (hidden, shown) = (sealed.clone(), BTreeSet::new());
        let sets = PathSets { hidden, shown, writable, protected, kernel_settings: None };
        let ops = order_mounts(&sets, &MountOptions::default(), self.tree)?;
        let unenforced = std::mem::take(&mut self.unenforced);
        let mut plan = MountPlan { ops, sealed, unenforced, ..MountPlan::default() };
        plan.creation_rules = self.creation_rules(policy, &plan, &sets.writable, self.later)?;
        plan.origins = std::mem::take(&mut self.origins);
        Ok(plan)
    }

    /// Returns whether no rule opens a canonical path.
    pub(crate) fn is_sealed(&self, path: &Path) -> bool {
        self.sealed.iter().any(|sealed| sealed.covers(path))
    }

    pub(crate) fn report_unenforced(
        &mut self,
        list: &'static str,
        rule: &dyn fmt::Display,
        reason: UnenforcedReason,
    ) {
        self.unenforced.push(Unenforced { list, rule: rule.to_string(), reason });
    }

    /// Returns whether the engine replaces a path. Reports the rule that names it, once.
    pub(crate) fn is_replaced(&mut self, list: &'static str, rule: &PathRule, path: &Path) -> bool {
        let is_replaced = self.own.iter().any(|own| path.starts_with(own));
        let (text, reason) = (rule.to_string(), UnenforcedReason::Replaced);
        let mut known = self.unenforced.iter();
        if is_replaced
            && !known.any(|gap| (gap.list, &gap.rule, gap.reason) == (list, &text, reason))
        {
            self.report_unenforced(list, rule, reason);
        }
        is_replaced
    }

    pub(crate) fn kind(&self, path: &Path) -> Result<Option<NodeKind>, MountError> {
        self.tree.kind(path).map_err(|source| MountError::Tree { path: path.to_owned(), source })
    }

    /// Returns the canonical path, or `None` if no file exists.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, MountError> {
        match self.tree.canonicalize(path) {
            Ok(path) => Ok(Some(path)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(MountError::Tree { path: path.to_owned(), source }),
        }
    }

    /// Records that a rule for `path` reaches another path.
    pub(crate) fn record_origin(
        &mut self,
        target: &Path,
        decision: Decision,
        rule: Rule,
        path: &Path,
    ) {
        let rule = if target == path {
            rule
        } else {
            Rule::Linked { rule: Box::new(rule), from: path.to_owned() }
        };
        self.origins.push(Origin { target: target.to_owned(), decision, rule });
    }

    /// Records that an entry of a list reaches another path through a symlink.
    pub(crate) fn record_link(
        &mut self,
        target: &Path,
        list: &'static str,
        entry: &PathRule,
        path: &Path,
    ) {
        if target != path {
            let rule = Rule::Listed { list, entry: entry.to_string() };
            self.record_origin(target, Decision::of_list(list), rule, path);
        }
    }

    /// Removes and returns the protected names that a pattern of `allowWrite` matches. A git
    /// directory stays writable; the names in it are protected.
    fn take_protected(
        &self,
        policy: &Policy,
        writable: &mut BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, MountError> {
        let mut taken = Vec::new();
        for path in writable.iter() {
            match policy.protected_match(path) {
                None => {}
                Some(name) if name == git::GIT && self.kind(path)? == Some(NodeKind::Directory) => {
                }
                Some(_) => taken.push(path.clone()),
            }
        }
        writable.retain(|path| !taken.contains(path));
        Ok(taken)
    }
}
