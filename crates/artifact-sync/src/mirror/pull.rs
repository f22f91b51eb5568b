//! Fetching of one object by its key.

use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;

use crate::error::SyncError;
use crate::keys;
use crate::mirror::Mirror;
use crate::paths::parents;
use crate::transfer::answer_within;

impl Mirror {
    /// Adopts the external version of one object, given its complete key, and returns the path of
    /// the file. Returns `None` for a directory marker.
    ///
    /// # Errors
    /// Returns [`SyncError::ForeignKey`], [`SyncError::UnsafeKey`] or [`SyncError::NotMirrored`] if
    /// the key must not be fetched, and [`SyncError::NoObject`] if the store does not have it.
    /// Returns [`SyncError::LocalChange`] if the file has a change that is not in the store, and
    /// [`SyncError::Occupied`] if a file or a symlink is above it. Returns other
    /// variants if the store or the disk fails.
    ///
    /// # Cancel safety
    /// Like [`Mirror::refresh`].
    pub async fn pull_key(&self, key: &str) -> Result<Option<RelativePath>, SyncError> {
        let shared = &self.shared;
        let _call = self.enter().await?;
        let unsafe_key = |reason: String| SyncError::UnsafeKey { key: key.to_owned(), reason };
        let Some(projection) = &shared.projection else {
            return Err(unsafe_key("the session has no projection".to_owned()));
        };
        let prefix = projection.remote.prefix();
        let foreign = || SyncError::ForeignKey { key: key.to_owned(), prefix: prefix.clone() };
        let parsed = Key::parse(key).map_err(|error| unsafe_key(error.to_string()))?;
        if key.starts_with('/') {
            return Err(foreign());
        }
        if parsed == *prefix {
            return if key.ends_with('/') { Ok(None) } else { Err(foreign()) };
        }
        let below = keys::strip_prefix(prefix, &parsed).ok_or_else(foreign)?;
        let path = keys::safe_path(below).map_err(unsafe_key)?;
        if key.ends_with('/') {
            return Ok(None);
        }
        if shared.rules.covers(path.as_str()) {
            return Err(SyncError::NotMirrored { path });
        }
        let is_no_directory = |above: &&str| {
            let at = std::fs::symlink_metadata(shared.dir.path().join(above));
            at.is_ok_and(|at| !at.is_dir())
        };
        if let Some(by) = parents(path.as_str()).filter(is_no_directory).last() {
            return Err(shared.occupied(&path, by));
        }
        let current = shared.tracker.inspect(&path);
        let is_absent = !current.has(path.as_str()) && current.skipped.is_empty();
        if !is_absent && shared.unchanged(&path).is_none() {
            return Err(SyncError::LocalChange { path });
        }
        let store = projection.remote.store();
        let head = answer_within(shared.patience, store, store.head(&parsed)).await;
        head.map_err(|source| match source {
            object_store::Error::NotFound { .. } => SyncError::NoObject { key: key.to_owned() },
            source => SyncError::Fetch { key: key.to_owned(), source },
        })?;
        let paths = BTreeSet::from([path.as_str().to_owned()]);
        let report = shared.refresh_paths(paths).await?;
        match report.failed.into_iter().next() {
            Some(failed) => Err(SyncError::Damaged { path, problem: failed.reason }),
            None => Ok(Some(path)),
        }
    }
}
