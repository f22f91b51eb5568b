//! The files of one session, with or without a sandbox: its directory, its state and its mirror.

mod close;
mod error;
mod history;
mod tenancy;
mod warnings;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::internal::Timings;
use artifact_sync::{
    ChangeSourceReport, Durability, IgnoreRules, Mirror, MirrorBuilder, Progress, RestoreReport,
    SyncError, SyncReport, Takeover,
};
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir, SessionId, UserId};
use serde::{Deserialize, Serialize};
use skill_store::SKILLS_DIRECTORY;

use crate::home::{Home, SessionState, StateDir};
use crate::sessions::{Owner, SessionStatus};
use crate::storage::Storage;

pub(crate) use self::close::{Loss, opening_patience};
use self::error::OpeningError;
pub(crate) use self::error::at_url;
use self::warnings::warnings;

pub(crate) use self::tenancy::Turn;

pub use self::close::{CloseError, CloseReport, IgnoredContent};
pub use self::error::{TransferError, WorkspaceError};

/// The files of one session. No other process can open them until this value is dropped.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) id: SessionId,
    pub(crate) user: Option<UserId>,
    pub(crate) dir: Arc<SessionDir>,
    pub(crate) state: SessionState,
    pub(crate) mirror: Option<Arc<Mirror>>,
    /// Set if homes share the store, so that calls prove the ownership.
    intervals: Option<Timings>,
    storage: Option<Storage>,
    /// The rules for files that are not mirrored.
    ignore: IgnoreRules,
}

/// Treatment of files whose objects another program removed from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemovalMode {
    /// Keeps the files if suspiciously many objects vanished at once.
    HoldBackMany,
    /// Removes all of these files from the session.
    ApplyAll,
}

/// The parts of the host that workspaces are connected to.
#[derive(Clone, Copy)]
pub(crate) struct Backends<'s> {
    pub(crate) storage: Option<&'s Storage>,
    pub(crate) progress: Option<&'s Arc<dyn Progress>>,
    /// Rules for files that are not mirrored, instead of the default list.
    pub(crate) ignore: Option<&'s IgnoreRules>,
    /// Ownership of sessions; `None` to read local files only.
    pub(crate) owner: Option<&'s Owner>,
    /// Time for which superseded versions stay, instead of the default.
    pub(crate) retention: Option<Duration>,
    /// Maximum size of the files that wait for upload.
    pub(crate) max_queued_bytes: u64,
    /// Point at which a store on the local disk counts a change as stored.
    pub(crate) durability: Durability,
    /// Age up to which an earlier listing of the projection is recent enough to open a session.
    pub(crate) listing_age: Duration,
    pub(crate) patience: Option<Duration>,
    /// Set to keep files in the session logs only.
    pub(crate) without_projection: bool,
    /// Set to store the files again if the store has lost the log.
    pub(crate) refill: bool,
}

