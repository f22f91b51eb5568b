//! The sessions of one host process: opening, sharing and closing them.

mod builder;
mod error;
mod existing;
mod files;
mod idle;
mod leaving;
mod opener;
mod overview;
mod ownership;
mod prepare;
mod private_files;
mod protection;
mod prune;
mod spec;
mod status;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Duration;

use artifact_sync::{CloseMode, LogView};
use policy::Policy;
use sandbox_core::internal::lock;
use sandbox_core::{SessionId, UserId};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::boxed::boxed;
use crate::home::{Home, StateError};
use crate::runtimes::HostRuntimes;
use crate::session::{DrainReport, Session};
use crate::workspace::{CloseError, CloseReport, TransferError, WorkspaceError};

pub use self::builder::SessionsBuilder;
pub use self::error::SessionError;
pub use self::files::SessionFiles;
use self::idle::OpenSessions;
pub(crate) use self::opener::Opener;
pub use self::overview::SessionOverview;
pub(crate) use self::ownership::Owner;
pub use self::ownership::Ownership;
pub use self::prune::{PruneOptions, PruneReport};
pub use self::spec::SessionSpec;
pub use self::status::{SessionOwner, SessionStatus, SessionSummary};

/// The sessions of one host process, and the settings that they share.
#[derive(Debug)]
pub struct Sessions {
    opener: Arc<Opener>,
    open: Arc<OpenSessions>,
    /// Set once idle sessions are looked for.
    idle_watch: OnceLock<()>,
}

/// A session that is open, or that one caller opens while others wait for it.
type SessionCell = Arc<OnceCell<Arc<Session>>>;

impl SessionsBuilder {
    /// Inspects the host's runtimes and returns the sessions. Creates nothing on disk yet.
    pub fn build(self) -> Sessions {
        let runtimes = HostRuntimes::find(|name| std::env::var_os(name));
        Sessions {
            opener: Arc::new(Opener::new(self, runtimes)),
            open: Arc::default(),
            idle_watch: OnceLock::new(),
        }
    }
}

impl Sessions {
    /// Returns a builder for sessions that live under `home`.
    pub fn builder(home: Home) -> SessionsBuilder {
        SessionsBuilder::new(home)
    }

    /// Returns the language runtimes of the host.
    pub fn runtimes(&self) -> &HostRuntimes {
        &self.opener.runtimes
    }

    /// Returns the directory under which sessions live.
    pub fn home(&self) -> &Home {
        &self.opener.settings.home
    }

    /// Opens a session, or returns the open one. Concurrent opens of one session share it, also
    /// those of other processes with the same home.
    ///
    /// An open session gets the skills of `spec` that it does not have in that version, before the
    /// call returns; its other skills stay. Its network becomes that of `spec`, if `spec` has one;
    /// connections that are no longer allowed are cut. Policy and exceptions of `spec` apply if
    /// this call opens the session. They do not change an open session. If another process has it
    /// open, they and the network must be the same.
    ///
    /// # Errors
    /// Returns [`SessionError`] if the session cannot be opened, if the open session belongs to
    /// another user, or if another process has it open with other settings.
    pub async fn open(&self, mut spec: SessionSpec) -> Result<Arc<Session>, SessionError> {
        self.opener.settings.session.rules.complete(&mut spec);
        self.watch_idle();
        let cell = self.cell(&spec.id);
        let is_new = AtomicBool::default();
        let open = || async {
            let opened = boxed(|| self.opener.open(&spec)).await?;
            is_new.store(!opened.is_served_elsewhere(), Ordering::Relaxed);
            Ok(Arc::new(opened))
        };
        let session = match cell.get_or_try_init(open).await {
            Ok(session) => Arc::clone(session),
            Err(error) => {
                self.forget(&spec.id, &cell);
                return Err(error);
            }
        };
        if session.user() != spec.user.as_ref() {
            return Err(WorkspaceError::from(StateError::WrongUser { session: spec.id }).into());
        }
        // Opening has installed them already.
        if !is_new.into_inner() {
            session.check_masks(&spec.masks)?;
            boxed(|| session.install_skills(&spec.skills)).await?;
            if let Some(network) = spec.network {
                boxed(|| session.follow_network(network)).await?;
            }
        }
        Ok(session)
    }

    /// Closes a session and keeps it if a file is not in the store; see [`Sessions::close_with`].
    ///
    /// # Errors
    /// Like [`Sessions::close_with`].
    pub async fn close(&self, id: &SessionId) -> Result<CloseReport, CloseError> {
        self.close_with(id, CloseMode::KeepPending).await
    }

    /// Uploads pending changes of a session, ends its processes, and removes its directory and its
    /// state from this machine. The report names the files that had no copy.
    ///
    /// If another process has the session open, that process closes it.
    ///
    /// # Errors
    /// Returns [`CloseError`]. With [`CloseMode::KeepPending`], the directory stays if a file is
    /// not in the store, and always if the session has files and no store. With
    /// [`CloseMode::Discard`], these files are deleted, also if the store does not answer.
    pub async fn close_with(
        &self,
        id: &SessionId,
        mode: CloseMode,
    ) -> Result<CloseReport, CloseError> {
        let cell = self.lock().get(id).cloned();
        let report = match cell.as_ref().and_then(|cell| cell.get()) {
            Some(session) if !session.is_gone() => session.close_with(mode).await?,
            _ => leaving::close(&self.opener, id, mode).await?,
        };
        if let Some(cell) = cell {
            self.forget(id, &cell);
        }
        Ok(report)
    }

