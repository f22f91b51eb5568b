//! Files of the host that a session sees in the place of others.

use std::path::PathBuf;

use policy::{Access, MountOp, MountPlan};

/// A file of the host that a session sees, read-only, in the place of another one. The session need
/// not be able to read it at its own path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overlay {
    /// Canonical path of the replaced file.
    pub target: PathBuf,
    /// Canonical path of the file that commands read there.
    pub source: PathBuf,
}

/// Returns the overlays over files that exist and that commands can read. Another one would reveal
/// that a hidden file exists.
pub(super) fn visible(overlays: &[Overlay], mounts: &MountPlan) -> Vec<Overlay> {
    let is_visible = |one: &&Overlay| {
        let covers = |op: &&MountOp| op.path().is_none_or(|point| one.target.starts_with(point));
        match mounts.ops.iter().rev().find(covers) {
            Some(MountOp::Private { .. }) | None => false,
            Some(_) => mounts.allows(&one.target, Access::Read) && one.target.is_file(),
        }
    };
    overlays.iter().filter(is_visible).cloned().collect()
}
