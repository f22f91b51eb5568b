//! Search for protected names and git repositories in a writable directory. It includes ignored
//! directories, submodules and worktrees.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::mandatory;
use crate::tree::{NodeKind, Tree, is_absent};

/// Maximum number of directories that are searched for one policy; they take about half a second.
const MAX_DIRECTORIES: usize = 20_000;
/// Trees of the kernel, which are endless and contain no repositories.
const KERNEL_TREES: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Maximum length of a pointer to a repository: a label and one path.
const MAX_POINTER_BYTES: usize = 4096 + 64;

/// A search for protected names and for git directories, which contain `hooks` and `config`.
pub(crate) struct RepositorySearch<'s> {
    tree: &'s dyn Tree,
    /// Writable directories. A repository outside them needs no protection.
    writable: &'s BTreeSet<PathBuf>,
    visited: &'s mut usize,
    /// Canonical git directories.
    pub(crate) repositories: BTreeSet<PathBuf>,
    /// Protected files and directories that may exist.
    pub(crate) names: Vec<PathBuf>,
    /// Directories whose entries are unknown.
    pub(crate) unreadable: Vec<PathBuf>,
}

impl<'s> RepositorySearch<'s> {
    pub(crate) fn new(
        tree: &'s dyn Tree,
        writable: &'s BTreeSet<PathBuf>,
        visited: &'s mut usize,
    ) -> Self {
        Self {
            tree,
            writable,
            visited,
            repositories: BTreeSet::new(),
            names: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Searches a directory breadth-first, completely or to `max_depth`. Returns `false` if it
    /// contains too many directories to search all.
    ///
    /// A directory that cannot be listed is recorded. The commands of a session run as the same
    /// user and could make it listable again.
    pub(crate) fn find(&mut self, root: &Path, max_depth: Option<u8>) -> bool {
        let mut rest = VecDeque::from([(root.to_owned(), 0_usize)]);
        while let Some((dir, depth)) = rest.pop_front() {
            if KERNEL_TREES.iter().any(|tree| dir == Path::new(tree)) {
                continue;
            }
            if !self.visit() {
                break;
            }
            for (name, kind) in self.entries(&dir) {
                let path = dir.join(&name);
                if name == ".git" {
                    self.add_repository(&path, kind);
                    continue;
                }
                self.add_protected(&dir, &name);
                let is_within_depth = max_depth.is_none_or(|max| depth < max.into());
                if kind == NodeKind::Directory && name != mandatory::UNSEARCHED && is_within_depth {
                    rest.push_back((path, depth + 1));
                }
            }
        }
        // The search for submodules counts its directories too.
        *self.visited <= MAX_DIRECTORIES
    }

    /// Returns the entries of a directory, or none if they are unknown.
    fn entries(&mut self, dir: &Path) -> Vec<(OsString, NodeKind)> {
        match self.tree.read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                if !is_absent(&error) {
                    self.unreadable.push(dir.to_owned());
                }
                Vec::new()
            }
        }
    }

    /// Counts a directory. Returns `false` once the limit is exceeded.
    fn visit(&mut self) -> bool {
        *self.visited += 1;
        *self.visited <= MAX_DIRECTORIES
    }

    /// Records the protected paths that begin with `name` in `dir`.
    fn add_protected(&mut self, dir: &Path, name: &OsStr) {
        // Every protected name begins with a dot, and few others do.
        if name.as_encoded_bytes().first() != Some(&b'.') {
            return;
        }
        let protected = mandatory::FILES.iter().chain(&mandatory::DIRECTORIES);
        let matching = protected.filter(|path| Path::new(path).starts_with(name));
        self.names.extend(matching.map(|path| dir.join(path)));
    }

    /// Adds the repository of a `.git` entry: a directory, or a file that points to one like in
    /// submodules and worktrees.
    fn add_repository(&mut self, git: &Path, kind: NodeKind) {
        match kind {
            NodeKind::Directory | NodeKind::Symlink => self.add(git.to_owned()),
            NodeKind::File => {
                if let Some(target) = self.read_pointer(git, "gitdir:") {
                    // A worktree shares hooks and settings with its main repository.
                    if let Some(common) = self.read_pointer(&target.join("commondir"), "") {
                        self.add(common);
                    }
                    self.add(target);
                }
            }
            NodeKind::Other => {}
        }
    }

    /// Reads the path that a file contains after `label`, relative to the directory of the file.
    fn read_pointer(&self, file: &Path, label: &str) -> Option<PathBuf> {
        let content = self.tree.read_start(file, MAX_POINTER_BYTES).ok()?;
        let target =
            std::str::from_utf8(&content).ok()?.lines().next()?.strip_prefix(label)?.trim();
        Some(file.parent()?.join(target))
    }

    /// Adds a git directory and those of its submodules, if it is writable.
    fn add(&mut self, git: PathBuf) {
        let Ok(git) = self.tree.canonicalize(&git) else { return };
        let is_writable = self.writable.iter().any(|root| git.starts_with(root));
        if is_writable && self.repositories.insert(git.clone()) {
            if self.tree.kind(&git.join("HEAD")).is_err() {
                self.unreadable.push(git.clone());
            }
            self.add_modules(git.join(mandatory::GIT_MODULES));
        }
    }

    /// Adds the repositories of submodules. Their names may contain slashes, so it searches deeper.
    fn add_modules(&mut self, dir: PathBuf) {
        let mut rest = vec![dir];
        while let Some(dir) = rest.pop() {
            if !self.visit() {
                return;
            }
            let entries = self.entries(&dir);
            if entries.iter().any(|(name, _)| name == "HEAD") {
                self.add(dir);
                continue;
            }
            let inner = entries.into_iter().filter(|(_, kind)| *kind == NodeKind::Directory);
            rest.extend(inner.map(|(name, _)| dir.join(name)));
        }
    }
}
