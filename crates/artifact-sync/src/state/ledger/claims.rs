//! Claims: changes that batches are storing.

use crate::scan::{RecordedSignature, Signature};
use crate::state::ledger::{Batch, Claim, Ledger};

impl Ledger {
    /// Returns whether a batch is storing a change of the path.
    pub(crate) fn is_claimed(&self, path: &str) -> bool {
        self.claims.contains_key(path)
    }

    pub(crate) fn claimed(&self) -> impl Iterator<Item = &String> {
        self.claims.keys()
    }

    /// Returns the size of the files that batches are storing.
    pub(crate) fn claimed_bytes(&self) -> u64 {
        let claimed = self.claims.keys().filter_map(|path| self.local.get(path));
        claimed.map(|recorded| recorded.signature.size).fold(0, u64::saturating_add)
    }

    /// Begins a batch.
    pub(crate) fn begin_batch(&mut self) -> Batch {
        self.last_batch += 1;
        self.last_batch
    }

    /// Assigns the change of a path to a batch: `signature` is that of the changed file, or `None`
    /// for a removal. Scans no longer find the change, and an earlier batch no longer stores it.
    pub(crate) fn claim(&mut self, batch: Batch, path: &str, signature: Option<Signature>) {
        let current = match signature {
            Some(signature) => {
                // Only the upload reads the content, so a later write may keep this signature.
                let recorded = RecordedSignature { signature, is_racy: true };
                self.local.insert(path.to_owned(), recorded)
            }
            None => self.local.remove(path),
        };
        let before = match self.claims.remove(path) {
            Some(claim) => claim.before,
            None => current.map(Box::new),
        };
        self.claims.insert(path.to_owned(), Claim { batch, before });
    }

    /// Returns whether the change of a path still belongs to the batch.
    pub(crate) fn owns(&self, batch: Batch, path: &str) -> bool {
        self.claims.get(path).is_some_and(|claim| claim.batch == batch)
    }

    /// Ends a claim without storing the change, so that the next scan of the path finds it again.
    /// Returns `false` if the claim passed to another batch.
    pub(crate) fn give_up(&mut self, batch: Batch, path: &str) -> bool {
        if !self.owns(batch, path) {
            return false;
        }
        if let Some(Claim { before, .. }) = self.claims.remove(path) {
            match before {
                Some(before) => self.local.insert(path.to_owned(), *before),
                None => self.local.remove(path),
            };
        }
        true
    }

    /// Ends the claim of a batch on a path whose change needs no entry.
    pub(crate) fn release_claim(&mut self, batch: Batch, path: &str) {
        if self.owns(batch, path) {
            self.claims.remove(path);
        }
    }
}
