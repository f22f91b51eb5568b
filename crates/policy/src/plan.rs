//! Mount plans: the operations that an engine performs, and the rules that they do not enforce.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::canonical::is_resolved;
use crate::creation::CreationRules;
use crate::error::ErrorKind;
use crate::explain::Access;
use crate::on_disk::Origin;

/// Mounts that an engine adds to those of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Directories such as `/tmp` that a session sees empty and writable instead of the host's.
    pub private: Vec<PathBuf>,
    /// Directories such as `/dev` that the engine replaces by ones of its own, after all mounts. No
    /// rule has an effect at or in them.
    pub own: Vec<PathBuf>,
    /// Treatment of files that a command creates at paths that the policy hides or protects.
    pub later: LaterFiles,
    /// Configuration of the user's git that is not in its usual place, such as that of
    /// `GIT_CONFIG_GLOBAL` (`git(1)`).
    pub git_configs: Vec<PathBuf>,
    /// Maximum number of directories that are searched for protected names. By default 200,000,
    /// which take some seconds.
    pub max_directories: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        let later = LaterFiles::default();
        let (private, own, git_configs) = (Vec::new(), Vec::new(), Vec::new());
        Self { private, own, later, git_configs, max_directories: 200_000 }
    }
}

/// Treatment of files that appear at a path that the policy hides or protects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaterFiles {
    /// The engine covers them before the next command, or at least when it opens next.
    #[default]
    Covered,
    /// No command can create them, because the engine could not cover them.
    Denied,
}

/// One mount. Every path is the same inside the session and on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MountOp {
    /// The whole tree of the host, read-only.
    Root,
    /// The whole tree of the host, as writable as it is there.
    RootWritable,
    /// An empty, writable directory that only the session sees.
    Private {
        /// Mount point.
        path: PathBuf,
    },
    /// An empty, read-only directory.
    HideDirectory {
        /// Mount point.
        path: PathBuf,
        /// `true` if a later operation has its mount point inside the directory.
        contains_mounts: bool,
    },
    /// A file that cannot be opened.
    HideFile {
        /// Mount point.
        path: PathBuf,
    },
    /// The file or directory of the host.
    Bind {
        /// Mount point.
        path: PathBuf,
        /// Access through the mount.
        access: BindAccess,
    },
    /// A symlink of the host, which cannot be removed or replaced.
    PinLink {
        /// Path of the symlink; its parent is canonical.
        path: PathBuf,
    },
}

impl MountOp {
    /// Returns the mount point, or `None` for the root.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Root | Self::RootWritable => None,
            Self::Private { path }
            | Self::HideDirectory { path, .. }
            | Self::HideFile { path }
            | Self::Bind { path, .. }
            | Self::PinLink { path } => Some(path),
        }
    }

    /// Returns whether the operation allows `access` to its mount point.
    pub(crate) fn allows(&self, access: Access) -> bool {
        match self {
            Self::Root | Self::Bind { access: BindAccess::ReadOnly, .. } | Self::PinLink { .. } => {
                access == Access::Read
            }
            Self::RootWritable | Self::Private { .. } | Self::Bind { .. } => true,
            Self::HideDirectory { .. } | Self::HideFile { .. } => false,
        }
    }
}

/// Access to a path that a mount or a rule opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAccess {
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Mounts of a session in order, rules for new paths, and rules that are not enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountPlan {
    /// Mounts in the order in which an engine performs them.
    pub ops: Vec<MountOp>,
    /// Rules for paths that a command creates.
    pub creation_rules: CreationRules,
    /// Rules that the plan does not enforce.
    pub unenforced: Vec<Unenforced>,
    /// Canonical paths that must be hidden. An engine that cannot hide one does not open.
    pub sealed: BTreeSet<PathBuf>,
    /// Hidden or protected directories that no rule names: their content is unknown, because they
    /// cannot be listed.
    pub unsearched: BTreeSet<PathBuf>,
    /// Rules that reach a path whose name does not show that.
    pub(crate) origins: Vec<Origin>,
    /// Writable git directories of the user, each with its work trees. Git reads what a command
    /// writes to their indexes.
    pub repositories: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// A rule that a mount plan does not enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unenforced {
    /// List of the rule, such as `denyRead`.
    pub list: &'static str,
    /// The rule, made absolute.
    pub rule: String,
    /// The reason.
    pub reason: UnenforcedReason,
}

