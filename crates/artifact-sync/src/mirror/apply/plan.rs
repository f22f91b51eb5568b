//! Plan of an application: the steps for all paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandbox_core::RelativePath;

use crate::log::{Content, FileVersion, Hash, Node, Origin, Token};
use crate::mirror::incoming::Incoming;
use crate::mirror::place::Expected;
use crate::scan::{RecordedSignature, Signature};
use crate::state::{Ledger, Remains};

/// State of a path in the working copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// It has the version of the log that the working copy follows.
    Unchanged(Option<RecordedSignature>),
    /// It was changed here and not stored.
    Changed(Signature, Hash),
    /// It was removed here, and the removal is not stored.
    Removed,
    /// A directory or a symlink was changed here and not stored.
    ChangedOther,
}

/// Step for one path. There may be many, and most have only a path and a target.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) path: RelativePath,
    /// Node to put in place; `None` removes the path.
    pub(super) target: Option<Node>,
    /// Object that is replaced, if there is one.
    replaced: Option<Box<Expected>>,
    /// Set if the working copy has the content already.
    pub(super) has_content: Option<Box<Signature>>,
    pub(super) was_directory: bool,
}

impl Step {
    /// Returns the object that is replaced. Any other one is kept beside.
    pub(super) fn expected(&self) -> Expected {
        self.replaced.as_deref().copied().unwrap_or(Expected::Nothing)
    }
}

/// Log that the working copy follows, without the parts that no plan needs.
#[derive(Default)]
pub(in crate::mirror) struct Base {
    pub(in crate::mirror) nodes: BTreeMap<String, Node>,
    pub(in crate::mirror) local: BTreeMap<String, RecordedSignature>,
    /// Paths that do not follow the log. Their nodes are what they have instead.
    pub(in crate::mirror) unfollowed: BTreeSet<String>,
}

impl Base {
    pub(in crate::mirror) fn of(ledger: &Ledger) -> Self {
        let mut base = Self {
            nodes: ledger.log().nodes.clone(),
            local: ledger.locals().clone(),
            unfollowed: ledger.unfollowed().keys().cloned().collect(),
        };
        for (path, remains) in ledger.unfollowed() {
            let node = match remains {
                Remains::Nothing => None,
                Remains::File { signature, hash } => {
                    Some(Node::File(held_version(signature, *hash)))
                }
                Remains::Directory { mode } => Some(Node::Directory { mode: *mode }),
                Remains::Symlink { target } => Some(Node::Symlink { target: target.clone() }),
            };
            match node {
                Some(node) => drop(base.nodes.insert(path.clone(), node)),
                None => drop(base.nodes.remove(path)),
            }
        }
        base
    }

    /// Sets what a path has to a version of the log that is newer than the others.
    pub(super) fn take_over(&mut self, path: String, node: Node) {
        self.local.remove(&path);
        self.nodes.insert(path.clone(), node);
        self.unfollowed.insert(path);
    }
}

/// Describes a file of the working copy as a version of the log.
pub(in crate::mirror) fn held_version(recorded: &RecordedSignature, hash: Hash) -> FileVersion {
    let Signature { size, mode, modified, .. } = recorded.signature;
    FileVersion {
        size,
        hash,
        mode,
        modified,
        token: Token::random(),
        number: 0,
        content: Content::Entry(0),
        origin: Origin::Agent,
        adopted: None,
    }
}

/// Plans the steps for all paths. Pure.
pub(super) fn plan(incoming: &Incoming, base: &Base, locals: &HashMap<String, Local>) -> Vec<Step> {
    let mut paths: BTreeSet<&String> = match &incoming.touched {
        Some(touched) => touched.iter().collect(),
        None => base.nodes.keys().chain(incoming.state.nodes.keys()).collect(),
    };
    paths.extend(locals.iter().filter_map(|(path, local)| match local {
        Local::Changed(_, hash) => incoming.has_version(path, *hash).then_some(path),
        Local::Unchanged(_) | Local::Removed | Local::ChangedOther => None,
    }));
    paths.extend(&base.unfollowed);
    if incoming.missed_entries {
        paths.extend(locals.keys());
    }
    paths.iter().filter_map(|path| plan_path(incoming, base, locals, path)).collect()
}