impl Backends<'_> {
    /// Returns the intervals of ownership if homes share the store.
    fn intervals(&self) -> Option<Timings> {
        let owner = self.owner?;
        owner.heartbeat.as_ref().map(|_| owner.timings)
    }
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
    /// If the session is not on this machine, restores it from the store, or creates its directory.
    /// Otherwise applies what other machines and programs have changed since.
    pub(crate) async fn open(
        home: &Home,
        backends: Backends<'_>,
        state: SessionState,
        id: &SessionId,
        user: Option<&UserId>,
    ) -> Result<OpenedWorkspace, WorkspaceError> {
        state.claim(id, user)?;
        home.create()?;
        let path = home.session_dir(id);
        let created = !home.has_place_taken(id);
        let opened = match (backends.storage, user) {
            (Some(storage), Some(user)) => {
                let opened = open_mirror(home, storage, backends, &state, id, user).await;
                opened.map(|mirror| (Arc::clone(mirror.dir()), Some(Arc::new(mirror))))
            }
            _ => {
                state.record_modes(&path)?;
                Ok((Arc::new(SessionDir::create(&path)?), None))
            }
        };
        let (dir, mirror) = match opened {
            Ok(opened) => opened,
            Err(source) => {
                if created {
                    abandon(home, &state, id);
                }
                let missing_from = backends.storage.filter(|_| created);
                return Err(WorkspaceError::from_opening(id, source, missing_from));
            }
        };
        let warnings = mirror.as_deref().map_or_else(Vec::new, |mirror| {
            let limits =
                if backends.intervals().is_some() { mirror.warnings() } else { Vec::new() };
            warnings(id, mirror.opened()).into_iter().chain(limits).collect()
        });
        let storage = mirror.as_ref().and(backends.storage).cloned();
        let (id, user) = (id.clone(), user.cloned());
        let intervals = mirror.as_ref().and(backends.intervals());
        let ignore = backends.ignore.cloned().unwrap_or_default();
        let workspace = Workspace { id, user, dir, state, mirror, intervals, storage, ignore };
        Ok(OpenedWorkspace { workspace, created, warnings })
    }

    /// Opens the files of a session that is on this machine, as its user.
    pub(crate) async fn open_existing(
        home: &Home,
        backends: Backends<'_>,
        state: SessionState,
        id: &SessionId,
    ) -> Result<Workspace, WorkspaceError> {
        let (Some(storage), Some(user)) = (backends.storage, state.user()?) else {
            return Self::open_without_store(home, backends, state, id);
        };
        let mirror = open_mirror(home, storage, backends, &state, id, &user).await;
        let mirror = mirror.map_err(|source| WorkspaceError::from_opening(id, source, None))?;
        Ok(Workspace {
            id: id.clone(),
            user: Some(user),
            dir: Arc::clone(mirror.dir()),
            state,
            mirror: Some(Arc::new(mirror)),
            intervals: backends.intervals(),
            storage: Some(storage.clone()),
            ignore: backends.ignore.cloned().unwrap_or_default(),
        })
    }

    /// Opens the files of a session that is on this machine, and nothing in the store.
    pub(crate) fn open_without_store(
        home: &Home,
        backends: Backends<'_>,
        state: SessionState,
        id: &SessionId,
    ) -> Result<Workspace, WorkspaceError> {
        let user = state.user()?;
        let path = home.session_dir(id);
        state.record_modes(&path)?;
        let dir = Arc::new(SessionDir::open(&path)?);
        let id = id.clone();
        let ignore = backends.ignore.cloned().unwrap_or_default();
        Ok(Workspace { id, user, dir, state, mirror: None, intervals: None, storage: None, ignore })
    }

    /// Removes the session from this machine after opening it failed. The store is not changed.
    pub(crate) async fn discard(mut self) {
        // Nothing may take the removal of the directory for a change.
        self.mirror = None;
        let _ = self.remove().await;
    }

    /// Returns a key as callers see it: `<bucket>/<full key>`.
    pub(crate) fn display_key(&self, key: &Key) -> String {
        match &self.storage {
            Some(storage) => format!("{}/{key}", storage.name),
            None => key.to_string(),
        }
    }

    /// Returns the session's place in the log, and the changes that are not in the store yet.
    pub(crate) async fn status(&self) -> SessionStatus {
        let Some(mirror) = self.mirror.clone() else { return SessionStatus::default() };
        blocking(move || mirror.status()).await.into()
    }

    /// Describes a session that no process has open, without its store.
    pub(crate) async fn inspect(
        home: &Home,
        backends: Backends<'_>,
        state: &SessionState,
        id: &SessionId,
    ) -> Result<SessionStatus, WorkspaceError> {
        let (Some(storage), Some(user)) = (backends.storage, state.user()?) else {
            return Ok(SessionStatus::default());
        };
        let failed = |source| WorkspaceError::Mirror { source };
        let builder = mirror_builder(home, storage, backends, state.dir(), id, &user);
        let builder = builder.map_err(failed)?;
        let status = blocking(move || builder.inspect()).await;
        Ok(status.map_err(failed)?.into())
    }

    /// Returns the report from opening the mirror; `None` without a store.
    pub(crate) fn opened(&self) -> Option<&RestoreReport> {
        self.mirror.as_deref().map(Mirror::opened)
    }

    /// Returns the way in which changes of files are detected, and the reason if that is not by
    /// events; `None` without a store.
    pub(crate) fn change_source(&self) -> Option<ChangeSourceReport> {
        self.mirror.as_deref().map(Mirror::change_source)
    }

    /// Returns the user who owns the session.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Returns the session directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adopts what other programs changed in the store.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store cannot be listed.
    pub(crate) async fn refresh(
        &self,
        removals: RemovalMode,
    ) -> Result<RestoreReport, TransferError> {
        let mirror = self.mirror()?;
        let refreshed = match removals {
            RemovalMode::HoldBackMany => mirror.refresh().await,
            RemovalMode::ApplyAll => mirror.refresh_with_removals().await,
        };
        refreshed.map_err(|source| TransferError::from_mirror(&self.id, source))
    }

    /// Uploads local changes, and names every pending change and skipped file again. If the store
    /// fails, the report lists them as pending.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, or if another process took it over.
    pub(crate) async fn sync(
        &self,
        patience: Option<Duration>,
    ) -> Result<SyncReport, TransferError> {
        let mirror = self.mirror()?;
        let flushed = flush(mirror, patience).await;
        let synced = flushed.and_then(|report| mirror.check().map(|()| report));
        synced.map_err(|source| TransferError::from_mirror(&self.id, source))
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
        mirror.pull_key(key).await.map_err(|source| TransferError::from_mirror(&self.id, source))
    }

    fn mirror(&self) -> Result<&Mirror, TransferError> {
        self.mirror.as_deref().ok_or_else(|| {
            let id = self.id.clone();
            match self.state.dir().is_claimed() {
                true => TransferError::NoStore { id },
                false => TransferError::Unclaimed { id },
            }
        })
    }
}

