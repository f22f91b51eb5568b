//! A session that this process serves: its files, its sandbox, its policy and its environment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use artifact_sync::{
    CloseMode, GarbageOptions, GarbageReport, RestoreReport, RestoredVersion, SyncError,
    SyncReport, Undelete, UndeleteReport,
};
use egress::Ask;
use policy::Policy;
use sandbox_core::internal::lock;
use sandbox_core::{EngineReport, RelativePath, SessionPath, Tier};
use skill_store::SkillRef;

use super::skills::{SessionSkills, SkillsReport};
use super::{SessionSettings, SessionVariables};
use crate::call_journal::CallJournal;
use crate::engine::Engine;
use crate::network::{NetworkError, NetworkRules, SessionNetwork};
use crate::output::KeptOutputs;
use crate::process::Processes;
use crate::rules::Rules;
use crate::sessions::SessionError;
use crate::sharing::{Departure, Gate, SharingError};
use crate::tool_error::ToolError;
use crate::workspace::{CloseError, CloseReport, RemovalMode, TransferError, Turn, Workspace};

/// A session that this process serves. Dropping it kills its processes and unlocks it.
pub(crate) struct LocalSession {
    sandbox: RwLock<Arc<dyn Engine>>,
    pub(super) policy: Policy,
    pub(crate) network: SessionNetwork,
    pub(crate) variables: SessionVariables,
    pub(super) settings: SessionSettings,
    pub(crate) skills: SessionSkills,
    /// The warnings from opening the session.
    pub(crate) warnings: Vec<String>,
    pub(crate) gate: Arc<Gate>,
    leaving: Mutex<Leaving>,
    /// The processes that outlast the calls which have started them.
    pub(crate) processes: Processes,
    /// The files with output that was too long for a result.
    pub(crate) outputs: Arc<Mutex<KeptOutputs>>,
    /// Held during an edit, so that none loses the result of another one.
    pub(crate) edits: tokio::sync::Mutex<()>,
    pub(crate) calls: Arc<CallJournal>,
    /// The last field, because dropping it unlocks the session.
    pub(crate) workspace: Workspace,
}

/// The end of commands by a call that closes or deletes the session.
#[derive(Debug, Default)]
struct Leaving {
    /// The other process that asks for it next.
    next: Option<u32>,
    /// The sandbox that was ended last, and the other process that asked for that.
    ended: Option<Weak<dyn Engine>>,
    by: Option<u32>,
    departure: Option<Departure>,
}

/// Everything that a session consists of, except its files and settings.
pub(crate) struct SessionParts {
    pub(crate) policy: Policy,
    pub(crate) sandbox: Arc<dyn Engine>,
    pub(crate) network: SessionNetwork,
    pub(crate) variables: SessionVariables,
    pub(crate) skills: SessionSkills,
    pub(crate) warnings: Vec<String>,
}

impl Drop for LocalSession {
    fn drop(&mut self) {
        self.gate.end();
        if self.processes.are_running() {
            self.sandbox().kill("the session was dropped");
        }
    }
}

