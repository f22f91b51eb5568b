//! Transfers between a directory and an object store.
//!
//! This module receives changes as data; it knows nothing of kernel events.

mod answer;
mod attributes;
mod blobs;
mod budget;
mod conditional;
mod content;
mod deletion;
mod disk;
mod fetch;
mod known;
mod links;
mod listing;
mod local;
mod multipart;
mod objects;
mod probe;
mod projection;
mod quirks;
mod remote;
mod store_error;
mod stores;

pub use budget::MemoryBudget;
pub(crate) use content::read_at;
#[cfg(feature = "_cloud")]
pub use deletion::presigned::PresignedDelete;
pub use deletion::{ConditionalDelete, ConditionalDeletion};
pub use links::{LinkError, LinkErrorKind, LinkTarget, Linker};
pub use listing::{Listed, list_pages};
pub(crate) use local::clear_place;
pub use local::sweep_local;
pub use multipart::{
    FreshUploadError, FreshUploads, OnStep, PartRecord, UploadRecord, UploadStep, Uploaded,
};
pub use objects::{Listing, Object, list_tree, put_object};
pub use probe::StoreProbe;
pub use quirks::{KeyLimits, projection_key_problem};
pub use store_error::{StoreError, StoreErrorKind};
pub use stores::{OpenedStore, StoreCapabilities, open_directory, open_store, store_directory};

pub(crate) use answer::answer_within;
pub use attributes::is_executable;
pub(crate) use blobs::{Blobs, ContentError, Placement, StoredContent, UploadJournal};
pub(crate) use disk::Disk;
pub(crate) use fetch::{Fetched, Fetcher};
pub(crate) use known::KnownContents;
pub(crate) use links::Links;
pub(crate) use multipart::PART_BYTES;
pub(crate) use projection::{Observed, Projected, Projection};
pub(crate) use quirks::{is_invalid_key_in_listing, is_on_local_disk};
pub(crate) use remote::Remote;
