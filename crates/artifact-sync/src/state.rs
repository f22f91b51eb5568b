//! Durable record of the objects that the store holds.

mod entry;
mod index;
mod journal;
mod version;

pub(crate) use entry::{DirectoryId, Failure, IndexEntry, Origin, StoredFile};
pub(crate) use index::Index;
pub(crate) use version::Version;
