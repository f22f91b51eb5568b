//! The files of one session: its directory, its state, and its mirror; with or without a sandbox
//! around them.

use std::path::PathBuf;
use std::sync::Arc;

use artifact_sync::{
    ChangeSourceReport, IgnoreRules, Mirror, Pending, Progress, RestoreReport, Skipped, SyncError,
    SyncReport,
};
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir, SessionId, UserId};
use skill_store::SKILLS_DIRECTORY;

use crate::home::{Home, SessionState, StateError};
use crate::storage::Storage;

/// A session's files, held by this process alone until dropped.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) id: SessionId,
    pub(crate) user: Option<UserId>,
    pub(crate) dir: Arc<SessionDir>,
    pub(crate) state: SessionState,
    pub(crate) mirror: Option<Mirror>,
    storage: Option<Storage>,
}

/// Handling of files that are deleted locally, by a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalMode {
    /// Keeps the stored copies if suspiciously many files are deleted at once.
    HoldBackMany,
    /// Deletes all stored copies.
    ApplyAll,
}

/// What a workspace is connected with.
#[derive(Clone, Copy)]
pub(crate) struct Backends<'s> {
    pub(crate) storage: Option<&'s Storage>,
    pub(crate) progress: Option<&'s Arc<dyn Progress>>,
    /// What is not mirrored; the default list when absent.
    pub(crate) ignore: Option<&'s IgnoreRules>,
}

/// What opening a workspace had to tell.
pub(crate) struct OpenedWorkspace {
    pub(crate) workspace: Workspace,
    /// Whether the session was not on this machine before.
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

impl Workspace {
    /// Opens a session's files: makes the directory and restores it from the store where it is
    /// absent on this machine; where it is there, its files stand, and only what is new in the
    /// store is fetched.
    pub(crate) async fn open(
        home: &Home,
        backends: Backends<'_>,
        id: &SessionId,
        user: Option<&UserId>,
    ) -> Result<OpenedWorkspace, WorkspaceError> {
        let state = SessionState::take(home, id).await?;
        state.claim(id, user)?;
        let path = home.session_dir(id);
        let created = !path.exists();
        let dir = Arc::new(SessionDir::create(&path)?);
        let mut opened = Workspace {
            id: id.clone(),
            user: user.cloned(),
            dir,
            state,
            mirror: None,
            storage: None,
        };
        let mut warnings = Vec::new();
        if let (Some(storage), Some(user)) = (backends.storage, user) {
            let mirror = opened.open_mirror(storage, backends, user)?;
            match mirror.restore().await {
                Ok(report) => warnings.extend(report.problems()),
                // Local files are complete without the store, so a session that is here goes on.
                Err(error) if !created => {
                    warnings.push(format!(
                        "nothing could be fetched from the store: {}",
                        crate::with_causes(&error)
                    ));
                }
                Err(source) => {
                    opened.discard().await;
                    return Err(WorkspaceError::Restore { source });
                }
            }
            opened.mirror = Some(mirror);
            opened.storage = Some(storage.clone());
        }
        Ok(OpenedWorkspace { workspace: opened, created, warnings })
    }