impl LocalSession {
    pub(crate) fn new(
        workspace: Workspace,
        settings: SessionSettings,
        parts: SessionParts,
    ) -> Self {
        let SessionParts { policy, sandbox, network, variables, skills, warnings } = parts;
        Self {
            sandbox: RwLock::new(sandbox),
            policy,
            network,
            variables,
            settings,
            skills,
            warnings,
            gate: Arc::default(),
            leaving: Mutex::default(),
            processes: Processes::default(),
            outputs: Arc::default(),
            edits: tokio::sync::Mutex::default(),
            calls: Arc::new(CallJournal::in_directory(workspace.state.dir().path())),
            workspace,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.workspace.dir()
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns whether streams that a result shortens are kept in a file.
    pub(crate) fn keeps_output(&self) -> bool {
        self.settings.keeps_output
    }

    pub(crate) fn rules(&self) -> Rules {
        self.settings.rules
    }

    pub(crate) fn tier(&self) -> &Tier {
        &self.settings.tier
    }

    pub(crate) fn report(&self) -> EngineReport {
        self.sandbox().report().clone()
    }

    pub(crate) fn wrap_command(
        &self,
        command: &str,
        timeout: Duration,
        linger: Duration,
    ) -> Result<String, ToolError> {
        let sandbox = self.sandbox();
        let mut spec = self.command_spec(command, &*sandbox);
        (spec.timeout, spec.linger) = (timeout, linger);
        let redactor = Arc::clone(&self.variables.current().redactor);
        let recorder = Arc::clone(&self.calls).wrapped_recorder(redactor);
        sandbox.observe_wrapped_commands(Box::new(recorder));
        sandbox.wrap_command(&spec).map_err(|source| ToolError::Exec { source })
    }

    pub(crate) async fn install_skills(
        &self,
        skills: &[SkillRef],
    ) -> Result<SkillsReport, SessionError> {
        let installed = self.skills.install(&self.workspace, skills).await;
        // Also of the skills before one that failed.
        let mut warnings = Vec::new();
        if self.variables.follows_skills {
            warnings = self.skills.request_variables(&self.variables).await;
        }
        let mut report = installed?;
        report.warnings.extend(warnings);
        self.reapply_policy().await;
        Ok(report)
    }

    pub(crate) async fn refresh(
        &self,
        removals: RemovalMode,
    ) -> Result<RestoreReport, TransferError> {
        let report = self.workspace.refresh(removals).await?;
        self.reapply_policy().await;
        Ok(report)
    }

    pub(crate) async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        let pulled = self.workspace.pull(key).await?;
        self.reapply_policy().await;
        Ok(pulled)
    }

    pub(crate) async fn sync(
        &self,
        patience: Option<Duration>,
    ) -> Result<SyncReport, TransferError> {
        let report = self.workspace.sync(patience).await?;
        // A released session has followed the other homes first.
        self.reapply_policy().await;
        Ok(report)
    }

    pub(crate) async fn collect_garbage(
        &self,
        options: GarbageOptions,
    ) -> Result<GarbageReport, TransferError> {
        let report = self.workspace.collect_garbage(options).await?;
        self.reapply_policy().await;
        Ok(report)
    }

    pub(crate) async fn restore_version(
        &self,
        path: &RelativePath,
        at: u64,
    ) -> Result<RestoredVersion, TransferError> {
        let restored = self.workspace.restore_version(path, at).await?;
        self.reapply_policy().await;
        Ok(restored)
    }

    pub(crate) async fn undelete(
        &self,
        selection: Undelete,
    ) -> Result<UndeleteReport, TransferError> {
        let report = self.workspace.undelete(selection).await?;
        self.reapply_policy().await;
        Ok(report)
    }

    /// Replaces the rules for the network. Connections that they do not allow are cut.
    pub(crate) async fn set_network(
        &self,
        rules: NetworkRules,
        ask: Option<Arc<dyn Ask>>,
    ) -> Result<(), ToolError> {
        if rules.asks && ask.is_none() {
            return Err(ToolError::Network { source: NetworkError::AskedElsewhere });
        }
        let set = self.network.set(rules, ask, &self.sandbox()).await;
        set.map_err(|source| ToolError::Network { source })
    }

    /// Ends every process and connection of the session.
    pub(crate) async fn end(&self) {
        self.processes.end().await;
        self.sandbox().close().await;
        self.network.close().await;
    }

    pub(crate) async fn close(
        &self,
        mode: CloseMode,
        patience: Option<Duration>,
    ) -> Result<CloseReport, CloseError> {
        self.leave(Departure::Closed, self.workspace.close(mode, patience)).await
    }

    pub(crate) async fn delete(&self) -> Result<(), CloseError> {
        self.leave(Departure::Deleted, self.workspace.delete()).await
    }

    /// Records the process for which the next call closes or deletes the session.
    pub(crate) fn announce_leaving(&self, pid: u32) {
        lock(&self.leaving).next = Some(pid);
    }

    /// Returns the error of a command whose sandbox was ended because the session is being closed.
    pub(crate) fn closed_during_call(&self, ended: &Arc<dyn Engine>) -> Option<SharingError> {
        let leaving = lock(&self.leaving);
        let ended = Arc::downgrade(ended);
        let is_ours = leaving.ended.as_ref().is_some_and(|known| Weak::ptr_eq(known, &ended));
        let session = self.workspace.id.clone();
        let departure = leaving.departure.filter(|_| is_ours)?;
        Some(SharingError::ClosedDuringCall { session, by: leaving.by, departure })
    }

    /// Ends the processes of the session, and then the session, unless `leaving` fails.
    async fn leave<T>(
        &self,
        departure: Departure,
        leaving: impl Future<Output = Result<T, CloseError>>,
    ) -> Result<T, CloseError> {
        if self.workspace.is_lost() {
            let (id, source) = (self.workspace.id.clone(), SyncError::LeaseLost);
            return Err(CloseError::Store { id, source });
        }
        let sandbox = self.sandbox();
        {
            let mut leaving = lock(&self.leaving);
            leaving.by = leaving.next.take();
            leaving.departure = Some(departure);
            leaving.ended = Some(Arc::downgrade(&sandbox));
        }
        self.end().await;
        match leaving.await {
            Ok(left) => {
                self.gate.close(departure);
                self.workspace.state.unlock();
                Ok(left)
            }
            Err(error) => {
                self.reopen_sandbox(&sandbox).await;
                Err(error)
            }
        }
    }

    /// Begins a call. If the files have followed another home, the policy covers them before the
    /// call sees them.
    pub(crate) async fn begin(&self) -> Result<Turn, ToolError> {
        let turn = self.workspace.begin().await?;
        if turn.has_followed() {
            self.reapply_policy().await;
        }
        Ok(turn)
    }

    /// Returns the error of a call whose changes could not be stored. If the session was lost, ends
    /// its processes.
    pub(crate) async fn sync_failed(&self, error: SyncError) -> ToolError {
        let error = self.workspace.lost_during_call(error);
        if matches!(error, ToolError::LeaseLost { .. }) {
            self.end().await;
        }
        error
    }

    pub(crate) fn sandbox(&self) -> Arc<dyn Engine> {
        self.sandbox.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the error of a call, without the values of variables in its text.
    pub(crate) fn redacted(&self, error: ToolError, redact: bool) -> ToolError {
        if !redact {
            return error;
        }
        error.redacted(&self.variables.current().redactor)
    }

    /// Replaces the values of variables in a text.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.variables.current().redactor.redact(text).into_owned()
    }

    /// Makes the sandbox apply the policy to files that the host has put into the session.
    pub(crate) async fn reapply_policy(&self) {
        let sandbox = self.sandbox();
        match super::blocking(move || sandbox.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let (session, error) = (&self.workspace.id, sandbox_core::with_causes(&error));
                tracing::warn!(%session, error, "the policy could not be refreshed");
            }
            Err(error) => tracing::warn!(session = %self.workspace.id, "{error}"),
        }
    }