fn plan_path(
    incoming: &Incoming,
    base: &Base,
    locals: &HashMap<String, Local>,
    path: &str,
) -> Option<Step> {
    let relative = RelativePath::parse(path).ok()?;
    let (before, target) = (base.nodes.get(path), incoming.node(path));
    let unchanged = Local::Unchanged(base.local.get(path).copied());
    let local = match (locals.get(path).copied(), before) {
        // Only the mode or the times were changed, so the file follows the log.
        (Some(Local::Changed(signature, hash)), Some(Node::File(file)))
            if file.hash == hash && Some(&Node::File(file.clone())) != target =>
        {
            Local::Unchanged(Some(signature.racy()))
        }
        (local, _) => local.unwrap_or(unchanged),
    };
    let content = match (local, before) {
        (Local::Changed(_, hash), _) => Some(hash),
        (_, Some(Node::File(file))) => Some(file.hash),
        _ => None,
    };
    let step = |expected: Option<RecordedSignature>, has_content: Option<Signature>| {
        let was_directory =
            matches!(before, Some(Node::Directory { .. })) && !matches!(local, Local::Changed(..));
        let target = target.cloned();
        let replaced = match before {
            Some(Node::Symlink { .. }) if matches!(local, Local::Unchanged(_)) => {
                Some(Expected::Symlink)
            }
            _ => expected
                .zip(content)
                .map(|(recorded, content)| Expected::recorded(recorded, content)),
        };
        let (replaced, has_content) = (replaced.map(Box::new), has_content.map(Box::new));
        Some(Step { path: relative, target, replaced, has_content, was_directory })
    };
    let is_same = match (before, target) {
        (Some(before), Some(target)) => is_same_node(before, target),
        (before, target) => before.is_none() && target.is_none(),
    };
    match local {
        Local::Unchanged(Some(_)) if is_same => None,
        // The working copy lacks a file that it should have: its restore was interrupted.
        Local::Unchanged(None) if is_same => match target {
            Some(Node::File(_)) => step(None, None),
            _ => None,
        },
        Local::Unchanged(signature) => step(signature, None),
        // The path did not move in the log, so the removal stays to be stored. If it moved there
        // and back, an interrupted application may have removed it.
        Local::Removed if is_same && !incoming.has_removed(path) => None,
        Local::Removed => target.is_some().then(|| step(None, None))?,
        Local::Changed(signature, hash) => match target {
            Some(Node::File(file)) if file.hash == hash => {
                let is_equal = file.mode == signature.mode && file.modified == signature.modified;
                match is_equal {
                    true => step(None, Some(signature)),
                    // The mode or the times were changed here, which stays to be stored.
                    false if is_same || before.is_none() => None,
                    false => step(Some(signature.racy()), None),
                }
            }
            _ if incoming.has_version(path, hash) => step(Some(signature.racy()), None),
            // The log did not have the path, and does not have it. An interrupted application may
            // have put a version of a missed entry there.
            None if before.is_none() && !incoming.resumes => None,
            _ if incoming.missed_entries || !is_same => step(None, None),
            _ => None,
        },
        Local::ChangedOther if is_same && !incoming.missed_entries => None,
        Local::ChangedOther => target.is_some().then(|| step(None, None))?,
    }
}

/// Returns whether two nodes are equal for the working copy.
fn is_same_node(before: &Node, target: &Node) -> bool {
    match (before, target) {
        (Node::File(before), Node::File(target)) => {
            before.hash == target.hash
                && before.mode == target.mode
                && before.modified == target.modified
        }
        (before, target) => before == target,
    }
}