    /// Deletes a session everywhere, for good: its files and its history, in the store and on this
    /// machine. The next session of this id is empty.
    ///
    /// # Errors
    /// Returns [`CloseError`] if the session is not on this machine, or the store or the disk
    /// fails. A repeated call continues, and so does the next opening of the session. Returns
    /// [`CloseError::Unclaimed`] if the state is lost, and [`CloseError::BegunAnew`] if only the
    /// files here were those of a session that was deleted before.
    pub async fn delete(&self, id: &SessionId) -> Result<(), CloseError> {
        let cell = self.lock().get(id).cloned();
        match cell.as_ref().and_then(|cell| cell.get()) {
            Some(session) if !session.is_gone() => session.delete().await?,
            _ => leaving::delete(&self.opener, id).await?,
        }
        if let Some(cell) = cell {
            self.forget(id, &cell);
        }
        Ok(())
    }

    /// Releases a session of this value: waits for its running calls, also those of other
    /// processes, ends its processes, and unlocks it. Its files stay.
    ///
    /// # Cancel safety
    /// Like [`Session::release`].
    pub async fn release(&self, id: &SessionId) {
        let cell = self.lock().remove(id);
        if let Some(session) = cell.as_ref().and_then(|cell| cell.get()) {
            session.release().await;
        }
    }

    /// Ends all sessions of this value before the process exits, for example after SIGTERM. Refuses
    /// further calls, waits for the running ones up to a grace period, ends the processes, stores
    /// all changes, and releases the sessions for other machines. The reports name the changes that
    /// are not stored; the next opening on this machine stores them.
    ///
    /// # Cancel safety
    /// The sessions admit no calls, and a repeated call continues.
    pub async fn drain(&self, grace: Duration) -> Vec<DrainReport> {
        self.opener.begin_draining();
        let open: Vec<_> = self.lock().drain().map(|(_, cell)| cell).collect();
        let sessions = open.iter().filter_map(|cell| cell.get().cloned());
        let drains = sessions.map(|session| async move { session.drain(grace).await });
        drains.collect::<JoinSet<_>>().join_all().await
    }

    /// Opens the files of a session that is on this machine, without a sandbox. If another process
    /// has the session open, that process does the work.
    ///
    /// # Errors
    /// Returns [`WorkspaceError`], also if the session is not on this machine.
    pub async fn files(&self, id: &SessionId) -> Result<SessionFiles, WorkspaceError> {
        SessionFiles::open(Arc::clone(&self.opener), id).await
    }

    /// Reads the state of a session as of entry `at` of its log, or as of the last entry. Takes no
    /// ownership and needs no directory, so the session may be open, here or on another machine.
    ///
    /// # Errors
    /// Returns [`TransferError::NoStore`] without a store, and [`TransferError::Mirror`] if the log
    /// does not hold the state of that entry or cannot be read.
    pub async fn view(
        &self,
        id: &SessionId,
        user: &UserId,
        at: Option<u64>,
    ) -> Result<LogView, TransferError> {
        let Some(storage) = self.opener.backends().storage else {
            return Err(TransferError::NoStore { id: id.clone() });
        };
        let keys = storage.session_keys(user, id);
        let patience = self.opener.settings.patience.unwrap_or(Duration::MAX);
        let view = LogView::open_within(Arc::clone(&storage.store), keys, at, patience).await;
        view.map_err(|source| TransferError::Mirror { source })
    }

    /// Describes a session that is on this machine. Never waits for its lock.
    ///
    /// # Errors
    /// Returns [`WorkspaceError`] if the session is not on this machine or its state is damaged.
    pub async fn summary(&self, id: &SessionId) -> Result<SessionSummary, WorkspaceError> {
        status::summary(&self.opener, id).await
    }

    /// Returns the policy that a session would have, without opening it.
    ///
    /// # Errors
    /// Returns [`SessionError::Policy`] if the policy is invalid, and [`SessionError::MissingPath`]
    /// if a path of `spec` does not exist.
    pub fn policy(&self, spec: &SessionSpec) -> Result<Policy, SessionError> {
        self.opener.policy(spec)
    }

    /// Returns the cell of a session; a new one if the session was closed or lost.
    fn cell(&self, id: &SessionId) -> SessionCell {
        let mut open = self.lock();
        if open.get(id).and_then(|cell| cell.get()).is_some_and(|session| session.is_gone()) {
            open.remove(id);
        }
        Arc::clone(open.entry(id.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, SessionCell>> {
        lock(&self.open)
    }

    /// Removes a session's cell, unless another cell has replaced it.
    fn forget(&self, id: &SessionId, cell: &SessionCell) {
        let mut open = self.lock();
        if open.get(id).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            open.remove(id);
        }
    }
}
