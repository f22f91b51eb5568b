//! Single objects and listings, with what the oddities of stores ask for.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{
    Attributes, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult,
};
use sandbox_core::with_causes;

use crate::attributes::{attributes, is_executable};
use crate::index::Origin;
use crate::report::RestoreFailure;

/// The objects under a prefix.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// All that could be listed. A directory marker may be among them, without its slash.
    pub objects: Vec<ObjectMeta>,
    /// Directories of keys that the store cannot list, because a key in them is no path.
    pub unlisted: Vec<RestoreFailure>,
}

/// Lists everything under a prefix. One key that is no path ends a store's own listing; then only
/// its directory is lost.
///
/// # Errors
/// What the store says, when it lists nothing at all.
pub async fn list_tree(store: &dyn ObjectStore, prefix: &Key) -> Result<Listing, Error> {
    match store.list(Some(prefix)).try_collect().await {
        Ok(objects) => Ok(Listing { objects, unlisted: Vec::new() }),
        Err(Error::InvalidPath { .. } | Error::Generic { store: "LocalFileSystem", .. }) => {
            list_level_by_level(store, prefix).await
        }
        Err(error) => Err(error),
    }
}

async fn list_level_by_level(store: &dyn ObjectStore, top: &Key) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let mut rest = vec![top.clone()];
    while let Some(prefix) = rest.pop() {
        match store.list_with_delimiter(Some(&prefix)).await {
            Ok(level) => {
                listing.objects.extend(level.objects);
                let below = level.common_prefixes.into_iter();
                rest.extend(below.filter(|below| below.as_ref().len() > prefix.as_ref().len()));
            }
            Err(error) if prefix == *top => return Err(error),
            Err(error) => listing
                .unlisted
                .push(RestoreFailure { key: format!("{prefix}/"), reason: with_causes(&error) }),
        }
    }
    Ok(listing)
}

/// A whole object.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// Its content.
    pub content: Bytes,
    /// Whether it was stored as a program.
    pub is_executable: bool,
}

/// Fetches a small object whole.
///
/// # Errors
/// What the store says.
pub async fn get_object(store: &dyn ObjectStore, key: &Key) -> Result<Object, Error> {
    let got = store.get(key).await?;
    let is_executable = is_executable(&got.attributes);
    Ok(Object { content: got.bytes().await?, is_executable })
}

/// Stores a small object, with its media type and whether it is a program where the store keeps
/// attributes.
///
/// # Errors
/// What the store says; with [`PutMode::Create`], `AlreadyExists` when the key is taken.
pub async fn put_object(
    store: &dyn ObjectStore,
    key: &Key,
    object: Object,
    mode: PutMode,
) -> Result<PutResult, Error> {
    let attributes = attributes(key.as_ref(), object.is_executable, Origin::Remote);
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
    /// An object to be stored.
    pub fn new(content: impl Into<Bytes>, is_executable: bool) -> Self {
        Self { content: content.into(), is_executable }
    }
}
