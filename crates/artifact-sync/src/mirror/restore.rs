//! Fetching from the store into the directory.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::error::SyncError;
use crate::keys;
use crate::mirror::Mirror;
use crate::report::RestoreReport;
use crate::transfer::{Listing, fetch_all, forget_missing, list_tree, plan};

impl Mirror {
    /// Fetches objects that the directory lacks.
    ///
    /// Local files win: a present file is replaced only if the store has a newer version and the
    /// file has not changed. A file that was removed here is not fetched again. A recreated
    /// directory gets everything except files that were removed on purpose. The report names
    /// objects that could not be fetched.
    ///
    /// # Errors
    /// Returns [`SyncError::List`] if the store cannot be listed.
    ///
    /// # Cancel safety
    /// Each file is either complete or absent, and the next call fetches the rest.
    pub async fn restore(&self) -> Result<RestoreReport, SyncError> {
        let shared = &self.shared;
        let (files, rules) = (&shared.applier.files, &shared.applier.rules);
        let _turn = shared.turn.lock().await;
        let (store, prefix) = (files.remote().store(), files.remote().prefix());
        let listing = list_tree(store, prefix).await;
        let Listing { objects, unlisted } =
            listing.map_err(|source| SyncError::List { prefix: prefix.to_string(), source })?;
        let (snapshot, changed) = {
            let shared = Arc::clone(shared);
            blocking(move || shared.walk_and_compare()).await
        };
        let is_unchanged = |path: &str| !changed.contains(path);
        let plan = plan(prefix, &objects, &snapshot, &files.index(), rules, is_unchanged);
        if unlisted.is_empty() {
            let forgotten = forget_missing(prefix, &objects, &mut files.index());
            // No event names these files, but they must be stored again.
            forgotten.iter().for_each(|path| shared.tracker.mark_dirty(path));
        }
        Ok(fetch_all(files, plan, unlisted, shared.applier.progress.as_deref()).await)
    }

    /// Fetches new objects and newer versions while the session is open, like [`Mirror::restore`].
    ///
    /// # Errors
    /// Like [`Mirror::restore`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::restore`].
    pub async fn refresh(&self) -> Result<RestoreReport, SyncError> {
        self.restore().await
    }

    /// Fetches one object by its complete key and returns the path of the file. Returns `None` for
    /// a directory marker.
    ///
    /// # Errors
    /// Returns [`SyncError::ForeignKey`], [`SyncError::UnsafeKey`] or [`SyncError::NotMirrored`] if
    /// the key must not be fetched. Returns [`SyncError::LocalChange`] if the file has a change
    /// that is not in the store. Returns other variants if the store or the disk fails.
    ///
    /// # Cancel safety
    /// Like [`Mirror::restore`].
    pub async fn pull_key(&self, key: &str) -> Result<Option<RelativePath>, SyncError> {
        let shared = &self.shared;
        let (files, rules) = (&shared.applier.files, &shared.applier.rules);
        let prefix = files.remote().prefix();
        let unsafe_key = |reason: String| SyncError::UnsafeKey { key: key.to_owned(), reason };
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
        if rules.covers(path.as_str()) {
            return Err(SyncError::NotMirrored { path });
        }
        let _turn = shared.turn.lock().await;
        let current = shared.tracker.inspect(&path);
        let is_replaceable = match current.find(path.as_str()).copied() {
            Some(signature) => {
                let (shared, path) = (Arc::clone(shared), path.clone());
                blocking(move || shared.applier.files.is_unchanged(path.as_str(), &signature)).await
            }
            None => current.skipped.is_empty(),
        };
        if !is_replaceable {
            return Err(SyncError::LocalChange { path });
        }
        let head = files.remote().store().head(&parsed).await;
        let meta = head.map_err(|source| SyncError::Fetch { key: key.to_owned(), source })?;
        files.fetch(&path, &meta).await?;
        Ok(Some(path))
    }
}
