//! Record of a multipart upload, by which another process resumes or aborts it.

use object_store::multipart::PartId;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};

/// Multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UploadRecord {
    /// Key of the object.
    pub key: String,
    /// Name of the upload in the store.
    pub upload_id: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Size of every part but the last, in bytes.
    pub part_bytes: u64,
    /// Parts that the store holds, in the order of their acknowledgement.
    pub parts: Vec<PartRecord>,
}

/// Part that the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartRecord {
    /// Number of the part, from 0.
    pub number: u64,
    /// Name of the part in the store.
    pub part_id: String,
    /// BLAKE3 hash of the content from the beginning of the file to the end of this part, in
    /// hexadecimal. It covers the earlier parts too, so the content is hashed only once.
    pub hash: String,
}

/// Step of an upload, which the caller journals before anything else happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum UploadStep<'s> {
    /// The store has begun the upload. Replaces the record.
    Begun(&'s UploadRecord),
    /// The store holds one more part. Extends the record.
    PartSent(&'s PartRecord),
    /// The store holds the object, or the upload was aborted. Removes the record.
    Ended,
}

impl UploadRecord {
    /// Applies a step to the record that a journal holds.
    pub fn apply(record: &mut Option<Self>, step: UploadStep<'_>) {
        match (step, record) {
            (UploadStep::Begun(begun), record) => *record = Some(begun.clone()),
            (UploadStep::PartSent(part), Some(record)) => record.parts.push(part.clone()),
            (UploadStep::PartSent(_), None) => {}
            (UploadStep::Ended, record) => *record = None,
        }
    }

    /// Returns whether the record belongs to an upload of a file of this size to this key.
    pub(super) fn fits(&self, key: &Key, bytes: u64) -> bool {
        self.key == key.as_ref() && self.bytes == bytes && self.part_bytes > 0
    }

    pub(super) fn part_count(&self) -> u64 {
        self.bytes.div_ceil(self.part_bytes)
    }

    pub(super) fn part(&self, number: u64) -> Option<&PartRecord> {
        self.parts.iter().find(|part| part.number == number)
    }

    /// Returns the names of all parts in the order of the content, or `None` if one is missing.
    pub(super) fn part_ids(&self) -> Option<Vec<PartId>> {
        let mut parts: Vec<&PartRecord> = self.parts.iter().collect();
        parts.sort_by_key(|part| part.number);
        parts.dedup_by_key(|part| part.number);
        let is_complete = parts.iter().map(|part| part.number).eq(0..self.part_count());
        let id = |part: &PartRecord| PartId { content_id: part.part_id.clone() };
        is_complete.then(|| parts.into_iter().map(id).collect())
    }
}
