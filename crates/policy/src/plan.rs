//! Mount plans: the operations that an engine performs, and the rules that they do not enforce.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::creation::CreationRules;
use crate::explain::Access;

/// What an engine adds of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Directories that a session has for itself, empty and writable, in the place of the host's:
    /// `/tmp`.
    pub private: Vec<PathBuf>,
}

/// One mount. Inside the session a path is what it is on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MountOp {
    /// The host's whole tree, read-only.
    Root,
    /// The host's whole tree, as writable as it is.
    RootWritable,
    /// An empty, writable directory of the session's own.
    Private {
        /// Where.
        path: PathBuf,
    },
    /// An empty directory that cannot be written to.
    HideDirectory {
        /// Where.
        path: PathBuf,
        /// Whether later operations mount something inside it.
        contains_mounts: bool,
    },
    /// A file that cannot be opened.
    HideFile {
        /// Where.
        path: PathBuf,
    },
    /// The host's own file or directory.
    Bind {
        /// Where.
        path: PathBuf,
        /// Whether it may be written to.
        access: BindAccess,
    },
}

impl MountOp {
    /// Where it mounts; `None` for the root.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Root | Self::RootWritable => None,
            Self::Private { path }
            | Self::HideDirectory { path, .. }
            | Self::HideFile { path }
            | Self::Bind { path, .. } => Some(path),
        }
    }
}

/// Whether a bound path may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAccess {
    /// It may not.
    ReadOnly,
    /// It may.
    ReadWrite,
}

/// The mounts of a session, in order, and what they do not cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountPlan {
    /// The mounts.
    pub ops: Vec<MountOp>,
    /// What must not come into being.
    pub creation_rules: CreationRules,
    /// Rules that do not hold as things stand.
    pub unenforced: Vec<Unenforced>,
}

/// A rule that does not hold as things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unenforced {
    /// The list that the rule stands in.
    pub list: &'static str,
    /// The rule.
    pub rule: String,
    /// Why not.
    pub reason: UnenforcedReason,
}

/// Why a rule does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnenforcedReason {
    /// Nothing is at the path, so nothing is hidden or opened.
    Absent,
    /// A symlink in a writable directory could be an agent's, so where it leads out it opens
    /// nothing.
    EscapingSymlink,
    /// A pattern stands for the files that match it now, and opens or hides no others.
    FutureFiles,
    /// There is too much in a writable directory to find every repository.
    TooLarge,
}

impl fmt::Display for UnenforcedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "does not exist",
            Self::EscapingSymlink => "is a symlink in a writable directory, and leads out of it",
            Self::FutureFiles => "files that appear later are not covered at once",
            Self::TooLarge => "has too many directories to find every repository in it",
        })
    }
}

impl MountPlan {
    /// A plan that shows the host's tree, read-only, and nothing else.
    pub fn read_only() -> Self {
        Self { ops: vec![MountOp::Root], ..Self::default() }
    }

    /// Whether a canonical path can be read, or written to, once the mounts are made: the last one
    /// that lies over it decides.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        let over = |op: &&MountOp| op.path().is_none_or(|at| path.starts_with(at));
        match self.ops.iter().rev().find(over) {
            Some(MountOp::Root | MountOp::Bind { access: BindAccess::ReadOnly, .. }) => {
                access == Access::Read
            }
            Some(MountOp::RootWritable | MountOp::Private { .. } | MountOp::Bind { .. }) => true,
            Some(MountOp::HideDirectory { .. } | MountOp::HideFile { .. }) | None => false,
        }
    }

    /// Returns the operations of this plan that hide or protect more than the plan `applied` does,
    /// in their order.
    ///
    /// An engine performs them on the mounts of an open session. Nothing that is closed opens: a
    /// path inside a newly hidden directory appears when the policy is next compiled for a new
    /// session.
    pub fn restrictions_beyond(&self, applied: &Self) -> Vec<MountOp> {
        let known: HashSet<&MountOp> = applied.ops.iter().collect();
        let mut hidden: Vec<&Path> = Vec::new();
        let mut added = Vec::new();
        for op in self.ops.iter().filter(|op| !known.contains(op)) {
            let Some(path) = op.path() else { continue };
            if hidden.iter().any(|above| path.starts_with(above)) {
                continue;
            }
            match op {
                MountOp::HideDirectory { .. } if applied.allows(path, Access::Read) => {
                    hidden.push(path);
                    added.push(MountOp::HideDirectory {
                        path: path.to_owned(),
                        contains_mounts: false,
                    });
                }
                MountOp::HideFile { .. } if applied.allows(path, Access::Read) => {
                    hidden.push(path);
                    added.push(op.clone());
                }
                // A writable bind onto itself anchors a directory above a new operation.
                MountOp::Bind { .. } if applied.allows(path, Access::Write) => {
                    added.push(op.clone());
                }
                _ => {}
            }
        }
        added
    }
}

