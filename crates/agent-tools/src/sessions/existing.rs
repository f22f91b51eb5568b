//! The check whether a session exists, on this machine or in the store.

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{LogView, SyncError};
use object_store::path::Path as Key;
use sandbox_core::{SessionId, UserId};

use super::Sessions;

impl Sessions {
    /// Returns whether anything of a session of this user exists: on this machine, where the store
    /// is not asked, or in the store. A deleted session does not exist. Creates nothing. A store
    /// that does not answer within the patience of the sessions may have it.
    ///
    /// # Errors
    /// Returns [`SyncError`] if the store fails.
    pub async fn exists(&self, id: &SessionId, user: &UserId) -> Result<bool, SyncError> {
        let home = self.home();
        if home.local_state(id).is_some() || home.has_state(id) {
            return Ok(true);
        }
        let Some(storage) = self.opener.backends().storage else { return Ok(false) };
        let keys = storage.session_keys(user, id);
        let patience = self.opener.settings.patience.unwrap_or(Duration::MAX);
        let has_objects = async |prefix: &Key| {
            let listed = storage.store.list_with_delimiter(Some(prefix)).await;
            let failed = |source| SyncError::List { prefix: prefix.to_string(), source };
            let listed = listed.map_err(failed)?;
            Ok::<_, SyncError>(!listed.objects.is_empty() || !listed.common_prefixes.is_empty())
        };
        let search = async {
            if has_objects(&keys.projection).await? {
                return Ok(true);
            }
            if !has_objects(&keys.log).await? {
                return Ok(false);
            }
            // A deleted session leaves a log that says so.
            let store = Arc::clone(&storage.store);
            let view = LogView::open_within(store, keys.clone(), None, patience).await;
            Ok(!matches!(view, Err(SyncError::Erased)))
        };
        tokio::time::timeout(patience, search).await.unwrap_or(Ok(true))
    }
}
