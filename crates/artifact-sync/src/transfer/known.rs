//! Contents that the store holds already, so that nothing is uploaded for them.

use std::sync::Arc;

use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir};

use crate::log::{Content, Hash};
use crate::scan::{Entry, Signature};
use crate::transfer::blobs::{Blobs, Placement, StoredContent};
use crate::transfer::content::read_at;

/// Largest file that is read together with others.
const SMALL_BYTES: u64 = 64 << 10;

/// Contents that the store holds already.
pub(crate) trait KnownContents: Send + Sync {
    /// Returns whether a content of this size is known.
    fn has_size(&self, size: u64) -> bool;

    /// Returns a known content.
    fn find(&self, hash: &Hash) -> Option<Content>;
}

impl Blobs {
    /// Finds small files whose content is known, without a request. Returns them and the rest. Most
    /// files of a renamed directory are such, so one task reads them all.
    pub(crate) async fn find_small(
        &self,
        entries: Vec<Entry>,
        known: Arc<dyn KnownContents>,
    ) -> (Vec<(String, StoredContent)>, Vec<Entry>) {
        let may_be_known = |entry: &Entry| {
            entry.signature.size <= SMALL_BYTES && known.has_size(entry.signature.size)
        };
        let (candidates, mut rest): (Vec<_>, Vec<_>) = entries.into_iter().partition(may_be_known);
        if candidates.is_empty() {
            return (Vec::new(), rest);
        }
        let (dir, placement) = (Arc::clone(&self.dir), self.placement);
        let (found, others) = blocking(move || {
            let (mut found, mut others) = (Vec::new(), Vec::new());
            for entry in candidates {
                match find(&dir, &entry.path, placement, &*known) {
                    Some(stored) => found.push((entry.path, stored)),
                    None => others.push(entry),
                }
            }
            (found, others)
        })
        .await;
        rest.extend(others);
        (found, rest)
    }

    pub(super) fn find_known(&self, known: &dyn KnownContents, hash: &Hash) -> Option<Content> {
        usable(self.placement, known, hash)
    }
}

/// Returns the content of a file if it is known and the file did not change meanwhile.
fn find(
    dir: &SessionDir,
    path: &str,
    placement: Placement,
    known: &dyn KnownContents,
) -> Option<StoredContent> {
    let file = dir.open_file(&RelativePath::parse(path).ok()?).ok()?;
    let signature = Signature::record(&file).ok()?;
    let size = signature.signature.size;
    if size > SMALL_BYTES {
        return None;
    }
    let bytes = read_at(&file, 0, size).ok()?;
    if bytes.len() as u64 != size || Signature::of(&file).ok()? != signature.signature {
        return None;
    }
    let hash = Hash::of(&bytes);
    Some(StoredContent { signature, hash, content: usable(placement, known, &hash)? })
}

/// Returns a known content that a line may refer to.
fn usable(placement: Placement, known: &dyn KnownContents, hash: &Hash) -> Option<Content> {
    let is_usable =
        |content: &Content| placement == Placement::Compact || matches!(content, Content::Blob(_));
    known.find(hash).filter(is_usable)
}
