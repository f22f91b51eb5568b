//! Small objects and listings, with workarounds for single stores.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{Attributes, Error, ObjectMeta, ObjectStore, PutMode, PutOptions, PutResult};

use crate::report::RestoreFailure;
use crate::transfer::attributes::attributes;
use crate::transfer::listing::{Bounds, Listed, flatten, list_by_level};
use crate::transfer::quirks;

/// Objects below a prefix.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// Listed objects. They can include directory markers, without the closing slash.
    pub objects: Vec<ObjectMeta>,
    /// Directories of keys that the store cannot list, because they contain an invalid key.
    pub unlisted: Vec<RestoreFailure>,
}

/// Lists all objects below a prefix. An invalid key ends a store's own listing; the prefix is then
/// listed level by level, and only objects beside that key are lost.
///
/// # Errors
/// Returns the store's error.
pub async fn list_tree(store: &dyn ObjectStore, prefix: &Key) -> Result<Listing, Error> {
    match store.list(Some(prefix)).try_collect().await {
        Ok(objects) => return Ok(Listing { objects, unlisted: Vec::new() }),
        Err(error) if quirks::is_invalid_key_in_listing(&error) => {}
        Err(error) => return Err(error),
    }
    let mut listing = Listing::default();
    let mut found = flatten(list_by_level(store, None, prefix.clone(), Bounds::default()));
    while let Some(found) = found.try_next().await? {
        match found {
            Listed::Object(meta) => listing.objects.push(meta),
            Listed::Incomplete { prefix: key, reason } => {
                listing.unlisted.push(RestoreFailure { key, reason });
            }
            // Its directory is named.
            Listed::OddKey { .. } => {}
        }
    }
    Ok(listing)
}

/// Small object in memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// Content of the object.
    pub content: Bytes,
    /// Executable bit of the file.
    pub is_executable: bool,
}

/// Stores a small object, with its media type and executable bit if the store supports attributes.
///
/// # Errors
/// Returns the store's error, such as `AlreadyExists` if the key is taken and the mode is
/// [`PutMode::Create`].
pub async fn put_object(
    store: &dyn ObjectStore,
    key: &Key,
    object: Object,
    mode: PutMode,
) -> Result<PutResult, Error> {
    let attributes = attributes(key.as_ref(), object.is_executable);
    let put = |attributes: Attributes| {
        let options = PutOptions { attributes, mode: mode.clone(), ..PutOptions::default() };
        store.put_opts(key, object.content.clone().into(), options)
    };
    match put(attributes).await {
        Err(Error::NotImplemented { .. }) => put(Attributes::new()).await,
        other => other,
    }
}

impl Object {
    /// Creates an object to store.
    pub fn new(content: impl Into<Bytes>, is_executable: bool) -> Self {
        Self { content: content.into(), is_executable }
    }
}
