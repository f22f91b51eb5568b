//! Writing to a key only while it holds what is believed to be there.
//!
//! Stores have conditional puts, or have none, or say that they have and ignore the condition. So a
//! store is probed once, with an object of its own; where a condition is not kept, the key is
//! looked at before the put, which leaves a moment for another writer.

use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion,
};
use sandbox_core::STAGED_PREFIX;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// Which object stands under a key, as the store tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) etag: Option<String>,
    /// A generation number, where the store counts (GCS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

impl Version {
    /// Whether both are known to be the same object.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.etag.is_some() && self.etag == other.etag
    }
}

impl From<&ObjectMeta> for Version {
    fn from(meta: &ObjectMeta) -> Self {
        Self { etag: meta.e_tag.clone(), version: meta.version.clone() }
    }
}

impl From<PutResult> for Version {
    fn from(put: PutResult) -> Self {
        Self { etag: put.e_tag, version: put.version }
    }
}

/// What is believed to stand under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    This(Version),
}

/// Which conditions a store keeps. One value may be shared by all mirrors of a store, so that it is
/// probed once.
#[derive(Clone, Debug, Default)]
pub struct StoreProbe(Arc<OnceCell<Conditions>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conditions {
    /// Putting only where nothing is.
    create: bool,
    /// Putting only in the place of one version.
    update: bool,
}

impl StoreProbe {
    /// How to put so that the store itself keeps the condition; `None` where the key must be looked
    /// at first.
    pub(crate) async fn mode(
        &self,
        store: &dyn ObjectStore,
        prefix: &Key,
        expected: &Expected,
    ) -> Option<PutMode> {
        // What cannot be found out now is tried again by the next put.
        let conditions = self.0.get_or_try_init(|| probe(store, prefix)).await.ok()?;
        match expected {
            Expected::Nothing => conditions.create.then_some(PutMode::Create),
            Expected::This(version) if conditions.update && version.etag.is_some() => {
                let Version { etag, version } = version.clone();
                Some(PutMode::Update(UpdateVersion { e_tag: etag, version }))
            }
            Expected::This(_) => None,
        }
    }
}

/// Finds out with an object that mirrors leave alone.
async fn probe(store: &dyn ObjectStore, prefix: &Key) -> Result<Conditions, Error> {
    let mut random = [0; 8];
    // Without random numbers two probes at one time could meet, and then say that nothing is kept.
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
        let create = first.is_some() && is_kept(put(PutMode::Create).await)?;
        let stale = Version::from(match first {
            Some(first) => first,
            None => put(PutMode::Overwrite).await?,
        });
        let current = store.put(&key, "probed".into()).await?;
        let differs = stale.etag.is_some() && stale.etag != current.e_tag;
        let Version { etag, version } = stale;
        let update =
            differs && is_kept(put(PutMode::Update(UpdateVersion { e_tag: etag, version })).await)?;
        Ok(Conditions { create, update })
    };
    let conditions = probed.await;
    // A leftover is small, and hidden from listings of a mirror.
    let _ = store.delete(&key).await;
    if let Ok(Conditions { create, update }) = conditions
        && !(create && update)
    {
        tracing::info!(%store, create, update, "not every condition on a put is kept by this store");
    }
    conditions
}

/// Whether a put whose condition was not met was refused for that.
fn is_kept(put: Result<PutResult, Error>) -> Result<bool, Error> {
    match put {
        Ok(_) | Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(false),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a key holds what is expected, by a look at it.
pub(crate) async fn holds(
    store: &dyn ObjectStore,
    key: &Key,
    expected: &Expected,
) -> Result<bool, Error> {
    // Nothing tells objects apart here.
    if matches!(expected, Expected::This(version) if version.etag.is_none()) {
        return Ok(true);
    }
    match (store.head(key).await, expected) {
        (Ok(meta), Expected::This(version)) => Ok(version.is(&Version::from(&meta))),
        (Ok(_), Expected::Nothing) => Ok(false),
        (Err(Error::NotFound { .. }), expected) => Ok(*expected == Expected::Nothing),
        (Err(error), _) => Err(error),
    }
}

/// Whether a put was refused because the key holds something else than was expected.
pub(crate) fn is_conflict(error: &Error, mode: &PutMode) -> bool {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => true,
        // S3 says so of an object that is gone.
        Error::NotFound { .. } => matches!(mode, PutMode::Update(_)),
        _ => false,
    }
}
