//! Homes that own sessions in a store.

use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::SyncError;
use crate::owners::{Beat, DIRECTORY};

/// Heartbeats that are read at once.
const READS_AT_ONCE: usize = 16;

/// Heartbeat of a home, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OwnerReport {
    /// Identity of the home.
    pub home: String,
    /// Address of the home, if it has one.
    pub url: Option<String>,
    /// Text of the last beat; each beat has another one. Empty if the heartbeat cannot be read.
    pub beat: String,
    /// Time of the last beat by the store's clock.
    pub last_modified: SystemTime,
}

/// Returns the heartbeats of all homes below the application's prefix, by home.
///
/// # Errors
/// Returns [`SyncError::List`] if the store cannot be asked.
pub async fn owners(store: &dyn ObjectStore, prefix: &Key) -> Result<Vec<OwnerReport>, SyncError> {
    let prefix = prefix.clone().join(DIRECTORY);
    let failed = |source| SyncError::List { prefix: prefix.to_string(), source };
    let listing = match store.list_with_delimiter(Some(&prefix)).await {
        Err(Error::NotFound { .. }) => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let reports = futures::stream::iter(listing.objects)
        .map(|meta| read(store, meta))
        .buffered(READS_AT_ONCE)
        .try_filter_map(async |report| Ok(report));
    let mut reports: Vec<OwnerReport> = reports.try_collect().await.map_err(failed)?;
    reports.sort_by(|a, b| a.home.cmp(&b.home));
    Ok(reports)
}

async fn read(store: &dyn ObjectStore, meta: ObjectMeta) -> Result<Option<OwnerReport>, Error> {
    let content = match store.get(&meta.location).await {
        Ok(got) => got.bytes().await?,
        // The home has just ended.
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let beat: Option<Beat> = serde_json::from_slice(&content).ok();
    let (url, beat) = beat.map(|beat| (beat.url, beat.beat)).unwrap_or_default();
    let home = meta.location.filename().unwrap_or_default().to_owned();
    Ok(Some(OwnerReport { home, url, beat, last_modified: meta.last_modified.into() }))
}
