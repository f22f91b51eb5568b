//! Opening sessions: one place that knows where everything lives.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artifact_sync::{IgnoreRules, Progress, Skipped};
use policy::{Policy, PolicyError, SandboxRuntimeConfig, UnenforcedReason};
use sandbox_core::internal::{blocking, lock};
use sandbox_core::{Limits, NativeSandbox, OpenError, SessionId, Tier, UserId};
use secrets::{LoadedVariables, VariableSource};
use skill_store::{InstalledSkill, SkillError, SkillRef};
use tokio::sync::OnceCell;

use crate::environment;
use crate::home::{Home, StateError};
use crate::runtimes::HostRuntimes;
use crate::session::{Session, SessionParts, SessionSettings};
use crate::storage::Storage;
use crate::workspace::{Backends, CloseError, OpenedWorkspace, Workspace, WorkspaceError};

/// Opens and keeps the sessions of one host process.
#[derive(Debug)]
pub struct Sessions {
    settings: SessionsBuilder,
    runtimes: HostRuntimes,
    open: Mutex<HashMap<SessionId, Arc<OnceCell<Arc<Session>>>>>,
}

/// Settings for all sessions of a host process; made by [`Sessions::builder`].
#[derive(Clone, Debug)]
pub struct SessionsBuilder {
    home: Home,
    storage: Option<Storage>,
    progress: Option<Arc<dyn Progress>>,
    variables: Option<Arc<dyn VariableSource>>,
    python_venv: Option<PathBuf>,
    application_dirs: Vec<PathBuf>,
    ignore: Option<IgnoreRules>,
    session: SessionSettings,
}

/// Which session to open, and what it may do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionSpec {
    /// The session.
    pub id: SessionId,
    /// Whose artifacts they are; without a user nothing is mirrored.
    pub user: Option<UserId>,
    /// The skills it may use.
    pub skills: Vec<SkillRef>,
    /// Settings in place of the default policy; the session directory is opened in addition.
    pub policy: Option<SandboxRuntimeConfig>,
    /// Paths of the host that commands may read too.
    pub allow_read: Vec<PathBuf>,
    /// Paths of the host that commands may read and write too.
    pub allow_write: Vec<PathBuf>,
    /// What is not mirrored, in the place of what holds for every session.
    pub ignore: Option<IgnoreRules>,
}

impl SessionSpec {
    /// A session without user, skills or exceptions.
    pub fn new(id: SessionId) -> Self {
        let (allow_read, allow_write) = Default::default();
        Self {
            id,
            user: None,
            skills: Vec::new(),
            policy: None,
            allow_read,
            allow_write,
            ignore: None,
        }
    }

    /// Mirrors the session's artifacts as this user's.
    #[must_use]
    pub fn user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Installs a skill.
    #[must_use]
    pub fn skill(mut self, skill: SkillRef) -> Self {
        self.skills.push(skill);
        self
    }
}

impl SessionsBuilder {
    /// Keeps artifacts and skills in a store; without one, sessions are local.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Loads the variables of every session's environment from a source.
    #[must_use]
    pub fn variables(mut self, source: Arc<dyn VariableSource>) -> Self {
        self.variables = Some(source);
        self
    }

    /// Puts a Python virtual environment first on `PATH`.
    #[must_use]
    pub fn python_venv(mut self, venv: impl Into<PathBuf>) -> Self {
        self.python_venv = Some(venv.into());
        self
    }

    /// Hides a directory of the host application from every session; `home` is hidden anyway.
    #[must_use]
    pub fn application_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.application_dirs.push(dir.into());
        self
    }

    /// What of every session is not mirrored, in the place of the default list.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.ignore = Some(rules);
        self
    }

    /// Names the block of links after a command's output; `artifacts` by default.
    #[must_use]
    pub fn artifact_label(mut self, label: impl Into<String>) -> Self {
        self.session.artifact_label = label.into();
        self
    }

    /// Adds to the description of the tool `bash`.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.session.instructions = Some(instructions.into());
        self
    }

    /// Is told how far the restoring of a session, and its uploads, have come.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// How long a command may run that does not say so itself; 120 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.session.timeout = timeout;
        self
    }

    /// How much the commands of a session may use of the machine.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.session.limits = limits;
        self
    }

    /// What the sandboxes stand on; namespaces by default. A host that refuses those needs
    /// [`Tier::Landlock`], which is weaker, and named for that reason: there is no fallback.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.session.tier = tier;
        self
    }

    /// Looks at the host and is ready to open sessions. Nothing is made on disk yet.
    pub fn build(self) -> Sessions {
        let runtimes = HostRuntimes::find(|name| std::env::var_os(name));
        Sessions { settings: self, runtimes, open: Mutex::default() }
    }
}

