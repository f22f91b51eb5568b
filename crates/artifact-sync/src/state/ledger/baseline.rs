//! The ledger as the record that scans compare with.

use crate::log::Node;
use crate::paths::under;
use crate::scan::{Baseline, DirectoryEntry, RecordedSignature, SymlinkEntry};
use crate::state::entry::Remains;
use crate::state::ledger::Ledger;

/// Mode of a directory that needs no line in the log.
pub(crate) const USUAL_DIRECTORY_MODE: u16 = 0o755;

impl Baseline for Ledger {
    fn signature(&self, path: &str) -> Option<&RecordedSignature> {
        self.local(path)
    }

    fn recorded_under<'b>(
        &'b self,
        path: &str,
    ) -> impl Iterator<Item = (&'b str, &'b RecordedSignature)> {
        under(&self.local, path).map(|(path, signature)| (path.as_str(), signature))
    }

    fn uncertain(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    fn has_directory(&self, entry: &DirectoryEntry) -> bool {
        match (self.unfollowed.get(&entry.path), self.log.nodes.get(&entry.path)) {
            (Some(Remains::Directory { mode }), _) => *mode == entry.mode,
            (None, Some(Node::Directory { mode })) => *mode == entry.mode,
            _ => !entry.is_empty && entry.mode == USUAL_DIRECTORY_MODE,
        }
    }

    fn has_symlink(&self, entry: &SymlinkEntry) -> bool {
        match (self.unfollowed.get(&entry.path), self.log.nodes.get(&entry.path)) {
            (Some(Remains::Symlink { target }), _) => *target == entry.target,
            (None, Some(Node::Symlink { target })) => *target == entry.target,
            _ => false,
        }
    }

    fn recorded_others<'b>(&'b self, path: &str) -> impl Iterator<Item = &'b str> {
        under(&self.log.nodes, path)
            .filter(|(path, node)| {
                !matches!(node, Node::File(_)) && !self.unfollowed.contains_key(*path)
            })
            .map(|(path, _)| path.as_str())
    }
}
