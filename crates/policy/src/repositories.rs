//! Search for protected names and git repositories in a writable directory. It includes ignored
//! directories, submodules, worktrees and bare repositories.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::canonical::{covers, is_same, join, without_empty_names};
use crate::git;
use crate::git_config;
use crate::mandatory;
use crate::tree::{NodeKind, Tree, is_absent};

/// Number of directories that are protected because they were not searched. It can be exceeded to
/// keep the session's own directory out of them.
const MAX_UNSEARCHED: usize = 1_024;
/// Trees of the kernel, which are endless and contain no repositories.
const KERNEL_TREES: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Maximum length of a name (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;
/// Maximum length of a pointer to a repository: a label and one path.
const MAX_POINTER_BYTES: usize = 4096 + 64;
/// Returns whether a path lies in a tree of the kernel.
pub(crate) fn is_kernel_tree(path: &Path) -> bool {
    KERNEL_TREES.iter().any(|tree| covers(Path::new(tree), path))
}

/// Directories that git requires in a git directory besides `HEAD`.
const REQUIRED: [&str; 2] = ["objects", "refs"];

/// Repositories and protected names in writable directories.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Canonical git directories that are writable.
    pub(crate) git_dirs: BTreeSet<PathBuf>,
    /// Directories of work trees that are writable.
    pub(crate) work_trees: BTreeSet<PathBuf>,
    /// Git directories, also those that are not writable, each with the directory in which git runs
    /// hooks: that of the work tree, or the git directory itself.
    pub(crate) settings: BTreeSet<(PathBuf, PathBuf)>,
    /// Directories with a part of a repository.
    pub(crate) incomplete: BTreeSet<PathBuf>,
    /// Directories that a bare repository needs. While they are there, it is found.
    pub(crate) parts: BTreeSet<PathBuf>,
    /// Directories to which a pointer leads, without anything of a repository.
    pub(crate) pointed: BTreeSet<PathBuf>,
    /// Absent entries without which git takes the target of a pointer for no repository.
    pub(crate) missing: BTreeSet<PathBuf>,
    /// Protected files and directories that may exist.
    pub(crate) names: Vec<PathBuf>,
    /// Pointers to repositories that an entry of `allowWrite` names.
    pub(crate) open_pointers: Vec<PathBuf>,
    /// Directories that cannot be listed.
    pub(crate) unreadable: Vec<PathBuf>,
    /// Directories in which some were not searched, because there are too many.
    pub(crate) unsearched: BTreeSet<PathBuf>,
}

/// A search for protected names and for git directories.
pub(crate) struct RepositorySearch<'s> {
    pub(crate) tree: &'s dyn Tree,
    /// Writable directories. A repository outside them needs no protection.
    pub(crate) writable: &'s BTreeSet<PathBuf>,
    /// The session's own directory, which is not searched.
    pub(crate) own: Option<&'s Path>,
    /// Number of directories that were searched.
    pub(crate) visited: &'s mut usize,
    pub(crate) max_directories: usize,
    pub(crate) found: Found,
}

