//! Opening of one session, in this process or as a client of another one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use artifact_sync::Takeover;
use policy::Policy;
use sandbox_core::internal::lock;
use secrets::{LoadedVariables, Variables};

use super::builder::SessionsBuilder;
use super::error::SessionError;
use super::ownership::Owner;
use super::prepare::{ApplicationDirs, Preparation};
use super::spec::SessionSpec;
use crate::boxed::boxed;
use crate::home::canonical;
use crate::network::{NetworkRules, SharedGate};
use crate::runtimes::HostRuntimes;
use crate::session::{LocalSession, OpenedSession, Session, keep};
use crate::sharing::{Claim, Entered, Settings, SharingError, VariablesKey, Wish, enter, serve};
use crate::workspace::{Backends, OpenedWorkspace, Workspace, WorkspaceError};

/// The settings by which sessions are opened, and opened again.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) settings: SessionsBuilder,
    pub(crate) runtimes: HostRuntimes,
    /// The gate of all sessions with a network.
    gate: SharedGate,
    /// The ownership of sessions. The first session that is opened starts the heartbeat.
    owner: Mutex<Option<Owner>>,
    /// Set once this process opens no sessions any more.
    is_draining: AtomicBool,
}

/// Variables, and the warnings from loading them.
type Loaded = (LoadedVariables, Vec<String>);

impl Opener {
    pub(super) fn new(settings: SessionsBuilder, runtimes: HostRuntimes) -> Self {
        Self {
            gate: SharedGate::new(settings.home.trust_root(), settings.gate.clone()),
            settings,
            runtimes,
            owner: Mutex::default(),
            is_draining: AtomicBool::default(),
        }
    }

    /// Opens no sessions afterwards.
    pub(super) fn begin_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Opens a session.
    pub(super) async fn open(
        self: &Arc<Self>,
        spec: &SessionSpec,
    ) -> Result<Session, SessionError> {
        // An invalid request fails before anything is created.
        self.preparation(spec).begin(&self.session_dir(spec))?;
        let opened = self.link(spec, |_| true, Retaking::Allowed).await?;
        let policy = match &opened {
            OpenedSession::Serving(session) => session.policy().clone(),
            OpenedSession::Connected(_) => self.policy(spec)?,
        };
        let settings = self.settings.session.clone();
        Ok(Session::new(Arc::clone(self), spec.clone(), settings, policy, opened))
    }

    /// Opens a session again after the process that served it has ended.
    pub(crate) async fn reopen(&self, spec: &SessionSpec) -> Result<OpenedSession, SessionError> {
        let is_claimed = |claim: &Claim| claim.state.dir().is_claimed();
        self.link(spec, is_claimed, Retaking::Forbidden).await
    }

    /// Returns the policy of a session.
    pub(super) fn policy(&self, spec: &SessionSpec) -> Result<Policy, SessionError> {
        self.preparation(spec).policy(&self.session_dir(spec), ApplicationDirs::Hidden)
    }

    /// Returns the rules for the network of a session.
    pub(crate) fn network(&self, spec: &SessionSpec) -> Result<NetworkRules, SessionError> {
        let policy = self.policy(spec)?;
        Ok(NetworkRules::new(&policy.config().network, spec.network.as_ref()))
    }

    /// Returns the canonical path that a session's directory has, or would have.
    fn session_dir(&self, spec: &SessionSpec) -> PathBuf {
        canonical(self.settings.home.session_dir(&spec.id))
    }

    fn preparation<'s>(&'s self, spec: &'s SessionSpec) -> Preparation<'s> {
        let Self { settings, runtimes, gate, .. } = self;
        Preparation { settings, runtimes, spec, gate }
    }

