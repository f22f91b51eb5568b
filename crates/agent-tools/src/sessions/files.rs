//! The files of a session without a sandbox.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{
    CloseMode, GarbageOptions, GarbageReport, HistoryEntry, RestoreReport, RestoredVersion,
    SyncReport, Undelete, UndeleteReport,
};
use sandbox_core::{RelativePath, SessionId, UserId};
use tokio::sync::Mutex;

use super::error::SessionError;
use super::opener::Opener;
use super::status::SessionStatus;
use crate::output::ConflictNote;
use crate::sharing::{
    Call, CallError, Claim, Client, Close, CollectGarbage, Delete, Door, Entered, Pull,
    ReadHistory, Refresh, ReportStatus, RestoreVersion, SharingError, SyncFiles, UndeleteFiles,
    Wish, enter,
};
use crate::workspace::{
    Backends, CloseError, CloseReport, RemovalMode, TransferError, Workspace, WorkspaceError,
};

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
    async fn new(
        opener: &Opener,
        id: &SessionId,
        patience: Option<Duration>,
    ) -> Result<Self, WorkspaceError> {
        let home = &opener.settings.home;
        if !home.has_files(id) {
            let path = home.session_dir(id);
            return Err(WorkspaceError::NoSession { id: id.clone(), path });
        }
        Ok(match enter(home, id, &Wish::Files).await? {
            Entered::Client(client) => Self::Served(client),
            Entered::Owner(Claim { state, door }) => {
                let owner = opener.owner()?;
                let backends = Backends { owner: owner.as_ref(), patience, ..opener.backends() };
                let workspace = Workspace::open_existing(home, backends, state, id).await?;
                Self::Local { workspace: Box::new(workspace), _door: door }
            }
        })
    }
}

impl SessionFiles {
    pub(super) async fn open(opener: Arc<Opener>, id: &SessionId) -> Result<Self, WorkspaceError> {
        let patience = opener.settings.patience;
        Self::open_within(opener, id, patience).await
    }