/// Reason for which a mount plan does not enforce a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnenforcedReason {
    /// The path does not exist, so there is nothing to hide or to open.
    Absent,
    /// The path is a symlink that leads out of a writable directory. An agent could have created
    /// it, so it opens nothing.
    EscapingSymlink,
    /// The path leads through a symlink in a writable directory to one that the session needs, such
    /// as `/usr` or the session directory. An agent could have created the link, so the rule does
    /// not apply to its target.
    NeededTarget,
    /// The path leads through a symlink in a writable directory to one that this user, and so every
    /// command, cannot reach.
    Unreachable,
    /// The path is in a directory that the engine replaces by one of its own.
    Replaced,
    /// The path stays hidden whatever the rules say.
    Sealed,
    /// A pattern covers the files that match it now. Later files are not hidden or opened at once.
    FutureFiles,
    /// A writable directory contains too many directories to find every repository, or a repository
    /// names too many files.
    TooLarge,
    /// The same, and what was not searched is read-only.
    Closed,
}

impl fmt::Display for UnenforcedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "does not exist",
            Self::EscapingSymlink => "is a symlink in a writable directory, and leads out of it",
            Self::NeededTarget => {
                "is a symlink in a writable directory to a path that the session needs"
            }
            Self::Unreachable => {
                "is a symlink in a writable directory to a path that this user cannot reach"
            }
            Self::Replaced => "has no effect, because each session has its own directory there",
            Self::Sealed => "opens nothing, because the path is never accessible",
            Self::FutureFiles => "files that appear later are not covered at once",
            Self::TooLarge => "has too many directories, or settings of git, to be searched",
            Self::Closed => {
                "has too many directories, or settings of git, to be searched; the rest of it is \
                 read-only"
            }
        })
    }
}

impl MountPlan {
    /// Returns a plan that shows the host's tree read-only, without any other mount.
    pub fn read_only() -> Self {
        Self { ops: vec![MountOp::Root], ..Self::default() }
    }

    /// Returns whether the mounts allow `access` to a canonical path. The last mount above the path
    /// decides. A path that is relative or empty, or that has a component `..`, is denied.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        let covers = |op: &&MountOp| op.path().is_none_or(|point| path.starts_with(point));
        is_resolved(path) && self.ops.iter().rev().find(covers).is_some_and(|op| op.allows(access))
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
                MountOp::Bind { .. } | MountOp::PinLink { .. }
                    if applied.allows(path, Access::Write) =>
                {
                    added.push(op.clone());
                }
                _ => {}
            }
        }
        added
    }
}

/// Errors of [`Policy::mounts`](crate::Policy::mounts) and [`MountPlan::allow_list`].
#[derive(Debug)]
#[non_exhaustive]
pub enum MountError {
    /// The file system reported an error.
    Tree {
        /// Path that was inspected.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
    /// A pattern has no fixed beginning, so the compiler would search the whole machine.
    PatternTooBroad {
        /// The pattern.
        pattern: String,
    },
    /// The patterns would be compared with too many files.
    TooManyFiles {
        /// The pattern that exceeded the limit.
        pattern: String,
        /// The limit.
        max: usize,
    },
    /// A hidden path has so many neighbours that a list cannot open each of them.
    TooManyRules {
        /// The path that exceeded the limit.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree { path, .. } => write!(f, "cannot inspect {}", path.display()),
            Self::PatternTooBroad { pattern } => {
                write!(
                    f,
                    "the pattern {pattern:?} begins with a wildcard; begin it with a directory"
                )
            }
            Self::TooManyFiles { pattern, max } => write!(
                f,
                "the pattern {pattern:?} would have to be compared with more than {max} files"
            ),
            Self::TooManyRules { path, max } => write!(
                f,
                "more than {max} rules are needed to open the files beside hidden ones, such as {}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for MountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tree { source, .. } => Some(source),
            Self::PatternTooBroad { .. }
            | Self::TooManyFiles { .. }
            | Self::TooManyRules { .. } => None,
        }
    }
}

impl MountError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tree { source, .. } => ErrorKind::of_io(source),
            Self::PatternTooBroad { .. } => ErrorKind::InvalidRule,
            Self::TooManyFiles { .. } | Self::TooManyRules { .. } => ErrorKind::LimitExceeded,
        }
    }

    /// Returns whether compiling again can succeed without a change of the policy.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
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
