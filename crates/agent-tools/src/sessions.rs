//! The sessions of one host process: opening, sharing and closing them.

mod builder;
mod error;
mod prepare;
mod spec;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use artifact_sync::Skipped;
use policy::Policy;
use sandbox_core::SessionId;
use sandbox_core::internal::lock;
use tokio::sync::OnceCell;

use self::prepare::Preparation;
use crate::home::{Home, StateError};
use crate::runtimes::HostRuntimes;
use crate::session::Session;
use crate::workspace::{Backends, CloseError, OpenedWorkspace, Workspace, WorkspaceError};

pub use self::builder::SessionsBuilder;
pub use self::error::SessionError;
pub use self::spec::SessionSpec;

/// The sessions of one host process, and the settings that they share.
#[derive(Debug)]
pub struct Sessions {
    settings: SessionsBuilder,
    runtimes: HostRuntimes,
    open: Mutex<HashMap<SessionId, SessionCell>>,
}

/// A session that is open, or that one caller opens while others wait for it.
type SessionCell = Arc<OnceCell<Arc<Session>>>;

impl SessionsBuilder {
    /// Inspects the host's runtimes and returns the sessions. Creates nothing on disk yet.
    pub fn build(self) -> Sessions {
        let runtimes = HostRuntimes::find(|name| std::env::var_os(name));
        Sessions { settings: self, runtimes, open: Mutex::default() }
    }
}

impl Sessions {
    /// Returns a builder for sessions that live under `home`.
    pub fn builder(home: Home) -> SessionsBuilder {
        SessionsBuilder::new(home)
    }

    /// Returns the language runtimes of the host.
    pub fn runtimes(&self) -> &HostRuntimes {
        &self.runtimes
    }

    /// Returns the directory under which sessions live.
    pub fn home(&self) -> &Home {
        &self.settings.home
    }

    /// Opens a session, or returns the open one. Concurrent opens of one session share it.
    ///
    /// Skills, policy and exceptions of `spec` apply if this call opens the session. They do not
    /// change an open session.
    ///
    /// # Errors
    /// Returns [`SessionError`] if the session cannot be opened, or if the open session belongs to
    /// another user.
    pub async fn open(&self, spec: SessionSpec) -> Result<Arc<Session>, SessionError> {
        let cell = Arc::clone(self.lock().entry(spec.id.clone()).or_default());
        let session = cell.get_or_try_init(|| self.open_new(&spec)).await.cloned();
        match &session {
            Err(_) => self.forget(&spec.id, &cell),
            Ok(session) if session.user() != spec.user.as_ref() => {
                return Err(WorkspaceError::from(StateError::WrongUser { session: spec.id }).into());
            }
            Ok(_) => {}
        }
        session
    }

    /// Uploads pending changes of a session, ends its processes and removes its directory. Returns
    /// the files that cannot be stored and were deleted with the directory.
    ///
    /// # Errors
    /// Returns [`CloseError`]. The directory stays if a change could not be uploaded.
    pub async fn close(&self, id: &SessionId) -> Result<Vec<Skipped>, CloseError> {
        let cell = self.lock().get(id).cloned();
        let lost = match cell.as_ref().and_then(|cell| cell.get()) {
            Some(session) => session.close().await?,
            None => self.workspace(id).await?.close().await?,
        };
        if let Some(cell) = cell {
            self.forget(id, &cell);
        }
        Ok(lost)
    }

    /// Opens the files of a session that is on this machine, without a sandbox.
    ///
    /// # Errors
    /// Returns [`WorkspaceError`], also if the session is in use or not on this machine.
    pub async fn workspace(&self, id: &SessionId) -> Result<Workspace, WorkspaceError> {
        Workspace::open_existing(&self.settings.home, self.backends(), id).await
    }

    /// Returns the policy that a session would have, without opening it.
    ///
    /// # Errors
    /// Returns [`SessionError::Policy`] if the policy is invalid, and [`SessionError::MissingPath`]
    /// if a path of `spec` does not exist.
    pub fn policy(&self, spec: &SessionSpec) -> Result<Policy, SessionError> {
        let mut dir = self.settings.home.session_dir(&spec.id);
        // The directory may not exist yet, and its parents may be symlinks.
        if let Some((canonical, above)) =
            dir.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above.to_owned())))
        {
            dir = canonical.join(dir.strip_prefix(&above).unwrap_or(&dir));
        }
        self.preparation(spec).policy(&dir)
    }

    fn preparation<'s>(&'s self, spec: &'s SessionSpec) -> Preparation<'s> {
        Preparation { settings: &self.settings, runtimes: &self.runtimes, spec }
    }

    fn backends(&self) -> Backends<'_> {
        let SessionsBuilder { storage, progress, ignore, .. } = &self.settings;
        Backends { storage: storage.as_ref(), progress: progress.as_ref(), ignore: ignore.as_ref() }
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

    async fn open_new(&self, spec: &SessionSpec) -> Result<Arc<Session>, SessionError> {
        // An invalid request fails before anything is created.
        self.policy(spec)?;
        let backends = self.backends();
        let backends = Backends { ignore: spec.ignore.as_ref().or(backends.ignore), ..backends };
        let preparation = self.preparation(spec);
        let (opened, (loaded, warnings)) = tokio::join!(
            Workspace::open(&self.settings.home, backends, &spec.id, spec.user.as_ref()),
            preparation.load_variables(),
        );
        let OpenedWorkspace { workspace, created, warnings: workspace_warnings } = opened?;
        let warnings = warnings.into_iter().chain(workspace_warnings).collect();
        match preparation.run(&workspace, &loaded, warnings).await {
            Ok(parts) => {
                Ok(Arc::new(Session::new(workspace, self.settings.session.clone(), parts)))
            }
            Err(error) => {
                if created {
                    workspace.discard().await;
                }
                Err(error)
            }
        }
    }
}
