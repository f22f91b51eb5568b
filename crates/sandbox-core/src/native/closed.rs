//! Directories that mounts close, which are not searched after a command.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use policy::{BindAccess, MountOp, MountPlan};

/// Returns the directories in which no command can create anything. Without namespaces, nothing
/// closes them.
pub(super) fn closed_directories(plan: &MountPlan, has_namespaces: bool) -> HashSet<PathBuf> {
    if !has_namespaces {
        return HashSet::new();
    }
    let is_writable = |op: &MountOp| match op {
        MountOp::Bind { access, .. } => *access == BindAccess::ReadWrite,
        MountOp::Private { .. } => true,
        _ => false,
    };
    let closing = plan.ops.iter().filter(|op| !is_writable(op));
    let mut closed: HashSet<PathBuf> =
        closing.filter_map(|op| op.path().map(Path::to_owned)).collect();
    for path in plan.ops.iter().filter(|op| is_writable(op)).filter_map(MountOp::path) {
        for above in path.ancestors() {
            closed.remove(above);
        }
    }
    closed
}
