//! Opening of one session, in this process or as a client of another one.

use std::path::PathBuf;
use std::sync::Arc;

use policy::Policy;
use secrets::{LoadedVariables, Variables};

use super::builder::SessionsBuilder;
use super::error::SessionError;
use super::prepare::{ApplicationDirs, Preparation};
use super::spec::SessionSpec;
use crate::runtimes::HostRuntimes;
use crate::session::{LocalSession, OpenedSession, Session};
use crate::sharing::{Claim, Entered, Settings, SharingError, Wish, enter, serve};
use crate::workspace::{Backends, OpenedWorkspace, Workspace, WorkspaceError};

/// The settings by which sessions are opened, and opened again.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) settings: SessionsBuilder,
    pub(crate) runtimes: HostRuntimes,
}

/// Variables, and the warnings from loading them.
type Loaded = (LoadedVariables, Vec<String>);

impl Opener {
    /// Opens a session.
    pub(super) async fn open(
        self: &Arc<Self>,
        spec: &SessionSpec,
    ) -> Result<Session, SessionError> {
        // An invalid request fails before anything is created.
        let policy = self.policy(spec)?;
        let opened = self.link(spec, |_| true).await?;
        let settings = self.settings.session.clone();
        Ok(Session::new(Arc::clone(self), spec.clone(), settings, policy, opened))
    }

    /// Opens a session again after the process that served it has ended.
    pub(crate) async fn reopen(&self, spec: &SessionSpec) -> Result<OpenedSession, SessionError> {
        self.link(spec, |claim| claim.state.dir().is_claimed()).await
    }

    /// Returns the policy of a session.
    pub(super) fn policy(&self, spec: &SessionSpec) -> Result<Policy, SessionError> {
        self.preparation(spec).policy(&self.session_dir(spec), ApplicationDirs::Hidden)
    }

    /// Returns the canonical path that a session's directory has, or would have.
    fn session_dir(&self, spec: &SessionSpec) -> PathBuf {
        canonical(self.settings.home.session_dir(&spec.id))
    }

    fn preparation<'s>(&'s self, spec: &'s SessionSpec) -> Preparation<'s> {
        Preparation { settings: &self.settings, runtimes: &self.runtimes, spec }
    }

    pub(super) fn backends(&self) -> Backends<'_> {
        let SessionsBuilder { storage, progress, ignore, takeover, retention, refill, .. } =
            &self.settings;
        Backends {
            storage: storage.as_ref(),
            progress: progress.as_ref(),
            ignore: ignore.as_ref(),
            takeover: *takeover,
            retention: *retention,
            refill: *refill,
        }
    }

    /// Serves the session if no other process does, or connects to that process. The caller judges
    /// the state of a session that this process would serve.
    async fn link(
        &self,
        spec: &SessionSpec,
        is_accepted: impl Fn(&Claim) -> bool,
    ) -> Result<OpenedSession, SessionError> {
        let home = &self.settings.home;
        let (claim, loaded) = match Claim::try_new(home, &spec.id)? {
            Some(claim) => (claim, None),
            None => {
                let loaded = self.preparation(spec).load_variables().await;
                let shared = SharedSettings::new(self, spec)?;
                let wish = Wish::Session(shared.of(self, spec, &loaded.0.variables));
                match enter(home, &spec.id, &wish).await? {
                    Entered::Owner(claim) => (claim, Some(loaded)),
                    Entered::Client(client) => {
                        return Ok(OpenedSession::Connected(Arc::new(*client)));
                    }
                }
            }
        };
        if !is_accepted(&claim) {
            claim.state.delete().map_err(WorkspaceError::from)?;
            let closed = SharingError::Closed { session: spec.id.clone() };
            return Err(WorkspaceError::from(closed).into());
        }
        self.serve(spec, claim, loaded).await.map(OpenedSession::Serving)
    }

    async fn serve(
        &self,
        spec: &SessionSpec,
        claim: Claim,
        loaded: Option<Loaded>,
    ) -> Result<Arc<LocalSession>, SessionError> {
        let Claim { state, door } = claim;
        let backends = self.backends();
        let backends = Backends { ignore: spec.ignore.as_ref().or(backends.ignore), ..backends };
        let preparation = self.preparation(spec);
        let load = async {
            match loaded {
                Some(loaded) => loaded,
                None => preparation.load_variables().await,
            }
        };
        let home = &self.settings.home;
        let (opened, (loaded, warnings)) = tokio::join!(
            Workspace::open(home, backends, state, &spec.id, spec.user.as_ref()),
            load,
        );
        let OpenedWorkspace { workspace, created, warnings: workspace_warnings } = opened?;
        let warnings = warnings.into_iter().chain(workspace_warnings).collect();
        match preparation.run(&workspace, &loaded, warnings).await {
            Ok(parts) => {
                let settings = self.settings.session.clone();
                let session = Arc::new(LocalSession::new(workspace, settings, parts));
                let shared = SharedSettings::new(self, spec)?;
                serve(&session, door, &shared.of(self, spec, &loaded.variables));
                Ok(session)
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

/// Returns the canonical form of a path. The path may not exist yet, and its parents may be
/// symlinks.
pub(super) fn canonical(path: PathBuf) -> PathBuf {
    let existing =
        path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above.to_owned())));
    match existing {
        Some((canonical, above)) if above == path => canonical,
        Some((canonical, above)) => canonical.join(path.strip_prefix(above).unwrap_or(&path)),
        None => path,
    }
}

/// The settings that two processes compare, except for the variables.
struct SharedSettings {
    policy: Policy,
    hidden: Vec<PathBuf>,
}

impl SharedSettings {
    fn new(opener: &Opener, spec: &SessionSpec) -> Result<Self, SessionError> {
        let dir = opener.session_dir(spec);
        let policy = opener.preparation(spec).policy(&dir, ApplicationDirs::Ignored)?;
        let hidden = opener.settings.application_dirs.iter().cloned().map(canonical).collect();
        Ok(Self { policy, hidden })
    }

    fn of<'s>(
        &'s self,
        opener: &'s Opener,
        spec: &'s SessionSpec,
        variables: &'s Variables,
    ) -> Settings<'s> {
        Settings {
            policy: &self.policy,
            hidden: &self.hidden,
            variables,
            session: &opener.settings.session,
            storage: opener.settings.storage.as_ref(),
            user: spec.user.as_ref().map(sandbox_core::UserId::as_str),
        }
    }
}
