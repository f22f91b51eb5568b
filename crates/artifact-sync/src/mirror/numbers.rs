//! Numbers of entries that a caller gives: whether the log has them, and their nodes here.

use sandbox_core::RelativePath;

use crate::error::SyncError;
use crate::log::{LogStore, Node};
use crate::mirror::shared::Shared;

/// Returns the error for an entry whose state is not retained.
pub(super) async fn not_retained(log: &LogStore, number: u64) -> SyncError {
    match log.describe_retained(|_, _, entry| Some(entry.number)).await {
        Ok(numbers) => match (numbers.first(), numbers.last()) {
            (Some(&oldest), Some(&last)) if number <= last => {
                SyncError::NotRetained { number, oldest, last }
            }
            (oldest, last) => {
                let [oldest, last] = [oldest, last].map(|number| number.copied().unwrap_or(0));
                SyncError::NoEntry { number, oldest, last }
            }
        },
        Err(source) => SyncError::Log { source },
    }
}

/// Returns the error for an entry of which no removal is known.
pub(super) async fn no_removal(log: &LogStore, number: u64) -> SyncError {
    match not_retained(log, number).await {
        SyncError::NotRetained { oldest, .. } if number >= oldest => {
            SyncError::NoRemoval { number }
        }
        error => error,
    }
}

impl Shared {
    /// Returns whether the log and the working copy have this file or symlink at a path. The time
    /// of a file does not matter.
    pub(super) fn has_node(&self, path: &RelativePath, node: &Node) -> bool {
        let current = {
            let ledger = self.ledger();
            if ledger.unfollowed().contains_key(path.as_str()) {
                return false;
            }
            ledger.log().nodes.get(path.as_str()).cloned()
        };
        match (current, node) {
            (Some(Node::File(current)), Node::File(file)) => {
                (current.hash, current.mode) == (file.hash, file.mode)
                    && self.unchanged(path).is_some()
            }
            (Some(Node::Symlink { target: current }), Node::Symlink { target }) => {
                let link = std::fs::read_link(self.dir.path().join(path));
                current == *target && link.is_ok_and(|link| link.as_os_str() == target.as_str())
            }
            _ => false,
        }
    }
}
