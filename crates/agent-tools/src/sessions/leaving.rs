//! Closing and deletion of sessions that this process does not have open.

use std::sync::Arc;

use artifact_sync::CloseMode;
use artifact_sync::internal::remove_rest;
use sandbox_core::internal::blocking;
use sandbox_core::{SessionDir, SessionId};

use super::files::SessionFiles;
use super::opener::Opener;
use crate::home::{Home, SessionState};
use crate::sharing::Claim;
use crate::workspace::{
    Backends, CloseError, CloseReport, Loss, Workspace, WorkspaceError, opening_patience,
};

/// Closes a session that this process does not have open.
pub(super) async fn close(
    opener: &Arc<Opener>,
    id: &SessionId,
    mode: CloseMode,
) -> Result<CloseReport, CloseError> {
    if mode == CloseMode::Discard
        && opener.settings.home.is_half_restored(id)
        && let Finished::Yes = discard_restore(opener, id).await?
    {
        return Ok(CloseReport::default());
    }
    let patience = opening_patience(mode, opener.settings.patience);
    match SessionFiles::open_within(Arc::clone(opener), id, patience).await {
        Ok(files) => {
            let closed = files.close_with(mode).await;
            if closed.is_err() {
                // Another machine can open what stays open here.
                files.release().await;
            }
            closed
        }
        Err(error) if mode == CloseMode::Discard && is_unusable(&error) => {
            let loss = Loss::of(&error);
            let workspace = without_store(opener, id, error).await?;
            let home = &opener.settings.home;
            let report = workspace.discard_without_store(home, opener.backends(), loss).await?;
            workspace.state.unlock();
            Ok(report)
        }
        Err(error @ WorkspaceError::StoreLost { .. }) => {
            let home = &opener.settings.home;
            let Some(Claim { state, door: _ }) = Claim::try_new(home, id)? else {
                return Err(error.into());
            };
            let workspace = Workspace::open_without_store(home, opener.backends(), state, id);
            // Only half a restore may be here.
            let Ok(workspace) = workspace else { return Err(error.into()) };
            let refused = workspace.without_copy(error).await;
            workspace.state.unlock();
            Err(refused)
        }
        Err(error @ WorkspaceError::NoSession { .. }) => match finish_closing(opener, id).await? {
            Finished::Yes => Ok(CloseReport::default()),
            Finished::NothingToDo => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The result of finishing the removal of a session.
enum Finished {
    Yes,
    NothingToDo,
}

/// Removes what an interrupted restore has left of a session.
async fn discard_restore(opener: &Opener, id: &SessionId) -> Result<Finished, CloseError> {
    let home = &opener.settings.home;
    let Some(Claim { state, door: _ }) = Claim::try_new(home, id)? else {
        return Ok(Finished::NothingToDo);
    };
    let dir = SessionDir::open(&home.restoring_dir(id))?;
    blocking(move || dir.remove_all()).await?;
    state.delete()?;
    Ok(Finished::Yes)
}

/// Finishes the removal of a session that was interrupted after its directory had been renamed. The
/// store has everything by then, or nothing if the session was deleted.
async fn finish_closing(opener: &Opener, id: &SessionId) -> Result<Finished, CloseError> {
    let home = &opener.settings.home;
    match interrupted_removal(home, id)? {
        Some(state) => finish_removal(home, id, &state).await,
        None => Ok(Finished::NothingToDo),
    }
}

/// Locks the state of a session whose removal was interrupted after its directory had been renamed.
fn interrupted_removal(
    home: &Home,
    id: &SessionId,
) -> Result<Option<SessionState>, WorkspaceError> {
    let path = home.closing_dir(id);
    if !path.exists() && !home.has_state(id) {
        return Ok(None);
    }
    let Some(Claim { state, door: _ }) = Claim::try_new(home, id)? else { return Ok(None) };
    let is_interrupted = path.exists() || state.dir().is_claimed();
    Ok(Some(state).filter(|_| is_interrupted && !home.has_files(id)))
}

async fn finish_removal(
    home: &Home,
    id: &SessionId,
    state: &SessionState,
) -> Result<Finished, CloseError> {
    let failed = |source| WorkspaceError::Leftover { source };
    remove_rest(&home.session_dir(id)).await.map_err(failed)?;
    state.delete()?;
    Ok(Finished::Yes)
}

/// Deletes a session that this process does not have open.
pub(super) async fn delete(opener: &Arc<Opener>, id: &SessionId) -> Result<(), CloseError> {
    match SessionFiles::open(Arc::clone(opener), id).await {
        Ok(files) => files.delete().await,
        Err(error @ WorkspaceError::NoSession { .. }) => match delete_closing(opener, id).await? {
            Finished::Yes => Ok(()),
            Finished::NothingToDo => Err(error.into()),
        },
        // Another machine has deleted it, except for the files here. It may have been interrupted.
        Err(error @ WorkspaceError::Deleted { .. }) => {
            let workspace = without_store(opener, id, error).await?;
            let home = &opener.settings.home;
            let is_finished = workspace.finish_erasure(home, opener.backends()).await?;
            workspace.delete().await?;
            workspace.state.unlock();
            match is_finished {
                true => Ok(()),
                false => Err(CloseError::BegunAnew { id: id.clone() }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes a session whose removal from this machine was interrupted. Its close has left everything
/// in the store, so the session is opened again.
async fn delete_closing(opener: &Opener, id: &SessionId) -> Result<Finished, CloseError> {
    let home = &opener.settings.home;
    let Some(state) = interrupted_removal(home, id)? else { return Ok(Finished::NothingToDo) };
    if !state.dir().is_claimed() {
        return Err(CloseError::Unclaimed { id: id.clone() });
    }
    let backends = opener.backends();
    if backends.storage.is_none() || state.user().map_err(WorkspaceError::from)?.is_none() {
        return finish_removal(home, id, &state).await;
    }
    let owner = opener.owner()?;
    let backends = Backends { owner: owner.as_ref(), ..backends };
    let workspace = Workspace::open_existing(home, backends, state, id).await?;
    workspace.delete().await?;
    workspace.state.unlock();
    Ok(Finished::Yes)
}

/// Returns whether the files of a session are here, but cannot be used with its store.
fn is_unusable(error: &WorkspaceError) -> bool {
    matches!(
        error,
        WorkspaceError::Mirror { .. }
            | WorkspaceError::StoreLost { .. }
            | WorkspaceError::OwnedElsewhere { .. }
            | WorkspaceError::Deleted { .. }
    )
}

/// Opens the files of a session without its store. Returns `error` if another process has locked
/// the session meanwhile.
async fn without_store(
    opener: &Opener,
    id: &SessionId,
    error: WorkspaceError,
) -> Result<Workspace, WorkspaceError> {
    let home = &opener.settings.home;
    match Claim::try_new(home, id)? {
        Some(Claim { state, door: _ }) => {
            Workspace::open_without_store(home, opener.backends(), state, id)
        }
        None => Err(error),
    }
}