impl Sessions {
    /// Settings for sessions that live under `home`.
    pub fn builder(home: Home) -> SessionsBuilder {
        let session = SessionSettings {
            artifact_label: "artifacts".to_owned(),
            instructions: None,
            timeout: Duration::from_secs(120),
            limits: Limits::default(),
            tier: Tier::default(),
        };
        SessionsBuilder {
            home,
            storage: None,
            progress: None,
            variables: None,
            python_venv: None,
            application_dirs: Vec::new(),
            ignore: None,
            session,
        }
    }

    /// What the host offers to sessions.
    pub fn runtimes(&self) -> &HostRuntimes {
        &self.runtimes
    }

    /// Where sessions live.
    pub fn home(&self) -> &Home {
        &self.settings.home
    }

    /// Opens a session, or gives the open one: concurrent opens of one session share one.
    ///
    /// A session that is open stays as it was opened; skills, policy and exceptions of `spec` count
    /// at the first open.
    ///
    /// # Errors
    /// [`SessionError`], and then nothing of the session is open.
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

    /// Uploads what is pending of a session, ends its processes, and removes its directory. Gives
    /// what the store could not hold and which is gone with the directory.
    ///
    /// # Errors
    /// [`CloseError`]; the directory stays when something could not be uploaded.
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

    /// The files of a session that is on this machine, without opening a sandbox.
    ///
    /// # Errors
    /// [`WorkspaceError`], also when the session is not on this machine or in use.
    pub async fn workspace(&self, id: &SessionId) -> Result<Workspace, WorkspaceError> {
        Workspace::open_existing(&self.settings.home, self.backends(), id).await
    }

