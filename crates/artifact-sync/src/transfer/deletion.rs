//! Deletion of an object only if it still has one version.
//!
//! `object_store` has no conditional delete. A request for the removal of an old version can be
//! late; without a condition it would remove what another writer has stored meanwhile.

use std::fmt;

use async_trait::async_trait;
use object_store::path::Path as Key;
use object_store::{Error, UpdateVersion};

#[cfg(feature = "_cloud")]
pub(crate) mod presigned;

/// Deletion of single versions, on a store that checks the version.
#[async_trait]
pub trait ConditionalDelete: fmt::Debug + Send + Sync {
    /// Deletes an object if it still has this version.
    ///
    /// # Errors
    /// Returns the store's error. The object may be deleted nevertheless, and a retry is safe.
    async fn delete_if(
        &self,
        key: &Key,
        version: &UpdateVersion,
    ) -> Result<ConditionalDeletion, Error>;
}

/// Outcome of a conditional deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionalDeletion {
    /// The object no longer exists.
    Deleted,
    /// The object has another version and was kept. Many servers answer the same if the object no
    /// longer exists; a HEAD request tells the difference.
    OtherVersion,
    /// The store cannot check this version of this key. Nothing was sent, or nothing was deleted.
    NotSupported,
}
