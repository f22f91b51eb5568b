//! Conditional writes: replace an object only if it still has the expected version.
//!
//! If a store ignores a condition, the key is checked before the put. This leaves a moment in which
//! another writer's version can be lost.

use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};

use crate::state::Version;
use crate::transfer::probe::StoreProperties;
use crate::transfer::quirks::is_absent;

/// Object that a key is expected to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Version(Version),
}

/// Returns a put mode with which the store enforces the condition. Returns `None` if the caller
/// must check the key first.
pub(crate) fn mode(properties: &StoreProperties, expected: &Expected) -> Option<PutMode> {
    match expected {
        Expected::Nothing => properties.create.then_some(PutMode::Create),
        Expected::Version(version) if properties.update && version.etag.is_some() => {
            let Version { etag, version } = version.clone();
            Some(PutMode::Update(UpdateVersion { e_tag: etag, version }))
        }
        Expected::Version(_) => None,
    }
}

/// Returns whether a key holds the expected object, by a HEAD request.
pub(crate) async fn holds(
    store: &dyn ObjectStore,
    key: &Key,
    expected: &Expected,
) -> Result<bool, Error> {
    // A store without ETags cannot distinguish versions.
    if matches!(expected, Expected::Version(version) if version.etag.is_none()) {
        return Ok(true);
    }
    match (store.head(key).await, expected) {
        (Ok(meta), Expected::Version(version)) => Ok(version.is(&Version::from(&meta))),
        (Ok(_), Expected::Nothing) => Ok(false),
        (Err(error), expected) if is_absent(&error) => Ok(*expected == Expected::Nothing),
        (Err(error), _) => Err(error),
    }
}

/// Returns whether a put failed because the key holds another object than expected.
pub(crate) fn is_conflict(error: &Error, mode: &PutMode) -> bool {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => true,
        // S3 answers so if the object was deleted.
        Error::NotFound { .. } => matches!(mode, PutMode::Update(_)),
        _ => false,
    }
}
