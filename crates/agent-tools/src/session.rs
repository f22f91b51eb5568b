//! One open session, which this process serves or another one.

mod commands;
mod dialing;
mod ending;
mod explaining;
mod history;
mod keeper;
mod link;
mod local;
mod masking;
mod network;
mod placeholders;
mod requirements;
mod skills;
mod spawning;
pub(crate) mod unused_masks;
mod variables;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use artifact_sync::{ChangeSourceReport, CloseMode, RestoreReport, SyncReport};
use policy::Policy;
use sandbox_core::internal::lock;
use sandbox_core::{EngineReport, Limits, RelativePath, SessionId, Tier, UserId};
use skill_store::InstalledSkill;

use crate::boxed::boxed;
use crate::engine::SandboxFactory;
use crate::network::NetworkRules;
use crate::restrictions::Restrictions;
use crate::rules::Rules;
use crate::sessions::{Opener, SessionSpec};
use crate::sharing::{
    Call, CallError, Close, Delete, Departure, NotAdmitted, Pull, Refresh, SessionFacts, SyncFiles,
    WrapCommand,
};
use crate::tool_error::ToolError;
use crate::tools::ToolSelection;
use crate::tools::processes::Background;
use crate::workspace::{CloseError, CloseReport, RemovalMode, TransferError};

pub use self::ending::DrainReport;
pub(crate) use self::ending::{Stop, Stopper};
pub(crate) use self::explaining::Failures;
pub(crate) use self::keeper::keep;
pub(crate) use self::link::{Link, OpenedSession};
pub(crate) use self::local::{LocalSession, SessionParts};
pub(crate) use self::placeholders::Placeholders;
pub(crate) use self::skills::{SessionSkills, SkillsReport, unreadable_request};
pub use self::variables::VariableSelection;
pub(crate) use self::variables::{
    EnvironmentRecipe, Selected, SessionVariables, requested_by_skill,
};

/// The size up to which the caller's thread reads and writes a file itself: handing the work to
/// another thread takes longer than the system call.
pub(crate) const INLINE_BYTES: usize = 64 * 1024;
/// The maximum number of servers that one call asks.
const MAX_SERVERS: usize = 20;

/// An open session. Calls may overlap. Dropping the session kills its processes and keeps its
/// files.
///
/// If another process has opened the session first, calls run there, with the same results. After
/// that process has ended, the next call makes this process serve the session.
///
/// Calls of other processes outlast the session. To wait for them, use [`Session::release`].
pub struct Session {
    id: SessionId,
    user: Option<UserId>,
    pub(crate) settings: SessionSettings,
    policy: Policy,
    /// The rules for the network, as this handle saw them last.
    network: Mutex<NetworkRules>,
    /// The facts from opening the session.
    facts: SessionFacts,
    /// The skills of the session, as this handle saw them last.
    skills: Mutex<Vec<InstalledSkill>>,
    /// The warnings for the next result.
    unreported_warnings: Mutex<Vec<String>>,
    /// The request to open the session again. It has the skills of later requests too.
    spec: Mutex<SessionSpec>,
    opener: Arc<Opener>,
    link: RwLock<Link>,
    /// Held while the session is opened again.
    reopening: tokio::sync::Mutex<()>,
    /// Kills the commands of this handle.
    stopper: Stopper,
    /// The processes that tools have started.
    pub(crate) background: Background,
}

/// Settings that all sessions of one [`Sessions`](crate::Sessions) share.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    pub(crate) artifact_label: String,
    pub(crate) instructions: Option<String>,
    pub(crate) timeout: Duration,
    /// The maximum time limit of a command.
    pub(crate) max_timeout: Option<Duration>,
    pub(crate) linger: Duration,
    /// The maximum length of each stream in a result, in UTF-16 units.
    pub(crate) max_output: usize,
    /// True if longer streams are kept in a file of the sandbox.
    pub(crate) keeps_output: bool,
    pub(crate) rules: Rules,
    pub(crate) limits: Limits,
    pub(crate) tier: Tier,
    /// The engine of the embedder, instead of the native one.
    pub(crate) engine: Option<Arc<dyn SandboxFactory>>,
    /// The tools that the session offers.
    pub(crate) tools: ToolSelection,
    /// True if results have placeholders for the values of variables.
    pub(crate) redact: bool,
    /// The file whose restrictions the session has.
    pub(crate) restrictions: Option<Restrictions>,
}

