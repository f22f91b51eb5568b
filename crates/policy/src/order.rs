//! Order of a policy's mounts, by depth and layer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::canonical::{above, at_and_above, compare, without_empty_names};
use crate::plan::{BindAccess, MountError, MountOp, MountOptions};
use crate::protect::Protected;
use crate::rules::depth;
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
    let writable = set_of(&sets.writable);
    let (shown, protected) = (set_of(&sets.shown), set_of(&sets.protected.paths));
    let anchors = anchor_directories(sets, &writable);
    let private: Vec<PathBuf> =
        options.private.iter().map(|dir| without_empty_names(dir)).collect();
    let mut layers: Vec<(usize, &Path, Layer)> = Vec::new();
    let mut add = |layer, path| layers.push((depth(path), path, layer));
    private.iter().for_each(|path| add(Layer::Private, path));
    sets.hidden.iter().for_each(|path| add(Layer::Hide, path));
    let only_shown = sets.shown.iter().filter(|path| !writable.contains(path.as_os_str()));
    only_shown.for_each(|path| add(Layer::Show, path));
    sets.writable.iter().for_each(|path| add(Layer::Write, path));
    anchors.iter().for_each(|path| add(Layer::AnchorDirectory, Path::new(*path)));
    sets.protected.paths.iter().for_each(|path| add(Layer::Protect, path));
    sets.protected.links.iter().for_each(|path| add(Layer::Pin, path));
    layers.retain(|(depth, _, _)| *depth > 0);
    layers
        .sort_by(|a, b| a.0.cmp(&b.0).then_with(|| compare(a.1, b.1)).then_with(|| a.2.cmp(&b.2)));

    let root_is_writable =
        writable.contains(root.as_os_str()) && !protected.contains(root.as_os_str());
    let mut ops = vec![if root_is_writable { MountOp::RootWritable } else { MountOp::Root }];
    // The state of a path is that of its nearest known ancestor. Looking up a few ancestors is
    // cheap even for a policy with a thousand paths.
    let mut states = HashMap::from([(
        root.as_os_str(),
        if root_is_writable { State::Writable } else { State::Shown },
    )]);
    if let Some(path) = sets.kernel_settings.as_deref().filter(|_| root_is_writable) {
        ops.push(MountOp::Bind { path: path.to_owned(), access: BindAccess::ReadOnly });
        states.insert(path.as_os_str(), State::Shown);
    }
    for (_, path, layer) in layers {
        let state =
            at_and_above(path).find_map(|above| states.get(above)).copied().unwrap_or(State::Shown);
        let is_protected = at_and_above(path).any(|above| protected.contains(above));
        let is_writable = writable.contains(path.as_os_str());
        let is_opened = is_writable || shown.contains(path.as_os_str());
        let bind = |access| MountOp::Bind { path: path.to_owned(), access };
        let (op, next) = match (layer, state) {
            (Layer::Private, _) if !is_opened => {
                (MountOp::Private { path: path.to_owned() }, State::Private)
            }
            (Layer::Hide, State::Shown | State::Writable) if !is_opened => {
                (hide(path, tree)?, State::Hidden)
            }
            (Layer::Hide, State::Writable) if !is_writable => {
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
        states.insert(path.as_os_str(), next);
    }
    mark_containers(&mut ops);
    Ok(ops)
}

/// Returns the directories between a writable path and the hidden or protected paths inside it
/// (rule 6).
fn anchor_directories<'s>(sets: &'s PathSets, writable: &HashSet<&OsStr>) -> HashSet<&'s OsStr> {
    let mut anchors = HashSet::new();
    let Protected { paths, links, anchored, .. } = &sets.protected;
    let outermost = |path: &'s Path| above(path).filter(|dir| writable.contains(dir)).last();
    let is_writable = |dir: &&PathBuf| above(dir).any(|above| writable.contains(above));
    anchors.extend(anchored.iter().filter(is_writable).map(|dir| dir.as_os_str()));
    for inner in sets.hidden.iter().chain(paths).chain(links).chain(anchored) {
        if let Some(root) = outermost(inner) {
            anchors.extend(above(inner).take_while(|dir| *dir != root));
        }
    }
    anchors
}

fn set_of(paths: &BTreeSet<PathBuf>) -> HashSet<&OsStr> {
    paths.iter().map(|path| path.as_os_str()).collect()
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
    let containers: HashSet<&OsStr> =
        ops.iter().filter_map(MountOp::path).flat_map(above).collect();
    let is_container = |op: &MountOp| match op {
        MountOp::HideDirectory { path, .. } => containers.contains(path.as_os_str()),
        _ => false,
    };
    let found: Vec<bool> = ops.iter().map(is_container).collect();
    for (op, is_container) in ops.iter_mut().zip(found) {
        if let MountOp::HideDirectory { contains_mounts, .. } = op {
            *contains_mounts = is_container;
        }
    }
}