impl RepositorySearch<'_> {
    /// Searches a directory breadth-first, completely or to `max_depth`. Records the directories
    /// that are too many to be searched. Those above the session's own directory, which could not
    /// be closed without it, are always searched.
    ///
    /// A directory that cannot be listed is recorded. The commands of a session run as the same
    /// user and could make it listable again.
    pub(crate) fn find(&mut self, root: &Path, max_depth: Option<u8>) {
        self.find_enclosing(root);
        let continued = mandatory::continued(root).map(|rest| root.join(rest));
        let exists = |path: &PathBuf| !matches!(self.tree.kind(path), Ok(None));
        self.found.names.extend(continued.filter(exists));
        let mut rest = VecDeque::from([(root.to_owned(), 0_usize)]);
        while let Some((dir, depth)) = rest.pop_front() {
            let is_kernels = KERNEL_TREES.iter().any(|tree| dir.as_os_str() == *tree);
            if is_kernels || (!is_same(&dir, root) && self.is_own(&dir)) {
                continue;
            }
            if !self.is_above_own(&dir) && !self.visit() {
                let left = rest.into_iter().map(|(dir, _)| dir).chain([dir]);
                let left = left.filter(|dir| !is_kernel_tree(dir) && self.own != Some(dir));
                self.found.unsearched.extend(few_above(left.collect(), self.own));
                return;
            }
            let entries = self.entries(&dir);
            // A command can make any directory look like a repository, so it is searched too.
            self.add_bare(&dir, &entries);
            for (name, kind) in entries {
                if name == git::GIT {
                    self.found.work_trees.insert(dir.clone());
                    self.add_repository(&join(&dir, &name), kind, &dir);
                    continue;
                }
                self.add_protected(&dir, &name);
                let is_within_depth = max_depth.is_none_or(|max| depth < max.into());
                if kind != NodeKind::Directory || name == mandatory::UNSEARCHED || !is_within_depth
                {
                    continue;
                }
                let path = join(&dir, &name);
                match self.is_above_own(&path) {
                    true => rest.push_front((path, depth + 1)),
                    false => rest.push_back((path, depth + 1)),
                }
            }
        }
    }

    fn is_above_own(&self, dir: &Path) -> bool {
        self.own.is_some_and(|own| !is_same(own, dir) && covers(dir, own))
    }

    fn is_own(&self, dir: &Path) -> bool {
        self.own.is_some_and(|own| is_same(own, dir))
    }

    /// Returns the entries of a directory, or none if they are unknown.
    fn entries(&mut self, dir: &Path) -> Vec<(OsString, NodeKind)> {
        match self.tree.read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                if !is_absent(&error) {
                    self.found.unreadable.push(dir.to_owned());
                }
                Vec::new()
            }
        }
    }

    /// Counts a directory. Returns `false` once the limit is exceeded.
    fn visit(&mut self) -> bool {
        *self.visited += 1;
        *self.visited <= self.max_directories
    }

    /// Finds the repository whose work tree contains `root`. Its git directory may be read-only,
    /// but its settings can name files in `root`.
    fn find_enclosing(&mut self, root: &Path) {
        for dir in root.ancestors().skip(1) {
            let path = dir.join(git::GIT);
            // A git directory is no work tree.
            if dir.ends_with(git::GIT) && path != root {
                continue;
            }
            if let Ok(Some(kind)) = self.tree.kind(&path) {
                if !root.starts_with(&path) {
                    self.found.work_trees.insert(root.to_owned());
                }
                self.add_repository(&path, kind, dir);
                return;
            }
        }
    }

    /// Records the protected paths that begin with `name` in `dir`.
    fn add_protected(&mut self, dir: &Path, name: &OsStr) {
        // Every protected name begins with a dot, and few others do.
        if name.as_encoded_bytes().first() != Some(&b'.') {
            return;
        }
        let matching = mandatory::names().filter(|path| Path::new(path).starts_with(name));
        self.found.names.extend(matching.map(|path| dir.join(path)));
    }

    /// Adds the repository of a `.git` entry: a directory, or a file that points to one like in
    /// submodules and worktrees.
    fn add_repository(&mut self, git: &Path, kind: NodeKind, work_tree: &Path) {
        if kind != NodeKind::Directory {
            // A rule can open this very file.
            let is_open = self.writable.contains(git);
            let found = &mut self.found;
            let found = if is_open { &mut found.open_pointers } else { &mut found.names };
            found.push(git.to_owned());
        }
        let Ok(target) = self.tree.canonicalize(git) else {
            if let Ok(target) = self.tree.read_link(git) {
                self.add_missing(&work_tree.join(target));
            }
            return;
        };
        let target = match self.tree.kind(&target) {
            Ok(Some(NodeKind::File)) => self.read_pointer(&target, "gitdir:"),
            // A directory in the place of a work tree's own is protected before it is complete.
            Ok(Some(NodeKind::Directory)) if kind == NodeKind::Directory => {
                return self.add(&target, Some(work_tree));
            }
            Ok(Some(NodeKind::Directory)) => Some(target),
            _ => None,
        };
        let Some(target) = target else { return };
        // A command could have moved the rest away, and the user would bring it back later.
        let is_complete = self.has(&target, &[git::HEAD]);
        let Ok(target) = self.tree.canonicalize(&target) else { return };
        let entries = self.tree.read_dir(&target).unwrap_or_default();
        if is_complete || has_parts(&entries) {
            self.add(&target, Some(work_tree));
        } else if self.is_writable(&target) {
            self.found.pointed.insert(target);
        }
    }

    /// Adds a directory that has the entries of a git directory, or some of them.
    fn add_bare(&mut self, dir: &Path, entries: &[(OsString, NodeKind)]) {
        let has = |name: &str| entries.iter().any(|(entry, _)| entry == name);
        let is_directory = |name: &&str| {
            entries.iter().any(|(entry, kind)| entry == name && *kind == NodeKind::Directory)
        };
        let has_required = REQUIRED.iter().all(|name| has(name));
        let is_complete = has(git::HEAD) && (has_required || has(git::COMMON_DIR));
        if !is_complete && (has(git::HEAD) || has_required) && !self.is_reflog(dir) {
            // A command could have moved the rest away, and would bring it back later.
            self.found.incomplete.insert(dir.to_owned());
        }
        if is_complete || REQUIRED.iter().all(is_directory) {
            self.add(dir, None);
            let parts = REQUIRED.iter().filter(|name| is_directory(name));
            self.found.parts.extend(parts.map(|name| dir.join(name)));
        }
    }

    /// Returns whether a directory has the logs of a repository's refs, one of which is `HEAD`.
    fn is_reflog(&self, dir: &Path) -> bool {
        dir.ends_with(git::LOGS)
            && dir.parent().is_some_and(|above| self.found.git_dirs.contains(above))
    }

    /// Reads the path that a file contains after `label`, relative to the directory of the file.
    fn read_pointer(&self, file: &Path, label: &str) -> Option<PathBuf> {
        let content = self.tree.read_start(file, MAX_POINTER_BYTES).ok()?;
        let line = content.split(|byte| matches!(byte, b'\n' | b'\r')).next()?;
        let target = line.strip_prefix(label.as_bytes())?.trim_ascii();
        Some(file.parent()?.join(OsStr::from_bytes(target)))
    }

    /// Returns whether a directory that a pointer leads to has these entries, without which git
    /// takes it for no repository. Otherwise records the absent ones.
    fn has(&mut self, dir: &Path, names: &[&str]) -> bool {
        let Ok(dir) = self.tree.canonicalize(dir) else {
            self.add_missing(dir);
            return false;
        };
        let paths = names.iter().map(|name| dir.join(name));
        let missing: Vec<_> =
            paths.filter(|path| matches!(self.tree.kind(path), Ok(None))).collect();
        let has_all = missing.is_empty();
        self.found.missing.extend(missing);
        has_all
    }

    /// Records the absent target of a pointer. A command could create it.
    fn add_missing(&mut self, target: &Path) {
        let mut above = target.ancestors().skip(1);
        let found = above.find_map(|above| Some((above, self.tree.canonicalize(above).ok()?)));
        let missing = found.and_then(|(above, canonical)| {
            let rest = target.strip_prefix(above).ok()?;
            let first = canonical.join(rest.iter().next()?);
            // A cycle of symlinks is there, and a name may be too long to exist.
            let can_exist = rest.iter().all(|name| name.len() <= MAX_NAME_BYTES)
                && matches!(self.tree.kind(&first), Ok(None));
            can_exist.then(|| without_empty_names(&canonical.join(rest)))
        });
        self.found.missing.extend(missing);
    }

    /// Adds a git directory, the one that it shares hooks and settings with, and those of its
    /// submodules and worktrees. `work_tree` is the directory in which git runs its hooks.
    fn add(&mut self, git: &Path, work_tree: Option<&Path>) {
        let Ok(git) = self.tree.canonicalize(git) else { return };
        let work_tree = work_tree.unwrap_or(&git).to_owned();
        if !self.found.settings.insert((git.clone(), work_tree.clone())) {
            return;
        }
        let common = self.read_pointer(&git.join(git::COMMON_DIR), "");
        if let Some(common) = common.filter(|common| self.has(common, &REQUIRED)) {
            self.add(&common, Some(&work_tree));
        }
        for tree in self.configured_work_trees(&git) {
            if self.is_writable(&tree) {
                self.found.work_trees.insert(tree.clone());
            }
            self.found.settings.insert((git.clone(), tree));
        }
        if self.is_writable(&git) && self.found.git_dirs.insert(git.clone()) {
            if self.tree.kind(&git.join(git::HEAD)).is_err() {
                self.found.unreadable.push(git.clone());
            }
            self.look_through(&git);
            for container in git::CONTAINERS.map(|name| git.join(name)) {
                if matches!(self.tree.kind(&container), Ok(Some(NodeKind::Directory))) {
                    self.add_contained(container);
                }
            }
        }
    }

    fn is_writable(&self, path: &Path) -> bool {
        self.writable.iter().any(|root| covers(root, path))
    }

    /// Returns the work trees that the configuration of a git directory names.
    fn configured_work_trees(&self, git: &Path) -> Vec<PathBuf> {
        let own = git::PROTECTED.iter().filter(|name| name.role == git::Role::Config);
        let files = own.filter_map(|name| {
            self.tree.read_start(&git.join(name.path), git_config::MAX_BYTES).ok()
        });
        let variables = files.flat_map(|file| git_config::read(&file));
        let named = variables.filter(|it| it.section == b"core" && it.name == b"worktree");
        let trees = named.map(|it| git.join(OsStr::from_bytes(&it.value)));
        trees.filter_map(|tree| self.tree.canonicalize(&tree).ok()).collect()
    }

    /// Looks through a git directory, so that it has no more directories than can be searched after
    /// a command. Those that git itself uses come first.
    fn look_through(&mut self, git: &Path) {
        let mut rest = VecDeque::from([git.to_owned()]);
        let objects = git.join("objects");
        while let Some(dir) = rest.pop_front() {
            if !self.visit() {
                let left = rest.into_iter().chain([dir]).collect();
                self.found.unsearched.extend(few_above(left, self.own));
                return;
            }
            let (is_top, are_objects) = (is_same(&dir, git), is_same(&dir, &objects));
            let is_content = |name: &OsStr| are_objects && name.len() == 2;
            for (name, kind) in self.entries(&dir) {
                let is_container = is_top && git::CONTAINERS.iter().any(|it| name == *it);
                if kind != NodeKind::Directory || is_container || is_content(&name) {
                    continue;
                }
                match is_top && git::DATA.iter().any(|known| name == *known) {
                    true => rest.push_front(join(&dir, &name)),
                    false => rest.push_back(join(&dir, &name)),
                }
            }
        }
    }

    /// Adds the git directories below a directory: all those of worktrees, and those of submodules,
    /// whose names may contain slashes. A command could have moved their `HEAD` away.
    fn add_contained(&mut self, container: PathBuf) {
        let are_worktrees = container.ends_with(git::WORKTREES);
        let mut rest = vec![container.clone()];
        while let Some(dir) = rest.pop() {
            if !self.visit() {
                self.found.unsearched.insert(container);
                return;
            }
            let entries = self.entries(&dir);
            let is_inside = dir != container;
            let has_head = entries.iter().any(|(name, _)| name == git::HEAD);
            if is_inside && (has_head || are_worktrees || has_parts(&entries)) {
                self.add(&dir, None);
            }
            if is_inside && (has_head || are_worktrees) {
                continue;
            }
            let inner = entries.into_iter().filter(|(_, kind)| *kind == NodeKind::Directory);
            rest.extend(inner.map(|(name, _)| dir.join(name)));
        }
    }
}