impl Session {
    /// Creates the handle of a session that this process serves, or another one.
    pub(crate) fn new(
        opener: Arc<Opener>,
        spec: SessionSpec,
        settings: SessionSettings,
        policy: Policy,
        opened: OpenedSession,
    ) -> Self {
        let facts = opened.facts();
        let network = NetworkRules::new(&policy.config().network, spec.network.as_ref());
        Self {
            id: spec.id.clone(),
            user: spec.user.clone(),
            settings,
            policy,
            network: Mutex::new(network),
            unreported_warnings: Mutex::new(facts.warnings.clone()),
            skills: Mutex::new(facts.skills.clone()),
            facts,
            spec: Mutex::new(spec),
            opener,
            link: RwLock::new(opened.into()),
            reopening: tokio::sync::Mutex::default(),
            stopper: Stopper::default(),
            background: Background::default(),
        }
    }

    /// Returns the session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns the user who owns the session.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Returns the session directory, which has the same path on the host and in the sandbox.
    pub fn dir(&self) -> &Path {
        &self.facts.dir
    }

    /// Returns the policy of the session's commands, as of opening the session. The rules for the
    /// network may have changed since ([`Session::set_network`]).
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns a report of the layers that the engine enforces.
    pub fn report(&self) -> EngineReport {
        match self.link() {
            Link::Serving(session) => session.report(),
            _ => self.facts.report.clone(),
        }
    }

    /// Returns the way in which changes of files are detected, and the reason if that is not by
    /// events; `None` without a store. If another process serves the session, the answer is that
    /// from opening it.
    pub fn change_source(&self) -> Option<ChangeSourceReport> {
        match self.link() {
            Link::Serving(session) => session.workspace.change_source(),
            _ => self.facts.change_source.clone(),
        }
    }

    /// Returns the warnings from opening the session, such as skipped variables and skills without
    /// a version.
    pub fn warnings(&self) -> &[String] {
        &self.facts.warnings
    }

    /// Returns the skills of the session. If another process serves it, they are those of the last
    /// [`Sessions::open`](crate::Sessions::open) in this one.
    pub fn skills(&self) -> Vec<InstalledSkill> {
        match self.link() {
            Link::Serving(session) => session.skills.installed(),
            _ => lock(&self.skills).clone(),
        }
    }

    /// Renders the skills for a system prompt; `None` without skills.
    pub fn skills_prompt(&self) -> Option<String> {
        let skills = self.skills();
        (!skills.is_empty()).then(|| skill_store::prompt(&skills))
    }

    /// Returns whether another process, or another `Sessions` of this one, serves the session.
    pub fn is_served_elsewhere(&self) -> bool {
        matches!(self.link(), Link::Connected(_))
    }

    /// Returns a shell command that runs `command` like [`Session::bash`] would, with the standard
    /// streams of the calling shell; see
    /// [`NativeSandbox::wrap_command`](sandbox_core::NativeSandbox::wrap_command).
    ///
    /// Any shell of this user on this host can run it while the process that serves the session
    /// has it open. The next call mirrors the files it changed.
    ///
    /// # Errors
    /// Returns [`ToolError::Exec`] if the command can never be run, and [`ToolError::Sharing`] if
    /// the process that serves the session fails.
    pub async fn wrap_command(&self, command: &str) -> Result<String, ToolError> {
        let SessionSettings { timeout, linger, .. } = self.settings;
        self.run(WrapCommand { command: command.into(), timeout, linger }).await
    }

    /// Adopts what other programs changed in the store: new, changed and removed objects.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store cannot be listed.
    pub async fn refresh(&self, removals: RemovalMode) -> Result<RestoreReport, TransferError> {
        self.run(Refresh { removals }).await
    }

    /// Uploads local changes, as every call does automatically, but names every pending change and
    /// skipped file again. If the store fails, the report lists the changes as pending.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, or if another machine took it over.
    pub async fn sync(&self) -> Result<SyncReport, TransferError> {
        self.run(SyncFiles { patience: None }).await
    }

