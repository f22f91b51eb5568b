//! Paths to which the log could not be applied, and the directory that holds them.

use std::collections::BTreeMap;

use crate::state::entry::{JournalEntry, Remains};
use crate::state::ledger::Ledger;

impl Ledger {
    /// Returns the paths to which the log could not be applied.
    pub(crate) fn unfollowed(&self) -> &BTreeMap<String, Remains> {
        &self.unfollowed
    }

    /// Returns the state of a path if no program has changed it.
    pub(crate) fn remains(&self, path: &str) -> Remains {
        match self.unfollowed.get(path) {
            Some(remains) => remains.clone(),
            None => Remains::of(self.log.nodes.get(path), self.local.get(path)),
        }
    }

    /// Forgets what was left at a path, because it is gone.
    pub(crate) fn forget_remains(&mut self, path: &str) {
        if self.unfollowed.contains_key(path) {
            self.record_remains(path, Remains::Nothing);
        }
    }

    /// Records what a path has that does not follow the log.
    pub(crate) fn record_remains(&mut self, path: &str, remains: Remains) {
        self.append(JournalEntry::Unfollowed { path: path.to_owned(), remains });
    }

    /// Returns whether a path has an old version of a file because a newer one of another machine
    /// could not be put in place. A change of it would undo that one unseen.
    pub(crate) fn is_outdated(&self, path: &str) -> bool {
        matches!(self.unfollowed.get(path), Some(Remains::File { .. }))
            && self.log.file(path).is_some()
    }

    pub(super) fn set_remains(&mut self, path: String, remains: Remains) {
        match &remains {
            Remains::File { signature, .. } => drop(self.local.insert(path.clone(), *signature)),
            _ => drop(self.local.remove(&path)),
        }
        self.unfollowed.insert(path, remains);
    }

    /// Returns whether the directory of the working copy was marked.
    pub(crate) fn is_marked(&self) -> bool {
        self.is_marked
    }

    pub(crate) fn set_marked(&mut self) {
        self.append(JournalEntry::Marked);
    }
}
