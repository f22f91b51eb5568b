//! Order of a policy's mounts, by depth and layer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::plan::{BindAccess, MountError, MountOp, MountOptions};
use crate::protect::Protected;
use crate::rules::{depth, is_inside};
use crate::tree::{NodeKind, Tree};

/// Canonical paths of a policy's lists.
pub(crate) struct PathSets {
    pub(crate) hidden: BTreeSet<PathBuf>,
    pub(crate) shown: BTreeSet<PathBuf>,
    pub(crate) writable: BTreeSet<PathBuf>,
    pub(crate) protected: Protected,
    /// Tree of kernel settings, which a writable root does not include.
    pub(crate) kernel_settings: Option<PathBuf>,
}

/// State of a path after the operations so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Shown,
    Hidden,
    Private,
    Writable,
}

/// Position of an operation among those at the same path (rule 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Private,
    Hide,
    Show,
    Write,
    AnchorDirectory,
    Protect,
    Pin,
}

/// Returns the operations for `sets` in order. The documentation of `compile` numbers the rules.
pub(crate) fn order_mounts(
    sets: &PathSets,
    options: &MountOptions,
    tree: &dyn Tree,
) -> Result<Vec<MountOp>, MountError> {
    let root = Path::new("/");
    let anchors = anchor_directories(sets);
    let lists: [(Layer, Vec<&PathBuf>); 7] = [
        (Layer::Private, options.private.iter().collect()),
        (Layer::Hide, sets.hidden.iter().collect()),
        (Layer::Show, sets.shown.difference(&sets.writable).collect()),
        (Layer::Write, sets.writable.iter().collect()),
        (Layer::AnchorDirectory, anchors.iter().collect()),
        (Layer::Protect, sets.protected.paths.iter().collect()),
        (Layer::Pin, sets.protected.links.iter().collect()),
    ];
    let mut layers: Vec<(usize, &Path, Layer)> = lists
        .iter()
        .flat_map(|(layer, paths)| paths.iter().map(|path| (depth(path), path.as_path(), *layer)))
        .filter(|(_, path, _)| *path != root)
        .collect();
    layers.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));

    let root_is_writable = sets.writable.contains(root) && !sets.protected.paths.contains(root);
    let mut ops = vec![if root_is_writable { MountOp::RootWritable } else { MountOp::Root }];
    // The state of a path is that of its nearest known ancestor. Looking up a few ancestors is
    // cheap even for a policy with a thousand paths.
    let protected: HashSet<&Path> = sets.protected.paths.iter().map(PathBuf::as_path).collect();
    let mut states =
        HashMap::from([(root, if root_is_writable { State::Writable } else { State::Shown })]);
    if let Some(path) = sets.kernel_settings.as_deref().filter(|_| root_is_writable) {
        ops.push(MountOp::Bind { path: path.to_owned(), access: BindAccess::ReadOnly });
        states.insert(path, State::Shown);
    }
    for (_, path, layer) in layers {
        let state =
            path.ancestors().find_map(|above| states.get(above)).copied().unwrap_or(State::Shown);
        let is_protected = path.ancestors().any(|above| protected.contains(above));
        let is_opened = sets.shown.contains(path) || sets.writable.contains(path);
        let bind = |access| MountOp::Bind { path: path.to_owned(), access };
        let (op, next) = match (layer, state) {
            (Layer::Private, _) if !is_opened => {
                (MountOp::Private { path: path.to_owned() }, State::Private)
            }
            (Layer::Hide, State::Shown | State::Writable) if !is_opened => {
                (hide(path, tree)?, State::Hidden)
            }
            (Layer::Hide, State::Writable) if !sets.writable.contains(path) => {
                (bind(BindAccess::ReadOnly), State::Shown)
            }
            (Layer::Write, State::Shown | State::Hidden | State::Private) if !is_protected => {
                (bind(BindAccess::ReadWrite), State::Writable)
            }
            (Layer::Show, State::Hidden | State::Private)
            | (Layer::Write, State::Hidden | State::Private) => {
                (bind(BindAccess::ReadOnly), State::Shown)
            }
            (Layer::AnchorDirectory, State::Writable) => {
                (bind(BindAccess::ReadWrite), State::Writable)
            }
            (Layer::Pin, State::Writable) => {
                (MountOp::PinLink { path: path.to_owned() }, State::Shown)
            }
            (Layer::Protect, State::Writable) => (bind(BindAccess::ReadOnly), State::Shown),
            _ => continue,
        };
        ops.push(op);
        states.insert(path, next);
    }
    mark_containers(&mut ops);
    Ok(ops)
}

/// Returns the directories between a writable path and the hidden or protected paths inside it
/// (rule 6).
fn anchor_directories(sets: &PathSets) -> BTreeSet<PathBuf> {
    let mut anchors = BTreeSet::new();
    let Protected { paths, links, anchored, .. } = &sets.protected;
    let is_writable = |dir: &&PathBuf| sets.writable.iter().any(|root| is_inside(dir, root));
    anchors.extend(anchored.iter().filter(is_writable).cloned());
    for inner in sets.hidden.iter().chain(paths).chain(links).chain(anchored) {
        let root = sets
            .writable
            .iter()
            .filter(|root| is_inside(inner, root))
            .min_by_key(|root| depth(root));
        if let Some(root) = root {
            anchors.extend(
                inner
                    .ancestors()
                    .skip(1)
                    .take_while(|above| is_inside(above, root))
                    .map(Path::to_owned),
            );
        }
    }
    anchors
}

fn hide(path: &Path, tree: &dyn Tree) -> Result<MountOp, MountError> {
    let kind =
        tree.kind(path).map_err(|source| MountError::Tree { path: path.to_owned(), source })?;
    Ok(match kind {
        Some(NodeKind::Directory) => {
            MountOp::HideDirectory { path: path.to_owned(), contains_mounts: false }
        }
        _ => MountOp::HideFile { path: path.to_owned() },
    })
}

/// Sets `contains_mounts` of each hidden directory that has a mount point inside.
fn mark_containers(ops: &mut [MountOp]) {
    // A path inside another one is deeper, and therefore later in the list.
    let containers: HashSet<PathBuf> = ops
        .iter()
        .filter_map(MountOp::path)
        .flat_map(|path| path.ancestors().skip(1))
        .map(Path::to_owned)
        .collect();
    for op in ops {
        if let MountOp::HideDirectory { path, contains_mounts } = op {
            *contains_mounts = containers.contains(path);
        }
    }
}
