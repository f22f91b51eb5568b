//! Compilation of mounts to an allow list, for an engine that can only open closed paths
//! (Landlock).
//!
//! A rule opens a path and everything below it, and no other rule can close a part of it. So:
//!
//! 1. A tree without a less open path inside gets one rule. Each more open path inside gets
//!    another.
//! 2. A readable tree with a hidden path inside is split into rules for its entries. The directory
//!    itself cannot be listed ([`AllowList::unlistable`]), and files that appear in it later stay
//!    closed.
//! 3. A writable tree with a less open path inside is not split, because commands could then not
//!    create files in it. It is opened as a whole, and [`AllowList::uncovered`] lists the paths
//!    that stay accessible. An engine fails, or requires the caller's consent.
//! 4. Nothing is opened through a symlink. Its target is opened, or not, at its own path.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use crate::canonical::is_resolved;
use crate::explain::Access;
use crate::plan::{BindAccess, MountError, MountOp, MountPlan};
use crate::tree::{NodeKind, Tree};

/// Maximum number of rules in a list. Each needs an open file while a session opens.
const MAX_RULES: usize = 100_000;

/// Paths that may be opened; all others are closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowList {
    /// Rules that each open a path and everything below it.
    pub rules: Vec<AllowRule>,
    /// Denied or protected paths that stay accessible because they lie in a writable directory.
    pub uncovered: Vec<PathBuf>,
    /// Directories that the policy shows, but that cannot be listed.
    pub unlistable: Vec<PathBuf>,
}

/// A rule that opens a path and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    /// The opened path.
    pub path: PathBuf,
    /// Access that the rule opens.
    pub access: BindAccess,
}

impl MountPlan {
    /// Returns the list that gives the same access as these mounts. `closed` names the kernel's own
    /// trees that mounts would replace, `/proc` and `/dev`.
    ///
    /// # Errors
    /// Returns [`MountError`] if the tree cannot be inspected or the list would be too long.
    pub fn allow_list(&self, tree: &dyn Tree, closed: &[&Path]) -> Result<AllowList, MountError> {
        let mut paths: Vec<(&Path, Openness)> = Vec::new();
        let mut root = Openness::No;
        for op in &self.ops {
            match op.path() {
                Some(path) => paths.push((path, Openness::of(op))),
                None => root = Openness::of(op),
            }
        }
        paths.extend(closed.iter().map(|path| (*path, Openness::No)));
        let mut compiler = ListCompiler { tree, root, paths, list: AllowList::default() };
        compiler.visit(Path::new("/"), NodeKind::Directory)?;
        Ok(compiler.list)
    }
}

impl MountPlan {
    /// Returns the writable directory around a path whose access the list cannot restrict. It opens
    /// the path for reading and writing.
    pub fn opened_around<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let is_open = |at: &&Path| {
            let of_path = |op: &&MountOp| op.path() == Some(at);
            let last = self.ops.iter().rev().find(of_path);
            last.is_some_and(|op| Openness::of(op) == Openness::ToWrite)
        };
        path.ancestors().find(is_open)
    }

    /// Returns the paths in writable directories that the mounts hide or protect. They are those of
    /// [`AllowList::uncovered`].
    pub fn inner_restrictions(&self) -> BTreeSet<PathBuf> {
        let mut known: HashMap<&Path, Openness> = HashMap::new();
        for op in &self.ops {
            known.insert(op.path().unwrap_or(Path::new("/")), Openness::of(op));
        }
        let is_inner = |(path, open): &(&&Path, &Openness)| {
            let mut above = path.ancestors().skip(1).filter_map(|above| known.get(above));
            **open < Openness::ToWrite && above.any(|above| *above == Openness::ToWrite)
        };
        known.iter().filter(is_inner).map(|(path, _)| path.to_path_buf()).collect()
    }
}

