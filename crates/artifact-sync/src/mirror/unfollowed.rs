//! Changes of paths to which the log could not be applied.

use sandbox_core::RelativePath;

use crate::log::Hash;
use crate::mirror::apply::hash_of;
use crate::mirror::shared::Shared;
use crate::scan::{Changes, Entry, StampTime};
use crate::state::{Failure, Remains};

/// Reason of changes that would undo a version of another machine.
pub(super) const OUTDATED: &str = "a newer version of another machine cannot be put in place here";

impl Shared {
    /// Takes out the changes of outdated files, and returns their paths. They stay pending until
    /// the newer version can be put in place, which keeps them beside.
    pub(super) async fn take_outdated(&self, changes: &mut Changes) -> Vec<String> {
        if self.ledger().unfollowed().is_empty() {
            return Vec::new();
        }
        self.take_untouched(changes).await;
        let mut ledger = self.ledger();
        let modified = changes.modified.iter().map(|entry| &entry.path);
        let paths = modified.chain(&changes.removed).filter(|path| ledger.is_outdated(path));
        let outdated: Vec<String> = paths.cloned().collect();
        changes.modified.retain(|entry| !outdated.contains(&entry.path));
        changes.removed.retain(|path| !outdated.contains(path));
        for path in &outdated {
            let failure = Failure { reason: OUTDATED.to_owned(), is_final: false };
            ledger.set_failed(path, failure);
        }
        outdated
    }

    /// Takes out the files that still have what was left in them.
    async fn take_untouched(&self, changes: &mut Changes) {
        let modified = std::mem::take(&mut changes.modified);
        for entry in modified {
            let left = match self.ledger().unfollowed().get(&entry.path) {
                Some(Remains::File { hash, .. }) => Some(*hash),
                _ => None,
            };
            let is_untouched = match left {
                Some(hash) => self.still_has(&entry, hash).await,
                None => false,
            };
            if !is_untouched {
                changes.modified.push(entry);
            }
        }
    }

    /// Compares the content of a file, and records its signature if it is the same.
    async fn still_has(&self, entry: &Entry, hash: Hash) -> bool {
        let now = StampTime::now();
        let is_same = hash_of(&self.dir, &entry.path).await == Some(hash);
        let unchanged = RelativePath::parse(&entry.path).is_ok_and(|path| {
            self.tracker.inspect(&path).find(&entry.path) == Some(&entry.signature)
        });
        if is_same && unchanged {
            let signature = entry.signature.recorded_at(now);
            self.ledger().record_remains(&entry.path, Remains::File { signature, hash });
        }
        is_same
    }
}