/// Stores everything, and gives up after a time without progress.
async fn flush(mirror: &Mirror, patience: Option<Duration>) -> Result<SyncReport, SyncError> {
    match patience {
        Some(patience) => mirror.flush_within(patience).await,
        None => mirror.flush().await,
    }
}

/// Opens the mirror of a session.
async fn open_mirror(
    home: &Home,
    storage: &Storage,
    backends: Backends<'_>,
    state: &SessionState,
    id: &SessionId,
    user: &UserId,
) -> Result<Mirror, OpeningError> {
    let builder = mirror_builder(home, storage, backends, state.dir(), id, user)?;
    Ok(builder.open().await?)
}

/// Returns the builder of a session's mirror.
fn mirror_builder(
    home: &Home,
    storage: &Storage,
    backends: Backends<'_>,
    state: &StateDir,
    id: &SessionId,
    user: &UserId,
) -> Result<MirrorBuilder, SyncError> {
    let keys = storage.session_keys(user, id);
    let mut mirror = Mirror::builder(home.session_dir(id), Arc::clone(&storage.store), keys)
        .state_dir(state.mirror_dir())
        .probe(storage.probe.clone())
        .capabilities(storage.capabilities.clone())
        .durability(backends.durability)
        .max_queued_bytes(backends.max_queued_bytes)
        .listing_age(backends.listing_age)
        .exclude(SKILLS_DIRECTORY);
    mirror = match backends.owner {
        Some(Owner { takeover, heartbeat: Some(heartbeat), .. }) => {
            mirror.heartbeat(heartbeat, *takeover)
        }
        Some(Owner { takeover, .. }) => mirror.home(home.id()?.as_str(), *takeover),
        None => mirror.home(home.id()?.as_str(), Takeover::Refuse),
    };
    if let Some(linker) = &storage.linker {
        mirror = mirror.linker(Arc::clone(linker)).links_to(storage.link_target);
    }
    if let Some(rules) = backends.ignore {
        mirror = mirror.ignore(rules.clone());
    }
    if let Some(patience) = backends.patience {
        mirror = mirror.patience(patience);
    }
    if let Some(retention) = backends.retention {
        mirror = mirror.retention(retention);
    }
    if backends.without_projection {
        mirror = mirror.without_projection();
    }
    if backends.refill {
        mirror = mirror.refill();
    }
    if let Some(progress) = backends.progress {
        mirror = mirror.progress(Arc::clone(progress));
    }
    Ok(mirror)
}

/// Deletes the state of a session that could not be created. An interrupted restore or close stays,
/// with the record of its user, and the next opening continues it.
fn abandon(home: &Home, state: &SessionState, id: &SessionId) {
    let restoring = home.restoring_dir(id);
    let is_absent = match std::fs::remove_dir(&restoring) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_absent
        && !home.closing_dir(id).exists()
        && let Err(error) = state.delete()
    {
        let error = sandbox_core::with_causes(&error);
        tracing::warn!(session = %id, error, "the state of the session stays");
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
