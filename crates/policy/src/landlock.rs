//! The compilation of mounts to a list of what may be opened, for an engine that can only open what
//! is closed (Landlock).
//!
//! A rule opens a path and everything below it, and no other rule takes that back. So:
//!
//! 1. A tree in which nothing is less open than its top gets one rule, and what is more open in it
//!    a rule of its own.
//! 2. A readable tree with something hidden in it is taken apart: each entry gets what it is due.
//!    The directory itself cannot be listed ([`AllowList::unlistable`]), and what appears in it
//!    later is closed.
//! 3. A writable tree with something in it that is less open cannot be taken apart, or nobody could
//!    make a file in it. It is opened whole, and what that uncovers is named
//!    ([`AllowList::uncovered`]); an engine refuses, or asks first.
//! 4. Nothing is opened through a symlink: what it leads to is opened, or not, at its own path.

use std::io;
use std::path::{Path, PathBuf};

use crate::explain::Access;
use crate::plan::{BindAccess, MountError, MountOp, MountPlan};
use crate::tree::{NodeKind, Tree};

/// How many rules a list may have; each costs an open file while a session opens.
const MAX_RULES: usize = 100_000;

/// What may be opened; all else is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowList {
    /// Each opens a path and everything below it.
    pub rules: Vec<AllowRule>,
    /// What the policy protects or hides, and the list opens all the same, because it lies in
    /// something writable.
    pub uncovered: Vec<PathBuf>,
    /// Directories that the policy shows, and that cannot be listed.
    pub unlistable: Vec<PathBuf>,
}

/// A path that is opened with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    /// The path.
    pub path: PathBuf,
    /// Whether it may be written to.
    pub access: BindAccess,
}

impl MountPlan {
    /// What may be opened so that the same can be read and written to as with these mounts.
    /// `closed` names trees of the kernel's own that mounts would replace, `/proc` and `/dev`.
    ///
    /// # Errors
    /// [`MountError`] when the tree cannot be looked at, or the list would be too long.
    pub fn allow_list(&self, tree: &dyn Tree, closed: &[&Path]) -> Result<AllowList, MountError> {
        let mut paths: Vec<(&Path, Open)> = Vec::new();
        let mut root = Open::No;
        for op in &self.ops {
            match op.path() {
                Some(path) => paths.push((path, Open::of(op))),
                None => root = Open::of(op),
            }
        }
        paths.extend(closed.iter().map(|path| (*path, Open::No)));
        let mut compiler = Compiler { tree, root, paths, list: AllowList::default() };
        compiler.visit(Path::new("/"), NodeKind::Directory)?;
        Ok(compiler.list)
    }
}

impl AllowList {
    /// Whether a canonical path can be opened to read, or to write. A directory above one that is
    /// closed cannot be read, which is to list it.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        let serves =
            |rule: &AllowRule| rule.access == BindAccess::ReadWrite || access == Access::Read;
        self.rules.iter().any(|rule| serves(rule) && path.starts_with(&rule.path))
    }
}

/// How far a path is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    No,
    ToRead,
    ToWrite,
}

impl Open {
    fn of(op: &MountOp) -> Self {
        match op {
            MountOp::Root | MountOp::Bind { access: BindAccess::ReadOnly, .. } => Self::ToRead,
            MountOp::RootWritable | MountOp::Private { .. } | MountOp::Bind { .. } => Self::ToWrite,
            MountOp::HideDirectory { .. } | MountOp::HideFile { .. } => Self::No,
        }
    }
}

struct Compiler<'t> {
    tree: &'t dyn Tree,
    root: Open,
    /// What the operations say, a later one over an earlier one.
    paths: Vec<(&'t Path, Open)>,
    list: AllowList,
}

impl<'t> Compiler<'t> {
    fn at(&self, path: &Path) -> Open {
        self.paths
            .iter()
            .rev()
            .find(|(over, _)| path.starts_with(over))
            .map_or(self.root, |(_, open)| *open)
    }

    /// The paths strictly below one that operations name, and how far each is open.
    fn below(&self, path: &Path) -> Vec<(&'t Path, Open)> {
        let inside =
            self.paths.iter().map(|(at, _)| *at).filter(|at| *at != path && at.starts_with(path));
        inside.map(|at| (at, self.at(at))).collect()
    }

    fn visit(&mut self, path: &Path, kind: NodeKind) -> Result<(), MountError> {
        let (own, below) = (self.at(path), self.below(path));
        let is_less = |(_, open): &(&Path, Open)| *open < own;
        if own == Open::ToRead && below.iter().any(is_less) && kind == NodeKind::Directory {
            return self.take_apart(path);
        }
        match own {
            Open::No => {}
            Open::ToRead => self.open(path, BindAccess::ReadOnly)?,
            Open::ToWrite => {
                self.open(path, BindAccess::ReadWrite)?;
                self.list
                    .uncovered
                    .extend(below.iter().filter(|at| is_less(at)).map(|(at, _)| (*at).to_owned()));
                return Ok(());
            }
        }
        let mut opened: Vec<&Path> = Vec::new();
        let mut more: Vec<&Path> =
            below.into_iter().filter(|(_, open)| *open > own).map(|(at, _)| at).collect();
        more.sort();
        for at in more {
            if opened.last().is_some_and(|above| at.starts_with(above)) {
                continue;
            }
            opened.push(at);
            if let Some(kind) = self.look(at, |tree| tree.kind(at))? {
                self.visit(at, kind)?;
            }
        }
        Ok(())
    }

    /// Opens each entry of a directory for itself.
    fn take_apart(&mut self, path: &Path) -> Result<(), MountError> {
        self.list.unlistable.push(path.to_owned());
        let entries = match self.tree.read_dir(path) {
            // What this process cannot list, its commands could not either.
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

    fn look<T>(
        &self,
        path: &Path,
        ask: impl Fn(&dyn Tree) -> io::Result<T>,
    ) -> Result<T, MountError> {
        ask(self.tree).map_err(|source| MountError::Tree { path: path.to_owned(), source })
    }
}