    /// Replaces a sandbox whose processes were killed, for the next call.
    pub(crate) async fn reopen_sandbox(&self, ended: &Arc<dyn Engine>) {
        if self.workspace.is_lost() || !self.gate.is_open() {
            return;
        }
        let overlays = ended.overlays().to_vec();
        let opened = self.settings.open_engine(&self.policy, self.dir(), overlays).await;
        let Ok(fresh) = opened else { return };
        {
            let mut current = self.sandbox.write().unwrap_or_else(PoisonError::into_inner);
            if !Arc::ptr_eq(&current, ended) {
                return;
            }
            *current = Arc::clone(&fresh);
        }
        if let Err(error) = self.network.open(&fresh).await {
            let (session, error) = (&self.workspace.id, sandbox_core::with_causes(&error));
            tracing::warn!(%session, error, "the session goes on without its network");
        }
    }

    /// Resolves the path of a file as the agent wrote it: absolute, and below the session
    /// directory.
    pub(crate) fn resolve(&self, input: &str) -> Result<(PathBuf, RelativePath), ToolError> {
        resolve(self.dir(), input)
    }
}

impl std::fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSession").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

/// Resolves the path of a file as the agent wrote it: absolute, and below the session directory.
pub(super) fn resolve(dir: &Path, input: &str) -> Result<(PathBuf, RelativePath), ToolError> {
    let path = SessionPath::resolve(dir, input).map_err(|source| ToolError::Path { source })?;
    match path.relative() {
        Some(relative) => Ok((path.absolute().to_owned(), relative.clone())),
        None => Err(ToolError::SessionDirectory { input: input.to_owned() }),
    }
}
