//! Directories and symlinks that differ from the log that the working copy follows.

use sandbox_core::SessionDir;

use crate::log::Node;
use crate::mirror::apply::Base;
use crate::mirror::incoming::Incoming;
use crate::scan::Changes;
use crate::state::USUAL_DIRECTORY_MODE;

/// Returns the symlinks of the base that became directories. A scan does not report those with
/// files, because such directories need no line in the log.
pub(super) fn filled_symlinks(dir: &SessionDir, incoming: &Incoming, base: &Base) -> Vec<String> {
    let is_planned = |path: &String| {
        incoming.touched.as_ref().is_none_or(|touched| touched.contains(path))
            || base.unfollowed.contains(path)
    };
    let is_directory = |path: &String| {
        let found = std::fs::symlink_metadata(dir.path().join(path));
        found.is_ok_and(|found| found.is_dir())
    };
    let symlinks = base.nodes.iter().filter(|(_, node)| matches!(node, Node::Symlink { .. }));
    let paths = symlinks.map(|(path, _)| path);
    paths.filter(|path| is_planned(path) && is_directory(path)).cloned().collect()
}

/// Returns changed directories and symlinks that an interrupted application has put in place.
/// `filled` are symlinks that became directories.
pub(super) fn others_in_place(
    incoming: &Incoming,
    changes: &Changes,
    filled: Vec<String>,
) -> Vec<(String, Node)> {
    let filled = filled.into_iter().map(|path| (path, USUAL_DIRECTORY_MODE));
    let empty = changes.directories.iter().filter(|entry| entry.is_empty);
    let empty = empty.map(|entry| (entry.path.clone(), entry.mode));
    let directories = filled.chain(empty).map(|(path, mode)| (path, Node::Directory { mode }));
    let symlinks = changes.symlinks.iter();
    let symlinks =
        symlinks.map(|entry| (entry.path.clone(), Node::Symlink { target: entry.target.clone() }));
    let others = directories.chain(symlinks);
    others.filter(|(path, node)| incoming.has_other_version(path, node)).collect()
}