    pub(super) fn backends(&self) -> Backends<'_> {
        let SessionsBuilder {
            storage,
            progress,
            ignore,
            retention,
            max_queued_bytes,
            durability,
            listing_age,
            patience,
            without_projection,
            refill,
            ..
        } = &self.settings;
        Backends {
            storage: storage.as_ref(),
            progress: progress.as_ref(),
            ignore: ignore.as_ref(),
            owner: None,
            retention: *retention,
            max_queued_bytes: *max_queued_bytes,
            durability: *durability,
            listing_age: *listing_age,
            patience: *patience,
            without_projection: *without_projection,
            refill: *refill,
        }
    }

    /// Returns the ownership of sessions in the store. Starts the heartbeat of a shared store.
    pub(super) fn owner(&self) -> Result<Option<Owner>, WorkspaceError> {
        let SessionsBuilder { storage: Some(storage), home, ownership, .. } = &self.settings else {
            return Ok(None);
        };
        if let Some(dir) = storage.directory() {
            home.check_store_directory(dir.to_owned())?;
        }
        let mut known = lock(&self.owner);
        if let Some(owner) = &*known {
            return Ok(Some(owner.clone()));
        }
        let owner = ownership.start(storage, home);
        let owner = owner.map_err(|source| WorkspaceError::Mirror { source })?;
        Ok(Some(known.insert(owner).clone()))
    }

    /// Serves the session if no other process does, or connects to that process. The caller judges
    /// the state of a session that this process would serve.
    async fn link(
        &self,
        spec: &SessionSpec,
        is_accepted: impl Fn(&Claim) -> bool,
        retaking: Retaking,
    ) -> Result<OpenedSession, SessionError> {
        let home = &self.settings.home;
        if self.is_draining.load(Ordering::Relaxed) {
            let session = spec.id.clone();
            return Err(WorkspaceError::from(SharingError::Draining { session }).into());
        }
        let (claim, loaded) = match Claim::try_new(home, &spec.id)? {
            Some(claim) => (claim, None),
            None => {
                // Variables from a source with a name are those of the first process.
                let loaded = match self.settings.variables_identity {
                    Some(_) => None,
                    None => Some(self.preparation(spec).load_variables().await?),
                };
                let none = Variables::default();
                let values = loaded.as_ref().map_or(&none, |(loaded, _)| &loaded.variables);
                let shared = SharedSettings::new(self, spec)?;
                let wish = Wish::Session(shared.of(self, spec, values));
                match enter(home, &spec.id, &wish).await? {
                    Entered::Owner(claim) => (claim, loaded),
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
        self.serve(spec, claim, loaded, retaking).await.map(OpenedSession::Serving)
    }

    async fn serve(
        &self,
        spec: &SessionSpec,
        claim: Claim,
        loaded: Option<Loaded>,
        retaking: Retaking,
    ) -> Result<Arc<LocalSession>, SessionError> {
        let Claim { state, door } = claim;
        let owner = self.owner()?.map(|owner| retaking.limit(owner));
        let backends = self.backends();
        let ignore = spec.ignore.as_ref().or(backends.ignore);
        let retention = spec.retention.or(backends.retention);
        let backends = Backends { ignore, retention, owner: owner.as_ref(), ..backends };
        let preparation = self.preparation(spec);
        let load = async {
            match loaded {
                Some(loaded) => Ok(loaded),
                None => preparation.load_variables().await,
            }
        };
        let home = &self.settings.home;
        let open = || Workspace::open(home, backends, state, &spec.id, spec.user.as_ref());
        let (opened, loaded) = tokio::join!(boxed(open), load);
        let OpenedWorkspace { workspace, created, warnings: workspace_warnings } = opened?;
        let prepare = async {
            let (loaded, warnings) = loaded?;
            let warnings = warnings.into_iter().chain(workspace_warnings).collect();
            let parts = preparation.run(&workspace, &loaded, warnings).await?;
            Ok((parts, loaded))
        };
        match prepare.await {
            Ok((parts, loaded)) => {
                let settings = self.settings.session.clone();
                let session = Arc::new(LocalSession::new(workspace, settings, parts));
                let shared = SharedSettings::new(self, spec)?;
                serve(&session, door, &shared.of(self, spec, &loaded.variables));
                keep(&session);
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

/// Permission to take a session over from a live owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retaking {
    Allowed,
    /// The session was open here before. Two homes must not take it from each other again and
    /// again.
    Forbidden,
}

impl Retaking {
    fn limit(self, owner: Owner) -> Owner {
        match (self, owner.takeover) {
            (Self::Forbidden, Takeover::Steal) if owner.heartbeat.is_some() => {
                Owner { takeover: Takeover::Refuse, ..owner }
            }
            _ => owner,
        }
    }
}

/// The settings that two processes compare, except for the variables.
struct SharedSettings {
    policy: Policy,
    network: NetworkRules,
    hidden: Vec<PathBuf>,
    frozen: Vec<PathBuf>,
}

impl SharedSettings {
    fn new(opener: &Opener, spec: &SessionSpec) -> Result<Self, SessionError> {
        let dir = opener.session_dir(spec);
        let policy = opener.preparation(spec).policy(&dir, ApplicationDirs::Ignored)?;
        let SessionsBuilder { application_dirs, sealed, frozen, .. } = &opener.settings;
        let hidden = application_dirs.iter().chain(sealed).cloned().map(canonical).collect();
        let frozen = frozen.iter().cloned().map(canonical).collect();
        let network = NetworkRules::new(&policy.config().network, spec.network.as_ref());
        Ok(Self { policy, network, hidden, frozen })
    }

    fn of<'s>(
        &'s self,
        opener: &'s Opener,
        spec: &'s SessionSpec,
        values: &'s Variables,
    ) -> Settings<'s> {
        let identity = opener.settings.variables_identity.as_deref();
        let variables = identity.map_or(VariablesKey::Values(values), VariablesKey::Identity);
        Settings {
            policy: &self.policy,
            network: &self.network,
            for_files: spec.for_files,
            hidden: &self.hidden,
            frozen: &self.frozen,
            variables,
            selection: &spec.variables,
            masks: &spec.masks,
            session: &opener.settings.session,
            storage: opener.settings.storage.as_ref(),
            durability: opener.settings.durability,
            user: spec.user.as_ref().map(sandbox_core::UserId::as_str),
            skill_keys: &opener.settings.skill_keys,
            ignore: spec.ignore.as_ref().or(opener.settings.ignore.as_ref()),
            retention: spec.retention.or(opener.settings.retention),
            without_projection: opener.settings.without_projection,
        }
    }
}
