//! The files of one session, with or without a sandbox: its directory, its state and its mirror.

mod error;

use std::path::Path;
use std::sync::Arc;

use artifact_sync::{
    ChangeSourceReport, IgnoreRules, Mirror, Pending, Progress, RestoreReport, Skipped, SyncReport,
};
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir, SessionId, UserId};
use serde::{Deserialize, Serialize};
use skill_store::SKILLS_DIRECTORY;

use crate::home::{Home, SessionState};
use crate::storage::Storage;

pub use self::error::{CloseError, TransferError, WorkspaceError};

/// The files of one session. No other process can open them until this value is dropped.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) id: SessionId,
    pub(crate) user: Option<UserId>,
    pub(crate) dir: Arc<SessionDir>,
    pub(crate) state: SessionState,
    pub(crate) mirror: Option<Mirror>,
    storage: Option<Storage>,
}

/// Treatment of stored copies whose files were deleted locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemovalMode {
    /// Keeps the stored copies if suspiciously many files were deleted at once.
    HoldBackMany,
    /// Deletes all stored copies.
    ApplyAll,
}

/// The parts of the host that workspaces are connected to.
#[derive(Clone, Copy)]
pub(crate) struct Backends<'s> {
    pub(crate) storage: Option<&'s Storage>,
    pub(crate) progress: Option<&'s Arc<dyn Progress>>,
    /// Rules for files that are not mirrored, instead of the default list.
    pub(crate) ignore: Option<&'s IgnoreRules>,
}

/// A workspace that was opened, and how that went.
pub(crate) struct OpenedWorkspace {
    pub(crate) workspace: Workspace,
    /// True if this call created the session directory.
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

impl Workspace {
    /// Opens a session's files.
    ///
    /// If the session is not on this machine, creates its directory and restores it from the store.
    /// Otherwise the local files win, and only new objects are fetched.
    pub(crate) async fn open(
        home: &Home,
        backends: Backends<'_>,
        state: SessionState,
        id: &SessionId,
        user: Option<&UserId>,
    ) -> Result<OpenedWorkspace, WorkspaceError> {
        state.claim(id, user)?;
        let path = home.session_dir(id);
        let created = !path.exists();
        let mut workspace = Workspace {
            id: id.clone(),
            user: user.cloned(),
            dir: Arc::new(SessionDir::create(&path)?),
            state,
            mirror: None,
            storage: None,
        };
        let mut warnings = Vec::new();
        if let (Some(storage), Some(user)) = (backends.storage, user) {
            let mirror = workspace.open_mirror(storage, backends, user)?;
            match mirror.restore().await {
                Ok(report) => warnings.extend(report.problems()),
                // Local files are complete without the store.
                Err(error) if !created => {
                    let cause = sandbox_core::with_causes(&error);
                    warnings.push(format!("nothing could be fetched from the store: {cause}"));
                }
                Err(source) => {
                    workspace.discard().await;
                    return Err(WorkspaceError::Restore { source });
                }
            }
            workspace.mirror = Some(mirror);
            workspace.storage = Some(storage.clone());
        }
        Ok(OpenedWorkspace { workspace, created, warnings })
    }

    /// Opens the files of a session that is on this machine, as its user. Fetches nothing.
    pub(crate) fn open_existing(
        home: &Home,
        backends: Backends<'_>,
        state: SessionState,
        id: &SessionId,
    ) -> Result<Workspace, WorkspaceError> {
        let path = home.session_dir(id);
        if !path.exists() {
            return Err(WorkspaceError::NoSession { id: id.clone(), path });
        }
        let user = state.user()?;
        let dir = Arc::new(SessionDir::open(&path)?);
        let mut workspace =
            Workspace { id: id.clone(), user, dir, state, mirror: None, storage: None };
        if let (Some(storage), Some(user)) = (backends.storage, workspace.user.clone()) {
            workspace.mirror = Some(workspace.open_mirror(storage, backends, &user)?);
            workspace.storage = Some(storage.clone());
        }
        Ok(workspace)
    }