/// Returns whether a directory has entries that show a repository, although its `HEAD` is gone. A
/// command could not move its configuration away.
fn has_parts(entries: &[(OsString, NodeKind)]) -> bool {
    entries.iter().any(|(name, kind)| match kind {
        NodeKind::Directory => REQUIRED.iter().any(|part| name == part),
        _ => name == git::CONFIG || name == git::COMMON_DIR,
    })
}

/// Returns a few directories that contain all of `dirs`, none of which is above the session's own
/// directory, and not that directory.
fn few_above(mut dirs: BTreeSet<PathBuf>, own: Option<&Path>) -> BTreeSet<PathBuf> {
    let depth = |dir: &Path| dir.iter().count();
    let is_above_own = |dir: &Path| own.is_some_and(|own| own.starts_with(dir));
    let above = |dir: &Path| dir.parent().filter(|above| !is_above_own(above)).map(Path::to_owned);
    while dirs.len() > MAX_UNSEARCHED {
        let deepest = dirs.iter().filter(|dir| above(dir).is_some()).map(|dir| depth(dir)).max();
        let Some(deepest) = deepest else { break };
        let shortened = |dir: PathBuf| match above(&dir) {
            Some(above) if depth(&dir) == deepest => above,
            _ => dir,
        };
        dirs = dirs.into_iter().map(shortened).collect();
    }
    dirs
}
