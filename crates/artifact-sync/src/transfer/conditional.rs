//! Conditional writes: replace an object only if it still has the expected version.
//!
//! Some stores have no conditional puts, and some accept the condition but ignore it. A store is
//! therefore probed once, with a temporary object. If it ignores a condition, the key is checked
//! before the put, which leaves a moment in which another writer's version can be lost.

use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion,
};
use sandbox_core::STAGED_PREFIX;
use tokio::sync::OnceCell;

use crate::state::Version;

/// Object that a key is expected to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Version(Version),
}

/// Conditions that a store enforces. All mirrors of a store can share one value, so that the store
/// is probed once.
#[derive(Clone, Debug, Default)]
pub struct StoreProbe(Arc<OnceCell<Conditions>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conditions {
    /// A put only if the key is free.
    create: bool,
    /// A put only if the key holds one version.
    update: bool,
}

impl StoreProbe {
    /// Returns a put mode with which the store enforces the condition. Returns `None` if the caller
    /// must check the key first.
    pub(crate) async fn mode(
        &self,
        store: &dyn ObjectStore,
        prefix: &Key,
        expected: &Expected,
    ) -> Option<PutMode> {
        // If the probe fails, the next put tries again.
        let conditions = self.0.get_or_try_init(|| probe(store, prefix)).await.ok()?;
        match expected {
            Expected::Nothing => conditions.create.then_some(PutMode::Create),
            Expected::Version(version) if conditions.update && version.etag.is_some() => {
                let Version { etag, version } = version.clone();
                Some(PutMode::Update(UpdateVersion { e_tag: etag, version }))
            }
            Expected::Version(_) => None,
        }
    }
}

/// Probes a store with an object that mirrors ignore.
async fn probe(store: &dyn ObjectStore, prefix: &Key) -> Result<Conditions, Error> {
    let mut random = [0; 8];
    // Two concurrent probes of one key would report that no condition is enforced. Random keys only
    // avoid that, so a failure is ignored.
    let _ = getrandom::fill(&mut random);
    let key =
        prefix.clone().join(format!("{STAGED_PREFIX}probe-{:016x}", u64::from_le_bytes(random)));
    let put =
        |mode| store.put_opts(&key, "probe".into(), PutOptions { mode, ..PutOptions::default() });
    let first = match put(PutMode::Create).await {
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => None,
        first => Some(first?),
    };
    let probed = async {
        let create = first.is_some() && is_enforced(put(PutMode::Create).await)?;
        let stale = Version::from(match first {
            Some(first) => first,
            None => put(PutMode::Overwrite).await?,
        });
        let current = store.put(&key, "probed".into()).await?;
        let differs = stale.etag.is_some() && stale.etag != current.e_tag;
        let Version { etag, version } = stale;
        let update = differs
            && is_enforced(put(PutMode::Update(UpdateVersion { e_tag: etag, version })).await)?;
        Ok(Conditions { create, update })
    };
    let conditions = probed.await;
    // A leftover is small, and mirrors ignore it.
    let _ = store.delete(&key).await;
    if let Ok(Conditions { create, update }) = conditions
        && !(create && update)
    {
        tracing::info!(%store, create, update, "this store ignores some conditions of puts");
    }
    conditions
}

/// Returns whether the store rejected a put whose condition was not met.
fn is_enforced(put: Result<PutResult, Error>) -> Result<bool, Error> {
    match put {
        Ok(_) | Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(false),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(true),
        Err(error) => Err(error),
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
        (Err(Error::NotFound { .. }), expected) => Ok(*expected == Expected::Nothing),
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