    fn open_mirror(
        &self,
        storage: &Storage,
        backends: Backends<'_>,
        user: &UserId,
    ) -> Result<Mirror, WorkspaceError> {
        let prefix = storage.session_prefix(user, &self.id);
        let mut mirror = Mirror::builder(Arc::clone(&self.dir), Arc::clone(&storage.store), prefix)
            .state_dir(self.state.mirror_dir())
            .probe(storage.probe.clone())
            .capabilities(storage.capabilities.clone())
            .exclude(SKILLS_DIRECTORY);
        if let Some(linker) = &storage.linker {
            mirror = mirror.linker(Arc::clone(linker));
        }
        if let Some(rules) = backends.ignore {
            mirror = mirror.ignore(rules.clone());
        }
        if let Some(progress) = backends.progress {
            mirror = mirror.progress(Arc::clone(progress));
        }
        mirror.open().map_err(|source| WorkspaceError::Mirror { source })
    }

    /// Removes the session from this machine after opening it failed. The store is not changed.
    pub(crate) async fn discard(&self) {
        let _ = self.remove().await;
    }

    async fn remove(&self) -> Result<(), CloseError> {
        let dir = SessionDir::open(self.dir.path())?;
        blocking(move || dir.remove_all()).await?;
        Ok(self.state.disclaim()?)
    }

    /// Returns a key as callers see it: `<bucket>/<full key>`.
    pub(crate) fn display_key(&self, key: &Key) -> String {
        match &self.storage {
            Some(storage) => format!("{}/{key}", storage.name),
            None => key.to_string(),
        }
    }

    /// Returns the changes that are not in the store yet, with reasons.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        self.mirror.as_ref().map(Mirror::pending).unwrap_or_default()
    }

    /// Returns the way in which changes of files are detected, and the reason if that is not by
    /// events; `None` without a store.
    pub(crate) fn change_source(&self) -> Option<ChangeSourceReport> {
        self.mirror.as_ref().map(Mirror::change_source)
    }

    /// Returns the user who owns the session.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Returns the session directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Fetches objects that are new in the store, and newer versions of files that did not change
    /// locally.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store cannot be listed.
    pub(crate) async fn refresh(&self) -> Result<RestoreReport, TransferError> {
        self.mirror()?.refresh().await.map_err(|source| TransferError::Mirror { source })
    }

    /// Uploads local changes. If the store fails, the report lists them as pending.
    ///
    /// # Errors
    /// Returns [`TransferError::NoStore`] if the session has no store.
    pub(crate) async fn sync(&self, removals: RemovalMode) -> Result<SyncReport, TransferError> {
        let mirror = self.mirror()?;
        Ok(match removals {
            RemovalMode::HoldBackMany => mirror.sync().await,
            RemovalMode::ApplyAll => mirror.sync_with_removals().await,
        })
    }

    /// Fetches one object of the session's prefix into the session directory. Returns `None` if the
    /// object is a directory marker.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the store fails, or if the key
    /// belongs to another session or leaves the session directory.
    pub(crate) async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        let mirror = self.mirror()?;
        let key = self.storage.as_ref().map_or(key, |storage| storage.strip_name(key));
        mirror.pull_key(key).await.map_err(|source| TransferError::Mirror { source })
    }

    fn mirror(&self) -> Result<&Mirror, TransferError> {
        self.mirror.as_ref().ok_or_else(|| TransferError::NoStore { id: self.id.clone() })
    }

    /// Uploads pending changes, then removes the session's directory from this machine, and unlocks
    /// the state. Returns the files that cannot be stored, such as symlinks, and were deleted with
    /// the directory.
    ///
    /// # Errors
    /// Returns [`CloseError::Pending`] if a change could not be uploaded. The directory then stays.
    pub(crate) async fn close(&self) -> Result<Vec<Skipped>, CloseError> {
        let mut lost = Vec::new();
        if let Some(mirror) = &self.mirror {
            let report = mirror.flush().await;
            if let Some(first) = report.pending.first() {
                return Err(CloseError::Pending {
                    id: self.id.clone(),
                    count: report.pending.len(),
                    path: first.path.to_string(),
                    reason: first.reason.to_string(),
                });
            }
            lost = report.skipped;
        }
        self.remove().await?;
        self.state.unlock();
        Ok(lost)
    }
}

/// Returns whether a path is mirrored as an artifact: true for everything outside `skills/`.
pub(crate) fn is_artifact(path: &RelativePath) -> bool {
    path.components().next() != Some(SKILLS_DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skills_are_not_artifacts() {
        let artifact = |text| is_artifact(&RelativePath::parse(text).unwrap());
        assert!(!artifact("skills/a/b") && !artifact("skills"));
        assert!(artifact("a/skills/b") && artifact("skillset"));
    }
}