/// Why a policy cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The file system cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Tree {
        /// Where.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A pattern has no fixed beginning, so the whole machine would have to be searched.
    #[error("the pattern {pattern:?} begins with a wildcard; begin it with a directory")]
    PatternTooBroad {
        /// The pattern.
        pattern: String,
    },
    /// The patterns would have to be compared with too many files.
    #[error("the pattern {pattern:?} would have to be compared with more than {max} files")]
    TooManyFiles {
        /// The pattern.
        pattern: String,
        /// The limit.
        max: usize,
    },
    /// What is hidden lies among too many files to open each of the others by a rule.
    #[error("more than {max} rules are needed to open what is not denied, such as {}", path.display())]
    TooManyRules {
        /// The one that is too many.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ops: &[MountOp]) -> MountPlan {
        MountPlan { ops: ops.to_vec(), ..MountPlan::default() }
    }

    fn bind(path: &str, access: BindAccess) -> MountOp {
        MountOp::Bind { path: path.into(), access }
    }

    fn hide(path: &str, contains_mounts: bool) -> MountOp {
        MountOp::HideDirectory { path: path.into(), contains_mounts }
    }

    fn hide_file(path: &str) -> MountOp {
        MountOp::HideFile { path: path.into() }
    }

    #[track_caller]
    fn check(applied: &[MountOp], fresh: &[MountOp], expected: &[MountOp]) {
        assert_eq!(plan(fresh).restrictions_beyond(&plan(applied)), expected);
    }

    const WRITABLE: BindAccess = BindAccess::ReadWrite;
    const READ_ONLY: BindAccess = BindAccess::ReadOnly;

    #[test]
    fn an_unchanged_plan_adds_nothing() {
        let ops = [MountOp::Root, bind("/w", WRITABLE), hide("/w/h", true), hide_file("/w/f")];
        check(&ops, &ops, &[]);
    }

    #[test]
    fn a_new_repository_is_anchored_and_its_hooks_are_protected() {
        let applied = [MountOp::Root, bind("/w", WRITABLE)];
        let new =
            [bind("/w/.git", WRITABLE), bind("/w/.git/config", READ_ONLY), hide_file("/w/key")];
        check(&applied, &[&applied[..], &new].concat(), &new);
    }

    #[test]
    fn a_hidden_directory_is_hidden_whole_and_nothing_inside_it_is_mounted() {
        let applied = [MountOp::Root, bind("/w", WRITABLE)];
        let inner = [bind("/w/h/shown", READ_ONLY), hide_file("/w/h/shown/f")];
        let fresh = [&applied[..], &[hide("/w/h", true)], &inner].concat();
        check(&applied, &fresh, &[hide("/w/h", false)]);
    }

    #[test]
    fn an_operation_that_would_open_a_closed_path_is_left_out() {
        let applied = [MountOp::Root, hide("/h", false)];
        let fresh =
            [MountOp::Root, hide("/h", true), bind("/h/new", READ_ONLY), bind("/new", WRITABLE)];
        check(&applied, &fresh, &[]);
    }
}
