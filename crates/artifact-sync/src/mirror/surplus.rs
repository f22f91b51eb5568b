//! Limit on the bytes that are queued for upload.

use crate::mirror::shared::Shared;
use crate::scan::Changes;
use crate::state::Failure;

impl Shared {
    /// Takes out changed files for which the queue has no room, and returns their paths with the
    /// reason. They stay pending, and the background stores them once earlier ones are stored.
    ///
    /// An empty queue has room for a file of any size.
    pub(super) fn take_surplus(&self, changes: &mut Changes) -> Vec<(String, String)> {
        if changes.modified.is_empty() {
            return Vec::new();
        }
        let mut ledger = self.ledger();
        let mut queued = ledger.claimed_bytes();
        let mut surplus = Vec::new();
        changes.modified.retain(|entry| {
            let recorded = ledger.local(&entry.path).map(|recorded| recorded.signature);
            if ledger.is_claimed(&entry.path) && recorded == Some(entry.signature) {
                // A batch is storing it, and it counts already.
                return true;
            }
            let size = entry.signature.size;
            let fits = queued == 0 || queued.saturating_add(size) <= self.max_queued_bytes;
            if fits {
                queued = queued.saturating_add(size);
            } else {
                surplus.push(entry.path.clone());
            }
            fits
        });
        if surplus.is_empty() {
            return Vec::new();
        }
        let reason = format!("more than {} bytes would wait for upload", self.max_queued_bytes);
        for path in &surplus {
            ledger.set_failed(path, Failure { reason: reason.clone(), is_final: false });
        }
        surplus.into_iter().map(|path| (path, reason.clone())).collect()
    }
}
