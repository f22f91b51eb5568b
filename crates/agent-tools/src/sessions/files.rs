//! The files of a session without a sandbox, and the description of a session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_sync::{Pending, RestoreReport, Skipped, SyncReport};
use sandbox_core::{RelativePath, SessionId, UserId};
use tokio::sync::Mutex;

use super::error::SessionError;
use super::opener::Opener;
use crate::home::StateDir;
use crate::sharing::{
    Call, CallError, Claim, Client, Close, Door, Entered, ListPending, Pull, Refresh, SharingError,
    SyncFiles, Wish, enter, visit,
};
use crate::workspace::{CloseError, RemovalMode, TransferError, Workspace, WorkspaceError};

/// The files of a session that is on this machine, without a sandbox.
///
/// If another process has the session open, that process does the work. Otherwise no process can
/// open the session until this value is dropped.
#[derive(Debug)]
pub struct SessionFiles {
    id: SessionId,
    user: Option<UserId>,
    dir: PathBuf,
    opener: Arc<Opener>,
    link: Mutex<FilesLink>,
}

#[derive(Debug)]
enum FilesLink {
    /// This process holds the session. Clients wait at the door until the value is dropped.
    Local {
        workspace: Box<Workspace>,
        _door: Door,
    },
    Served(Box<Client>),
}

impl FilesLink {
    async fn new(opener: &Opener, id: &SessionId) -> Result<Self, WorkspaceError> {
        let home = &opener.settings.home;
        let path = home.session_dir(id);
        if !path.exists() {
            return Err(WorkspaceError::NoSession { id: id.clone(), path });
        }
        Ok(match enter(home, id, &Wish::Files).await? {
            Entered::Client(client) => Self::Served(client),
            Entered::Owner(Claim { state, door }) => {
                let workspace = Workspace::open_existing(home, opener.backends(), state, id)?;
                Self::Local { workspace: Box::new(workspace), _door: door }
            }
        })
    }
}

impl SessionFiles {
    pub(super) async fn open(opener: Arc<Opener>, id: &SessionId) -> Result<Self, WorkspaceError> {
        let link = FilesLink::new(&opener, id).await?;
        let (user, dir) = match &link {
            FilesLink::Local { workspace, .. } => {
                (workspace.user().cloned(), workspace.dir().to_owned())
            }
            FilesLink::Served(client) => (client.facts().user.clone(), client.facts().dir.clone()),
        };
        Ok(Self { id: id.clone(), user, dir, opener, link: Mutex::new(link) })
    }

    /// Returns the user who owns the session.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Returns the session directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Fetches objects that are new in the store, and newer versions of files that did not change
    /// locally.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store cannot be listed.
    pub async fn refresh(&self) -> Result<RestoreReport, TransferError> {
        self.run(Refresh {}, async |files, _| files.refresh().await).await
    }

    /// Uploads local changes. If the store fails, the report lists them as pending.
    ///
    /// # Errors
    /// Returns [`TransferError::NoStore`] if the session has no store.
    pub async fn sync(&self, removals: RemovalMode) -> Result<SyncReport, TransferError> {
        self.run(SyncFiles { removals }, async |files, call| files.sync(call.removals).await).await
    }

    /// Fetches one object of the session's prefix into the session directory. Returns `None` if the
    /// object is a directory marker.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the store fails, or if the key
    /// belongs to another session or leaves the session directory.
    pub async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        self.run(Pull { key: key.into() }, async |files, call| files.pull(&call.key).await).await
    }

    /// Returns the changes that are not in the store yet, with reasons.
    ///
    /// # Errors
    /// Returns [`TransferError::Sharing`] if the process that serves the session fails.
    pub async fn pending(&self) -> Result<Vec<Pending>, TransferError> {
        self.run(ListPending {}, async |files, _| Ok(files.pending())).await
    }

    /// Uploads pending changes, then removes the session from this machine, also from the process
    /// that serves it. Returns the files that cannot be stored, such as symlinks, and were deleted
    /// with the directory.
    ///
    /// # Errors
    /// Returns [`CloseError::Pending`] if a change could not be uploaded. The directory then stays.
    pub async fn close(&self) -> Result<Vec<Skipped>, CloseError> {
        self.run(Close {}, async |files, _| files.close().await).await
    }

    /// Runs a call here or in the process that serves the session. One call runs at a time.
    async fn run<C: Call>(
        &self,
        call: C,
        here: impl AsyncFnOnce(&Workspace, C) -> Result<C::Output, C::Error>,
    ) -> Result<C::Output, C::Error> {
        let mut link = self.link.lock().await;
        loop {
            match &*link {
                FilesLink::Local { workspace, .. } => return here(workspace, call).await,
                FilesLink::Served(client) => match client.call(&call).await {
                    Ok(output) => return Ok(output),
                    Err(CallError::Failed(error)) => return Err(error),
                    Err(CallError::Closed) => {
                        return Err(SharingError::Closed { session: self.id.clone() }.into());
                    }
                    Err(CallError::NotStarted) => {}
                },
            }
            *link = FilesLink::new(&self.opener, &self.id).await.map_err(|source| {
                let source = Box::new(SessionError::Workspace { source });
                SharingError::Reopen { session: self.id.clone(), source }
            })?;
        }
    }
}

/// The description of a session that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionSummary {
    /// The user who owns the session.
    pub user: Option<UserId>,
    /// The session directory.
    pub dir: PathBuf,
    /// The changes that are not in the store yet; `None` if the process that holds the session does
    /// not answer.
    pub pending: Option<Vec<Pending>>,
}

/// Describes a session from the files of its state, and asks the process that serves it, if there
/// is one.
pub(super) async fn summary(
    opener: &Opener,
    id: &SessionId,
) -> Result<SessionSummary, WorkspaceError> {
    let home = &opener.settings.home;
    let path = home.session_dir(id);
    if !path.exists() {
        return Err(WorkspaceError::NoSession { id: id.clone(), path });
    }
    let dir = StateDir::create(home, id)?;
    let user = dir.user()?;
    let pending = match visit(&dir, id).await? {
        Some(client) => client.call(&ListPending {}).await.ok(),
        None => match Claim::try_new(home, id)? {
            Some(Claim { state, door: _door }) => {
                Some(Workspace::open_existing(home, opener.backends(), state, id)?.pending())
            }
            None => None,
        },
    };
    Ok(SessionSummary { user, dir: path, pending })
}
