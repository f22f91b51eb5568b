//! Protection of the names that other programs execute, in the writable directories of the user.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::canonical::covers;
use crate::compile::MountCompiler;
use crate::creation::{Zone, ZoneKind};
use crate::git::{self, Role};
use crate::git_leads::{Lead, LeadSearch};
use crate::links::{Route, is_above_any};
use crate::mandatory;
use crate::on_disk::Decision;
use crate::plan::{LaterFiles, MountError, UnenforcedReason};
use crate::policy::Policy;
use crate::reason::Rule;
use crate::repositories::{Found, RepositorySearch, is_kernel_tree};
use crate::tree::{NodeKind, inspectable_above};

/// Reason for which a path is protected.
#[derive(Clone, Copy)]
enum Reason<'r> {
    /// Its name, below this writable directory.
    Name(&'r Path),
    /// It belongs to a git directory.
    Repository,
    /// The configuration of a repository names it.
    NamedByGit,
}

/// Canonical paths that stay as they are.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    /// Read-only files and directories.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Symlinks that cannot be removed. Their targets are protected on their own.
    pub(crate) links: BTreeSet<PathBuf>,
    /// Writable directories and pointers to repositories that cannot be moved.
    pub(crate) anchored: BTreeSet<PathBuf>,
    /// Parts of the tree with their own rules for new names.
    pub(crate) zones: Vec<Zone>,
    /// Writable directories. An agent could make any name in them a link to them, so a name
    /// protects none of them as a whole.
    pub(crate) kept: BTreeSet<PathBuf>,
    /// Writable git directories with their work trees.
    pub(crate) repositories: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl MountCompiler<'_> {
    /// Protects the names in the writable directories, except the session's own directory.
    pub(crate) fn protect_names(
        &mut self,
        policy: &Policy,
        writable: &BTreeSet<PathBuf>,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        let own = match policy.own_directory() {
            Some(dir) => self.resolve(dir)?,
            None => None,
        };
        let mut leads = LeadSearch::new(self.tree, policy.home(), &self.git_configs);
        if writable.iter().any(|root| Some(root) != own.as_ref()) {
            leads.follow_user();
        }
        // Directories that stay writable although a configuration names them.
        let mut kept = writable.clone();
        for root in writable.iter().filter(|root| Some(*root) != own.as_ref()) {
            if self.kind(root)? == Some(NodeKind::Directory) {
                self.protected_roots.push(root.clone());
                let found = self.search(policy, root, own.as_deref(), writable, protected)?;
                let git_dirs: HashSet<&Path> =
                    found.settings.iter().map(|(git_dir, _)| git_dir.as_path()).collect();
                for (git_dir, dir) in &found.settings {
                    leads.follow(git_dir, dir);
                    if found.git_dirs.contains(git_dir) {
                        let work_trees = protected.repositories.entry(git_dir.clone()).or_default();
                        // The work tree of some git directories is unknown.
                        work_trees.extend((!git_dirs.contains(&**dir)).then(|| dir.clone()));
                    }
                }
                kept.extend(found.work_trees);
                kept.extend(found.git_dirs);
            }
        }
        if !protected.zones.is_empty() {
            let free = own.into_iter().map(|dir| Zone { dir, kind: ZoneKind::Free });
            protected.zones.extend(free);
        }
        // The files that were not found could be in any of the directories.
        let roots: BTreeSet<PathBuf> = self.protected_roots.iter().cloned().collect();
        for dir in &leads.unfollowed {
            self.close_unknown(&dir.display(), &roots, protected);
        }
        for (path, lead) in &leads.leads {
            // The session has its own trees of the kernel.
            let is_writable = |path: &Path| {
                !is_kernel_tree(path) && writable.iter().any(|root| covers(root, path))
            };
            // An entry for the very file opens it, as for the protected names.
            let is_opened = |path: &Path| {
                let mut roots = writable.iter().filter(|root| covers(root, path));
                roots.next().is_some_and(|outermost| outermost == path)
            };
            let target = self.resolve(path).ok().flatten();
            if *lead == Lead::File && (is_opened(path) || target.as_deref().is_some_and(is_opened))
            {
                continue;
            }
            if is_writable(path) || target.as_deref().is_some_and(is_writable) {
                let target = target.as_deref().unwrap_or(path);
                self.protect_lead(path, target, *lead, &kept, protected)?;
            }
        }
        Ok(())
    }

    /// Protects the names in one directory and in every repository in it. At its top level and in a
    /// repository, names that do not exist are protected too.
    fn search(
        &mut self,
        policy: &Policy,
        root: &Path,
        own: Option<&Path>,
        writable: &BTreeSet<PathBuf>,
        protected: &mut Protected,
    ) -> Result<Found, MountError> {
        let (tree, visited) = (self.tree, &mut self.searched);
        let (max_directories, found) = (self.max_directories, Found::default());
        let mut search = RepositorySearch { tree, writable, own, visited, max_directories, found };
        search.find(root, policy.config().mandatory_deny_search_depth);
        let found = search.found;
        let names = mandatory::names().chain(mandatory::continued(root));
        let mut top_level: Vec<PathBuf> = names.map(|name| root.join(name)).collect();
        // A name that the search has not found does not exist.
        let is_found =
            |name: &PathBuf| found.names.iter().any(|it| it.as_os_str() == name.as_os_str());
        let absent = top_level.extract_if(.., |name| !is_found(name));
        self.absent.read_only.extend(absent);
        for name in &found.names {
            if !self.protect_existing(name, Reason::Name(root), protected)?
                && top_level.contains(name)
            {
                self.absent.read_only_or_link.push(name.clone());
            }
        }
        for git_dir in &found.git_dirs {
            self.protect_repository(policy, git_dir, protected)?;
        }
        for dir in &found.incomplete {
            protected.anchored.insert(dir.clone());
            for name in [git::HEAD, "objects", "refs", git::COMMON_DIR] {
                if self.tree.kind(&dir.join(name)).is_ok_and(|kind| kind.is_none()) {
                    self.absent.read_only.push(dir.join(name));
                }
            }
        }
        protected.anchored.extend(found.parts.iter().cloned());
        // A pointer of an agent could lead to any directory; those around others stay as they are.
        let is_kept =
            |dir: &Path| is_above_any(dir, writable) || is_above_any(dir, &found.work_trees);
        for dir in found.pointed.iter().filter(|dir| !is_kept(dir)) {
            for name in git::PROTECTED {
                self.protect(&dir.join(name.path), Reason::Repository, protected)?;
            }
        }
        protected.anchored.extend(found.open_pointers.iter().cloned());
        self.close_repositories(root, &found, protected)?;
        // A directory that lacks these names is no repository, although a pointer leads to it.
        for name in &found.missing {
            self.absent.read_only.push(name.clone());
        }
        // The entries of a directory that cannot be listed are unknown, and a command of the same
        // user could make it listable.
        let is_writable = |dir: &&PathBuf| writable.iter().any(|root| dir.starts_with(root));
        self.unsearched.extend(found.unreadable.iter().filter(is_writable).cloned());
        protected.paths.extend(found.unreadable.iter().filter(is_writable).cloned());
        self.close_unknown(&root.display(), &found.unsearched, protected);
        Ok(found)
    }

    /// Makes the writable directories read-only in which repositories or their files are too many
    /// to be found. Landlock cannot; it reports them only.
    fn close_unknown(
        &mut self,
        rule: &dyn fmt::Display,
        dirs: &BTreeSet<PathBuf>,
        protected: &mut Protected,
    ) {
        if dirs.is_empty() {
            return;
        }
        if self.later == LaterFiles::Denied {
            self.report_unenforced("allowWrite", rule, UnenforcedReason::TooLarge);
        } else {
            self.report_unenforced("allowWrite", rule, UnenforcedReason::Closed);
            protected.paths.extend(dirs.iter().cloned());
        }
    }

    fn protect_repository(
        &mut self,
        policy: &Policy,
        git_dir: &Path,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        protected.anchored.insert(git_dir.to_owned());
        protected.zones.push(Zone { dir: git_dir.to_owned(), kind: ZoneKind::GitDirectory });
        for name in git::PROTECTED {
            if name.role != Role::Config || !policy.allows_git_config() {
                self.protect(&git_dir.join(name.path), Reason::Repository, protected)?;
            }
        }
        for container in git::CONTAINERS {
            let container = git_dir.join(container);
            match self.tree.kind(&container) {
                Ok(Some(NodeKind::Directory)) => {
                    protected.anchored.insert(container.clone());
                    protected.zones.push(Zone { dir: container, kind: ZoneKind::GitContainer });
                }
                _ => self.protect(&container, Reason::Repository, protected)?,
            }
        }
        Ok(())
    }

    /// Denies new repositories where git would find them instead of an existing one: in its work
    /// tree, and in the directories above.
    fn close_repositories(
        &mut self,
        root: &Path,
        found: &Found,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        let no_new = |dir: &PathBuf| Zone { dir: dir.clone(), kind: ZoneKind::NoNewRepositories };
        protected.zones.extend(found.work_trees.iter().map(no_new));
        let mut above = BTreeSet::new();
        for dir in found.work_trees.iter().chain(&found.git_dirs).chain(&found.incomplete) {
            above.extend(dir.ancestors().skip(1).take_while(|dir| dir.starts_with(root)));
        }
        for dir in above.into_iter().filter(|dir| !found.git_dirs.contains(*dir)) {
            for name in git::REPOSITORY_NAMES {
                let path = dir.join(name);
                if self.tree.kind(&path).is_ok_and(|kind| kind.is_none()) {
                    self.absent.read_only.push(path);
                }
            }
        }
        Ok(())
    }

    /// Protects a path, also if it does not exist.
    fn protect(
        &mut self,
        path: &Path,
        reason: Reason<'_>,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        if !self.protect_existing(path, reason, protected)? {
            self.record_protection(path, path, reason);
            self.absent.read_only_or_link.push(path.to_owned());
        }
        Ok(())
    }

    /// Protects what a configuration names. A directory in `kept` stays writable, except for the
    /// names in it that git reads.
    fn protect_lead(
        &mut self,
        path: &Path,
        target: &Path,
        lead: Lead,
        kept: &BTreeSet<PathBuf>,
        protected: &mut Protected,
    ) -> Result<(), MountError> {
        let names: Vec<&str> = match lead {
            // Git reads a file only. The directory in its place cannot be removed.
            Lead::File if matches!(self.kind(target), Ok(Some(NodeKind::Directory))) => {
                protected.links.extend(Route::to(self.tree, path).links);
                protected.anchored.insert(target.to_owned());
                return Ok(());
            }
            Lead::File => Vec::new(),
            Lead::Hooks => git::HOOKS.to_vec(),
            Lead::Template => git::PROTECTED.iter().map(|name| name.path).collect(),
        };
        if names.is_empty() || !is_above_any(target, kept) {
            return self.protect(path, Reason::NamedByGit, protected);
        }
        protected.links.extend(Route::to(self.tree, path).links);
        names
            .into_iter()
            .try_for_each(|name| self.protect(&target.join(name), Reason::NamedByGit, protected))
    }

    /// Protects a path if it exists, or a directory above if that is unknown. Protects the symlinks
    /// that lead to it as well. Returns `false` for an absent path and a dangling symlink.
    fn protect_existing(
        &mut self,
        path: &Path,
        reason: Reason<'_>,
        protected: &mut Protected,
    ) -> Result<bool, MountError> {
        let route = Route::to(self.tree, path);
        let is_chosen = route.may_be_chosen(&protected.kept);
        let inspected = match self.kind(path) {
            Ok(Some(_)) => self.resolve(path),
            other => other.map(|_| None),
        };
        let is_kept = |path: &Path| protected.kept.iter().any(|root| path.starts_with(root));
        let found = match inspected {
            Ok(found) => found,
            Err(_) if is_chosen && !is_kept(&route.end) => {
                protected.links.extend(route.links);
                let problem = UnenforcedReason::Unreachable;
                self.report_unenforced("allowWrite", &path.display(), problem);
                return Ok(true);
            }
            Err(error) => Some(inspectable_above(self.tree, &route.end).ok_or(error)?),
        };
        protected.links.extend(route.links);
        let Some(found) = found else { return Ok(false) };
        if is_chosen && (is_above_any(&found, &protected.kept) || is_kernel_tree(&found)) {
            let problem = UnenforcedReason::NeededTarget;
            self.report_unenforced("allowWrite", &path.display(), problem);
        } else {
            self.record_protection(&found, path, reason);
            protected.paths.insert(found);
        }
        Ok(true)
    }

    /// Records that the protection of `path` reaches `target`, unless the names show that.
    fn record_protection(&mut self, target: &Path, path: &Path, reason: Reason<'_>) {
        let is_shown = match reason {
            Reason::Name(_) => true,
            Reason::Repository => path.iter().any(|name| name == git::GIT),
            Reason::NamedByGit => false,
        };
        if target == path && is_shown {
            return;
        }
        let rule = match reason {
            Reason::Name(root) => Rule::Mandatory { name: mandatory_name(root, path) },
            Reason::Repository => Rule::Mandatory { name: path.display().to_string() },
            Reason::NamedByGit => Rule::NamedByGit,
        };
        self.record_origin(target, Decision::DeniesWriting, rule, path);
    }
}

/// Returns the protected name at `path`, a path below `root`.
fn mandatory_name(root: &Path, path: &Path) -> String {
    let known = mandatory::names().find(|name| path.ends_with(name));
    known.map_or_else(
        || path.strip_prefix(root).unwrap_or(path).display().to_string(),
        str::to_owned,
    )
}