    /// The policy that a session would have, without opening it.
    ///
    /// # Errors
    /// [`SessionError::Policy`] and [`SessionError::MissingPath`].
    pub fn policy(&self, spec: &SessionSpec) -> Result<Policy, SessionError> {
        let mut dir = self.settings.home.session_dir(&spec.id);
        // The directory may not exist yet; its parents may be reached through symlinks all the
        // same.
        if let Some(existing) =
            dir.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above.to_owned())))
        {
            let (canonical, above) = existing;
            dir = canonical.join(dir.strip_prefix(&above).unwrap_or(&dir));
        }
        self.policy_for(spec, &dir)
    }

    fn backends(&self) -> Backends<'_> {
        let SessionsBuilder { storage, progress, ignore, .. } = &self.settings;
        Backends { storage: storage.as_ref(), progress: progress.as_ref(), ignore: ignore.as_ref() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<OnceCell<Arc<Session>>>>> {
        lock(&self.open)
    }

    /// Forgets a cell, unless another one has taken its place.
    fn forget(&self, id: &SessionId, cell: &Arc<OnceCell<Arc<Session>>>) {
        let mut open = self.lock();
        if open.get(id).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            open.remove(id);
        }
    }

    async fn open_new(&self, spec: &SessionSpec) -> Result<Arc<Session>, SessionError> {
        // What cannot work at all is said before anything is made.
        self.policy(spec)?;
        let backends = self.backends();
        let backends = Backends { ignore: spec.ignore.as_ref().or(backends.ignore), ..backends };
        // The database is asked while the store is.
        let (opened, (loaded, warnings)) = tokio::join!(
            Workspace::open(&self.settings.home, backends, &spec.id, spec.user.as_ref()),
            self.load_variables(),
        );
        let OpenedWorkspace { workspace, created, warnings: about_files } = opened?;
        let warnings = warnings.into_iter().chain(about_files).collect();
        match self.prepare(spec, &workspace, &loaded, warnings).await {
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

    /// Skills, environment and sandbox for an open workspace.
    async fn prepare(
        &self,
        spec: &SessionSpec,
        workspace: &Workspace,
        loaded: &LoadedVariables,
        mut warnings: Vec<String>,
    ) -> Result<SessionParts, SessionError> {
        let skills = self.install_skills(spec, workspace, &mut warnings).await?;
        let policy = self.policy_for(spec, workspace.dir.path())?;
        let venv = self.settings.python_venv.as_deref();
        let environment = environment::compose(
            std::env::vars_os(),
            &self.runtimes,
            venv,
            &policy,
            &loaded.variables,
        );
        warnings.extend(
            loaded
                .skipped
                .iter()
                .map(|skipped| format!("variable {}: {}", skipped.name, skipped.reason)),
        );
        warnings.extend(
            environment
                .overridden
                .iter()
                .map(|name| format!("variable {name}: the session sets it itself")),
        );
        let (for_sandbox, dir) = (policy.clone(), workspace.dir.path().to_owned());
        let SessionSettings { tier, limits, .. } = self.settings.session.clone();
        let sandbox = blocking(move || {
            NativeSandbox::builder(&for_sandbox, dir).limits(limits).tier(tier).open()
        })
        .await
        .map_err(|source| SessionError::Sandbox { source })?;
        // What is not there needs no protection now, and presets name many such paths.
        let gaps =
            sandbox.unenforced().into_iter().filter(|gap| gap.reason != UnenforcedReason::Absent);
        warnings
            .extend(gaps.map(|gap| format!("policy: {} {}: {}", gap.list, gap.rule, gap.reason)));
        for warning in &warnings {
            tracing::warn!(session = %spec.id, "{warning}");
        }
        Ok(SessionParts { policy, sandbox, environment, skills, warnings })
    }

    /// The variables, or none and why: commands run without them all the same.
    async fn load_variables(&self) -> (LoadedVariables, Vec<String>) {
        let Some(source) = &self.settings.variables else { return Default::default() };
        match source.load().await {
            Ok(loaded) => (loaded, Vec::new()),
            Err(error) => {
                let warning =
                    format!("no variables could be loaded: {}", crate::with_causes(&error));
                (LoadedVariables::default(), vec![warning])
            }
        }
    }

    async fn install_skills(
        &self,
        spec: &SessionSpec,
        workspace: &Workspace,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<InstalledSkill>, SessionError> {
        let Some(storage) = &self.settings.storage else {
            return match spec.skills.first() {
                Some(skill) => Err(SessionError::NoSkillStore { skill: skill.to_string() }),
                None => Ok(Vec::new()),
            };
        };
        let store = storage.skills();
        let mut installed = Vec::new();
        for skill in &spec.skills {
            let report = store
                .install(skill, &workspace.dir, &workspace.state.skills_dir())
                .await
                .map_err(|source| SessionError::Skill { skill: skill.to_string(), source })?;
            warnings
                .extend(report.warnings.iter().map(|warning| format!("skill {skill}: {warning}")));
            installed.push(report.skill);
        }
        Ok(installed)
    }

    fn policy_for(&self, spec: &SessionSpec, session_dir: &Path) -> Result<Policy, SessionError> {
        let home = std::env::home_dir()
            .filter(|home| home.is_absolute())
            .unwrap_or_else(|| PathBuf::from("/root"));
        let existing = |path: &PathBuf| {
            path.canonicalize()
                .map_err(|source| SessionError::MissingPath { path: path.clone(), source })
        };
        let mut reads: Vec<PathBuf> =
            spec.allow_read.iter().map(existing).collect::<Result<_, _>>()?;
        let writes: Vec<PathBuf> =
            spec.allow_write.iter().map(existing).collect::<Result<_, _>>()?;
        reads.extend(self.settings.python_venv.as_ref().map(existing).transpose()?);
        reads.extend(self.runtimes.node_path.clone());
        if let Some(config) = &spec.policy {
            let mut config = config.clone();
            for path in reads.iter().chain(&writes).map(PathBuf::as_path).chain([session_dir]) {
                config
                    .filesystem
                    .allow_read
                    .get_or_insert_default()
                    .push(path.to_string_lossy().into_owned());
            }
            for path in writes.iter().map(PathBuf::as_path).chain([session_dir]) {
                config.filesystem.allow_write.push(path.to_string_lossy().into_owned());
            }
            return Policy::from_config(config, &home)
                .map_err(|source| SessionError::Policy { source });
        }
        let mut builder = Policy::session(session_dir)
            .home(&home)
            .sessions_root(&self.settings.home.sessions_root())
            .application_dir(self.settings.home.path());
        for dir in &self.settings.application_dirs {
            builder = builder.application_dir(dir);
        }
        for path in reads.iter().chain(&writes) {
            builder = builder.allow_read(path);
        }
        for path in &writes {
            builder = builder.allow_write(path);
        }
        builder.build().map_err(|source| SessionError::Policy { source })
    }
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Its files or its state cannot be used.
    #[error(transparent)]
    Workspace {
        /// The cause.
        #[from]
        source: WorkspaceError,
    },
    /// A skill could not be installed.
    #[error("skill {skill} could not be installed")]
    Skill {
        /// The skill, as it was asked for.
        skill: String,
        /// The cause.
        source: SkillError,
    },
    /// A skill was asked for, but there is no store to take it from.
    #[error("skill {skill} cannot be installed: no store is configured")]
    NoSkillStore {
        /// The skill, as it was asked for.
        skill: String,
    },
    /// The policy is not valid.
    #[error("the session's policy is not valid")]
    Policy {
        /// The cause.
        source: PolicyError,
    },
    /// A path that should be opened for the session is not there.
    #[error("cannot open {} for the session", path.display())]
    MissingPath {
        /// The path.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The sandbox cannot be had on this machine.
    #[error("the sandbox cannot be opened")]
    Sandbox {
        /// The layer, the reason and the remedy.
        source: OpenError,
    },
}
