//! Where the protected names in a writable directory are, and its git repositories, also those that
//! git ignores, of submodules and of worktrees.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::mandatory;
use crate::tree::{NodeKind, Tree};

/// How many directories are looked through for one policy: about half a second.
const MAX_DIRECTORIES: usize = 20_000;
/// The kernel's own trees have no repositories, and no end.
const KERNELS_OWN: [&str; 3] = ["/dev", "/proc", "/sys"];
/// A pointer to a repository is one short line.
const MAX_POINTER_BYTES: usize = 4096 + 64;

/// A search for protected names, and for repositories: the directories that hold `hooks` and
/// `config`, such as `.git`.
pub(crate) struct Search<'s> {
    tree: &'s dyn Tree,
    /// Only what lies in one of these can be changed, and so has to be protected.
    writable: &'s BTreeSet<PathBuf>,
    visited: &'s mut usize,
    pub(crate) repositories: BTreeSet<PathBuf>,
    /// Protected files and directories that may be there.
    pub(crate) names: Vec<PathBuf>,
}

impl<'s> Search<'s> {
    pub(crate) fn new(
        tree: &'s dyn Tree,
        writable: &'s BTreeSet<PathBuf>,
        visited: &'s mut usize,
    ) -> Self {
        Self { tree, writable, visited, repositories: BTreeSet::new(), names: Vec::new() }
    }

    /// Looks through a directory, the shallow parts first, to the bottom or to a depth. `false`
    /// when there was too much to see all of it.
    ///
    /// What cannot be listed is left out: the commands of a session run as the same user, and
    /// cannot either.
    pub(crate) fn find(&mut self, root: &Path, max_depth: Option<u8>) -> bool {
        let mut rest = VecDeque::from([(root.to_owned(), 0)]);
        while let Some((dir, depth)) = rest.pop_front() {
            if KERNELS_OWN.iter().any(|own| dir == Path::new(own)) {
                continue;
            }
            if !self.visit() {
                break;
            }
            for (name, kind) in self.tree.read_dir(&dir).unwrap_or_default() {
                let path = dir.join(&name);
                if name == ".git" {
                    self.repository(&path, kind);
                    continue;
                }
                self.protected(&dir, &name);
                let is_in_reach = max_depth.is_none_or(|max| depth < max);
                if kind == NodeKind::Directory && name != mandatory::LEFT_OUT && is_in_reach {
                    rest.push_back((path, depth + 1));
                }
            }
        }
        // The search for submodules may have been the one that was cut short.
        *self.visited <= MAX_DIRECTORIES
    }

    /// Counts a directory; `false` when there were enough.
    fn visit(&mut self) -> bool {
        *self.visited += 1;
        *self.visited <= MAX_DIRECTORIES
    }

    /// Notes what is protected at or directly below a name.
    fn protected(&mut self, dir: &Path, name: &OsStr) {
        // Nearly every name is no candidate.
        if name.as_encoded_bytes().first() != Some(&b'.') {
            return;
        }
        let protected = mandatory::FILES.iter().chain(&mandatory::DIRECTORIES);
        let beginning = protected.filter(|path| Path::new(path).starts_with(name));
        self.names.extend(beginning.map(|path| dir.join(path)));
    }

    /// What a `.git` stands for: a repository, or a pointer to one, as in submodules and worktrees.
    fn repository(&mut self, git: &Path, kind: NodeKind) {
        match kind {
            NodeKind::Directory | NodeKind::Symlink => self.add(git.to_owned()),
            NodeKind::File => {
                if let Some(target) = self.pointer(git, "gitdir:") {
                    // A worktree has hooks and settings in common with the repository that it is
                    // of.
                    if let Some(common) = self.pointer(&target.join("commondir"), "") {
                        self.add(common);
                    }
                    self.add(target);
                }
            }
            NodeKind::Other => {}
        }
    }

    /// The path that a file names, relative to the directory that the file is in.
    fn pointer(&self, file: &Path, label: &str) -> Option<PathBuf> {
        let content = self.tree.read_start(file, MAX_POINTER_BYTES).ok()?;
        let target =
            std::str::from_utf8(&content).ok()?.lines().next()?.strip_prefix(label)?.trim();
        Some(file.parent()?.join(target))
    }

    fn add(&mut self, git: PathBuf) {
        let Ok(git) = self.tree.canonicalize(&git) else { return };
        let is_writable = self.writable.iter().any(|root| git.starts_with(root));
        if is_writable && self.repositories.insert(git.clone()) {
            self.modules(git.join(mandatory::GIT_MODULES));
        }
    }

    /// The repositories of submodules; their names may have slashes in them.
    fn modules(&mut self, dir: PathBuf) {
        let mut rest = vec![dir];
        while let Some(dir) = rest.pop() {
            if !self.visit() {
                return;
            }
            let entries = self.tree.read_dir(&dir).unwrap_or_default();
            if entries.iter().any(|(name, _)| name == "HEAD") {
                self.add(dir);
                continue;
            }
            let inner = entries.into_iter().filter(|(_, kind)| *kind == NodeKind::Directory);
            rest.extend(inner.map(|(name, _)| dir.join(name)));
        }
    }
}