    /// Opens the files of a session that is on this machine, as its user; nothing is fetched.
    pub(crate) async fn open_existing(
        home: &Home,
        backends: Backends<'_>,
        id: &SessionId,
    ) -> Result<Workspace, WorkspaceError> {
        let path = home.session_dir(id);
        if !path.exists() {
            return Err(WorkspaceError::NoSession { id: id.clone(), path });
        }
        let state = SessionState::take(home, id).await?;
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

    /// Takes back what an open that failed had made on this machine; the store keeps what it has.
    pub(crate) async fn discard(&self) {
        let _ = self.remove().await;
    }

    async fn remove(&self) -> Result<(), CloseError> {
        let dir = SessionDir::open(self.dir.path())?;
        blocking(move || dir.remove_all()).await?;
        Ok(self.state.disclaim()?)
    }

    /// The key as callers see it: `<bucket>/<full key>`.
    pub(crate) fn display_key(&self, key: &Key) -> String {
        match &self.storage {
            Some(storage) => format!("{}/{key}", storage.name),
            None => key.to_string(),
        }
    }

    /// The names in the session directory, directories with a slash, in order.
    pub(crate) fn file_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let slash =
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) { "/" } else { "" };
                entry.file_name().to_str().map(|name| format!("{name}{slash}"))
            })
            .collect();
        names.sort();
        names
    }

    /// What is not in the store yet, and why.
    pub fn pending(&self) -> Vec<Pending> {
        self.mirror.as_ref().map(Mirror::pending).unwrap_or_default()
    }

    /// How changes to the files are found, and where it is not by events, why; `None` without a
    /// store.
    pub fn change_source(&self) -> Option<ChangeSourceReport> {
        self.mirror.as_ref().map(Mirror::change_source)
    }

    /// Whose session it is.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Where its files are.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Fetches what is new in the store, or newer and not changed here.
    ///
    /// # Errors
    /// [`TransferError`] for a session without a store, and when the store cannot be listed.
    pub async fn refresh(&self) -> Result<RestoreReport, TransferError> {
        let mirror =
            self.mirror.as_ref().ok_or_else(|| TransferError::NoStore { id: self.id.clone() })?;
        mirror.refresh().await.map_err(|source| TransferError::Mirror { source })
    }

    /// Brings the store up to date.
    ///
    /// # Errors
    /// [`TransferError::NoStore`]. A store that fails is none: the report says what is pending.
    pub async fn sync(&self, removals: RemovalMode) -> Result<SyncReport, TransferError> {
        let mirror =
            self.mirror.as_ref().ok_or_else(|| TransferError::NoStore { id: self.id.clone() })?;
        Ok(match removals {
            RemovalMode::HoldBackMany => mirror.sync().await,
            RemovalMode::ApplyAll => mirror.sync_with_removals().await,
        })
    }

    /// Fetches one object of the session's prefix into the session directory; `None` for a
    /// directory marker.
    ///
    /// # Errors
    /// [`TransferError`] for a key that is not this session's or would lead out of its directory, for a
    /// session without a store, and when the store fails.
    pub async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        let mirror =
            self.mirror.as_ref().ok_or_else(|| TransferError::NoStore { id: self.id.clone() })?;
        let key = self.storage.as_ref().map_or(key, |storage| storage.strip_name(key));
        mirror.pull_key(key).await.map_err(|source| TransferError::Mirror { source })
    }

    /// Uploads what is pending, then removes the session's directory from this machine. Gives what
    /// the store could not hold, a symlink for one, and which is gone with the directory.
    ///
    /// # Errors
    /// [`CloseError::Pending`] when something could not be uploaded: the directory stays.
    pub async fn close(&self) -> Result<Vec<Skipped>, CloseError> {
        let mut lost = Vec::new();
        if let Some(mirror) = &self.mirror {
            let report = mirror.flush().await;
            if let Some(first) = report.pending.first() {
                let (count, path, reason) =
                    (report.pending.len(), first.path.to_string(), first.reason.to_string());
                return Err(CloseError::Pending { id: self.id.clone(), count, path, reason });
            }
            lost = report.skipped;
        }
        self.remove().await?;
        Ok(lost)
    }
}

/// Why the files of a session cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkspaceError {
    /// The session's state cannot be used.
    #[error(transparent)]
    State {
        /// The state error.
        #[from]
        source: StateError,
    },
    /// The session directory cannot be used.
    #[error(transparent)]
    Directory {
        /// The file error.
        #[from]
        source: FileError,
    },
    /// What the store holds of the session could not be fetched, so nothing was opened.
    #[error("the session could not be restored from the store")]
    Restore {
        /// The cause.
        source: SyncError,
    },
    /// The record of what the store holds cannot be used.
    #[error("the session's mirror cannot be opened")]
    Mirror {
        /// The cause.
        source: SyncError,
    },
    /// The session is not on this machine.
    #[error("there is no session {id} on this machine (no {}); `session list` names those that are", path.display())]
    NoSession {
        /// The session.
        id: SessionId,
        /// Where its directory would be.
        path: PathBuf,
    },
}

/// Errors returned when a session exchanges files with its store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The session has no store, or no user.
    #[error("session {id} has no store: it was opened without one, or without a user")]
    NoStore {
        /// The session.
        id: SessionId,
    },
    /// The mirror rejected the key, or the store failed.
    #[error(transparent)]
    Mirror {
        /// The cause.
        source: SyncError,
    },
}

/// Why a session was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The session's files cannot be opened.
    #[error(transparent)]
    Workspace {
        /// The cause.
        #[from]
        source: WorkspaceError,
    },
    /// Something is not in the store; removing the directory would lose it.
    #[error(
        "session {id} stays on this machine, changes that are not in the store: {count}; the first is {path}: {reason}"
    )]
    Pending {
        /// The session.
        id: SessionId,
        /// How many changes are pending.
        count: usize,
        /// The first of them.
        path: String,
        /// Why it is pending.
        reason: String,
    },
    /// The directory could not be removed whole.
    #[error(transparent)]
    Directory {
        /// The file error.
        #[from]
        source: FileError,
    },
    /// The state could not be updated.
    #[error(transparent)]
    State {
        /// The state error.
        #[from]
        source: StateError,
    },
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