    pub(super) async fn open_within(
        opener: Arc<Opener>,
        id: &SessionId,
        patience: Option<Duration>,
    ) -> Result<Self, WorkspaceError> {
        let link = FilesLink::new(&opener, id, patience).await?;
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

    /// Returns whether another process, or another `Sessions` of this one, serves the session.
    pub async fn is_served_elsewhere(&self) -> bool {
        matches!(&*self.link.lock().await, FilesLink::Served(_))
    }

    /// Adopts what other programs changed in the store: new, changed and removed objects.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store cannot be listed.
    pub async fn refresh(&self, removals: RemovalMode) -> Result<RestoreReport, TransferError> {
        let call = Refresh { removals };
        self.run(call, async |files, call| files.refresh(call.removals).await).await
    }

    /// Uploads local changes. The report names every pending change and skipped file again.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, or if another machine took it over.
    pub async fn sync(&self) -> Result<SyncReport, TransferError> {
        let call = SyncFiles { patience: self.opener.settings.patience };
        self.run(call, async |files, call| files.sync(call.patience).await).await
    }

    /// Returns the report from opening the files; `None` if another process serves the session.
    pub async fn opened(&self) -> Option<RestoreReport> {
        match &*self.link.lock().await {
            FilesLink::Local { workspace, .. } => workspace.opened().cloned(),
            FilesLink::Served(_) => None,
        }
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

    /// Returns the session's place in the log, and the changes that are not in the store yet.
    ///
    /// # Errors
    /// Returns [`TransferError::Sharing`] if the process that serves the session fails.
    pub async fn status(&self) -> Result<SessionStatus, TransferError> {
        self.run(ReportStatus {}, async |files, _| Ok(files.status().await)).await
    }

    /// Returns the retained entries of the session log, the newest first; with a path, those that
    /// changed it or something below it.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the log cannot be read.
    pub async fn history(
        &self,
        path: Option<&RelativePath>,
    ) -> Result<Vec<HistoryEntry>, TransferError> {
        let call = ReadHistory { path: path.map(Cow::Borrowed) };
        self.run(call, async |files, call| files.history(call.path.as_deref()).await).await
    }

    /// Restores a file or symlink as it was as of entry `at`. The present version stays in the
    /// history; if it is not in the store, it is kept under another name.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the log does not hold the version,
    /// or if the store fails.
    pub async fn restore_version(
        &self,
        path: &RelativePath,
        at: u64,
    ) -> Result<RestoredVersion, TransferError> {
        let call = RestoreVersion { path: Cow::Borrowed(path), at };
        self.run(call, async |files, call| files.restore_version(&call.path, call.at).await).await
    }

    /// Brings removed files back, as they were before their removal. Paths that exist again are
    /// left alone.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the log does not hold the entry,
    /// or if the store fails.
    pub async fn undelete(&self, selection: Undelete) -> Result<UndeleteReport, TransferError> {
        let call = UndeleteFiles { selection };
        self.run(call, async |files, call| files.undelete(call.selection).await).await
    }

    /// Deletes versions from the store that are older than the retention time, or reports what
    /// would be deleted.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store fails.
    pub async fn collect_garbage(
        &self,
        options: GarbageOptions,
    ) -> Result<GarbageReport, TransferError> {
        let call = CollectGarbage { options };
        self.run(call, async |files, call| files.collect_garbage(call.options).await).await
    }

    /// Removes the session from this machine, also from the process that serves it; see
    /// [`Sessions::close_with`](crate::Sessions::close_with).
    ///
    /// # Errors
    /// Returns [`CloseError`], such as [`CloseError::Pending`]. The directory then stays.
    pub async fn close_with(&self, mode: CloseMode) -> Result<CloseReport, CloseError> {
        self.run(Close::new(mode, self.opener.settings.patience), async |files, call| {
            let mut report = files.close(call.mode(), call.patience).await?;
            files.state.unlock();
            report.conflicts.splice(..0, opening_conflicts(files));
            Ok(report)
        })
        .await
    }

    /// Closes the session, or stores its changes and reports what closing it would do. Returns
    /// `None` if another process has the session open.
    pub(super) async fn close_unshared(
        &self,
        is_dry_run: bool,
    ) -> Option<Result<CloseReport, CloseError>> {
        let link = self.link.lock().await;
        let FilesLink::Local { workspace, .. } = &*link else { return None };
        let patience = self.opener.settings.patience;
        let mut closed = match is_dry_run {
            true => workspace.check_close(patience).await,
            false => workspace.close(CloseMode::KeepPending, patience).await,
        };
        if let Ok(report) = &mut closed {
            report.conflicts.splice(..0, opening_conflicts(workspace));
            if !is_dry_run {
                workspace.state.unlock();
            }
        }
        Some(closed)
    }

    /// Deletes the session everywhere, for good; see [`Sessions::delete`](crate::Sessions::delete).
    ///
    /// # Errors
    /// Returns [`CloseError`] if the store or the disk fails.
    pub async fn delete(&self) -> Result<(), CloseError> {
        self.run(Delete {}, async |files, _| {
            files.delete().await?;
            files.state.unlock();
            Ok(())
        })
        .await
    }

    /// Stores pending changes, and releases the session for other machines and processes. Its files
    /// stay. Without this, another machine may have to wait before it can open the session.
    ///
    /// # Cancel safety
    /// As if the value was dropped.
    pub async fn release(self) {
        if let FilesLink::Local { workspace, .. } = self.link.into_inner() {
            workspace.release().await;
        }
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
                    Err(CallError::Left(departure)) => {
                        return Err(SharingError::left(&self.id, departure).into());
                    }
                    Err(CallError::NotStarted) => {}
                },
            }
            let patience = self.opener.settings.patience;
            let opened = FilesLink::new(&self.opener, &self.id, patience).await;
            *link = opened.map_err(|source| {
                let source = Box::new(SessionError::Workspace { source });
                SharingError::Reopen { session: self.id.clone(), source }
            })?;
        }
    }
}

/// Returns the conflicts from opening the mirror.
fn opening_conflicts(files: &Workspace) -> Vec<ConflictNote> {
    let conflicts = files.opened().into_iter().flat_map(|opened| &opened.conflicts);
    conflicts.map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as)).collect()
}