impl AllowList {
    /// Returns whether a canonical path can be opened with `access`. A directory with a closed path
    /// inside cannot be listed. A path that is relative or empty, or that has a component `..`, is
    /// denied.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        let grants =
            |rule: &AllowRule| rule.access == BindAccess::ReadWrite || access == Access::Read;
        is_resolved(path)
            && self.rules.iter().any(|rule| grants(rule) && path.starts_with(&rule.path))
    }
}

/// Access that a path is opened for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Openness {
    No,
    ToRead,
    ToWrite,
}

impl Openness {
    fn of(op: &MountOp) -> Self {
        match op {
            MountOp::Root
            | MountOp::Bind { access: BindAccess::ReadOnly, .. }
            | MountOp::PinLink { .. } => Self::ToRead,
            MountOp::RootWritable | MountOp::Private { .. } | MountOp::Bind { .. } => Self::ToWrite,
            MountOp::HideDirectory { .. } | MountOp::HideFile { .. } => Self::No,
        }
    }
}

/// State of one compilation.
struct ListCompiler<'t> {
    tree: &'t dyn Tree,
    root: Openness,
    /// Openness of each mount point; a later one covers an earlier one.
    paths: Vec<(&'t Path, Openness)>,
    list: AllowList,
}

impl<'t> ListCompiler<'t> {
    fn openness(&self, path: &Path) -> Openness {
        self.paths
            .iter()
            .rev()
            .find(|(point, _)| path.starts_with(point))
            .map_or(self.root, |(_, open)| *open)
    }

    /// Returns the mount points strictly below a path with their openness.
    fn below(&self, path: &Path) -> Vec<(&'t Path, Openness)> {
        let inside =
            self.paths.iter().map(|(at, _)| *at).filter(|at| *at != path && at.starts_with(path));
        inside.map(|at| (at, self.openness(at))).collect()
    }

    fn visit(&mut self, path: &Path, kind: NodeKind) -> Result<(), MountError> {
        let (own, below) = (self.openness(path), self.below(path));
        let is_less = |(_, open): &(&Path, Openness)| *open < own;
        if own == Openness::ToRead && below.iter().any(is_less) && kind == NodeKind::Directory {
            return self.split(path);
        }
        match own {
            Openness::No => {}
            Openness::ToRead => self.open(path, BindAccess::ReadOnly)?,
            Openness::ToWrite => {
                self.open(path, BindAccess::ReadWrite)?;
                self.list
                    .uncovered
                    .extend(below.iter().filter(|at| is_less(at)).map(|(at, _)| (*at).to_owned()));
                return Ok(());
            }
        }
        let mut visited: Vec<&Path> = Vec::new();
        let mut more_open: Vec<&Path> =
            below.into_iter().filter(|(_, open)| *open > own).map(|(at, _)| at).collect();
        more_open.sort();
        for at in more_open {
            if visited.last().is_some_and(|above| at.starts_with(above)) {
                continue;
            }
            visited.push(at);
            let kind = self.tree.kind(at);
            let kind = kind.map_err(|source| MountError::Tree { path: at.to_owned(), source })?;
            if let Some(kind) = kind {
                self.visit(at, kind)?;
            }
        }
        Ok(())
    }

    /// Visits each entry of a directory instead of opening the directory as a whole.
    fn split(&mut self, path: &Path) -> Result<(), MountError> {
        self.list.unlistable.push(path.to_owned());
        let entries = match self.tree.read_dir(path) {
            // Commands run as the same user, and could not list the directory either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            other => other.map_err(|source| MountError::Tree { path: path.to_owned(), source })?,
        };
        for (name, kind) in entries {
            if matches!(kind, NodeKind::Directory | NodeKind::File) {
                self.visit(&path.join(name), kind)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, path: &Path, access: BindAccess) -> Result<(), MountError> {
        if self.list.rules.len() == MAX_RULES {
            return Err(MountError::TooManyRules { path: path.to_owned(), max: MAX_RULES });
        }
        self.list.rules.push(AllowRule { path: path.to_owned(), access });
        Ok(())
    }
}
