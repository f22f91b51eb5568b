//! The check whether a session exists, on this machine or in the store.

use std::time::Duration;

use artifact_sync::SyncError;
use sandbox_core::{SessionId, UserId};

use super::Sessions;

impl Sessions {
    /// Returns whether anything of a session of this user exists: on this machine, where the store
    /// is not asked, or in the store. Creates nothing. A store that does not answer within the
    /// patience of the sessions may have it.
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
        let search = async {
            for prefix in [&keys.projection, &keys.log] {
                let listed = storage.store.list_with_delimiter(Some(prefix)).await;
                let prefix = prefix.to_string();
                let listed = listed.map_err(|source| SyncError::List { prefix, source })?;
                if !listed.objects.is_empty() || !listed.common_prefixes.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        tokio::time::timeout(patience, search).await.unwrap_or(Ok(true))
    }
}