    /// Fetches one object of the session's prefix into its directory. Returns `None` if the object
    /// is a directory marker.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the store fails, or if the key
    /// belongs to another session or leaves the session directory.
    pub async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        self.run(Pull { key: key.into() }).await
    }

    /// Closes the session and keeps it if a file is not in the store; see [`Session::close_with`].
    ///
    /// # Errors
    /// Like [`Session::close_with`].
    pub async fn close(&self) -> Result<CloseReport, CloseError> {
        self.close_with(CloseMode::KeepPending).await
    }

    /// Uploads pending changes, ends every process of the session, and removes its directory and
    /// its state from this machine. The report names the files that had no copy.
    ///
    /// Running commands fail with [`SharingError::ClosedDuringCall`]. Afterwards, the calls of
    /// every process that shares the session fail with [`SharingError::Closed`].
    ///
    /// [`SharingError::ClosedDuringCall`]: crate::SharingError::ClosedDuringCall
    /// [`SharingError::Closed`]: crate::SharingError::Closed
    ///
    /// # Errors
    /// Returns [`CloseError`], such as [`CloseError::Pending`]. The directory then stays, and the
    /// session can be opened again or closed later. [`CloseMode::Discard`] deletes files that are
    /// not in the store.
    pub async fn close_with(&self, mode: CloseMode) -> Result<CloseReport, CloseError> {
        let report = self.run(Close::new(mode, None)).await?;
        self.set_link(Link::Left(Departure::Closed));
        Ok(report)
    }

    /// Deletes the session everywhere, for good: its files and its history, in the store and on
    /// this machine. The next session of the same id is empty.
    ///
    /// # Errors
    /// Returns [`CloseError`] if the store or the disk fails.
    pub async fn delete(&self) -> Result<(), CloseError> {
        self.run(Delete {}).await?;
        self.set_link(Link::Left(Departure::Deleted));
        Ok(())
    }

    /// Returns whether the session was closed, or taken over by another machine.
    pub(crate) fn is_gone(&self) -> bool {
        match self.link() {
            Link::Serving(session) => session.gate.is_closed() || session.workspace.is_lost(),
            Link::Ended | Link::Left(_) => true,
            Link::Connected(_) | Link::Released => false,
        }
    }

    /// Runs a call in the place that serves the session.
    ///
    /// # Cancel safety
    /// That of the call, also in another process.
    pub(crate) async fn run<C: Call>(&self, call: C) -> Result<C::Output, C::Error> {
        for _ in 0..MAX_SERVERS {
            let link = self.link();
            match &link {
                Link::Serving(session) => match session.gate.begin() {
                    Ok(_guard) => return boxed(|| call.run_on(session)).await,
                    Err(NotAdmitted::Left(departure)) => {
                        return Err(self.left(departure).into());
                    }
                    Err(NotAdmitted::Draining) => {}
                },
                Link::Connected(client) => match boxed(|| client.call(&call)).await {
                    Ok(output) => return Ok(output),
                    Err(CallError::Failed(error)) => return Err(error),
                    Err(CallError::Left(departure)) => return Err(self.left(departure).into()),
                    Err(CallError::NotStarted) => {}
                },
                unserved => self.check_reopening(unserved)?,
            }
            boxed(|| self.reopen(&link)).await?;
        }
        Err(self.no_server().into())
    }

    /// Redacts a text of the caller; `None` if another process serves the session.
    pub(crate) fn redact(&self, text: &str) -> Option<String> {
        let Link::Serving(session) = self.link() else { return None };
        Some(session.redact(text))
    }

    /// Resolves a path of a call as the agent wrote it, so that an invalid one is a typed error
    /// wherever the call runs.
    pub(crate) fn check_path(&self, input: &str) -> Result<(), ToolError> {
        local::resolve(self.dir(), input).map(drop)
    }

    /// Returns the warnings from opening the session, once.
    pub(crate) fn take_unreported_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.unreported_warnings))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The calls of other processes keep the session open until they end.
        if let Link::Serving(session) = self.link() {
            session.gate.drain();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("link", &self.link())
            .finish_non_exhaustive()
    }
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ToolError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ToolError::Interrupted { source })
}
