//! One open session: its files, its sandbox, its policy and its settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use artifact_sync::{ChangeSourceReport, RestoreReport, Skipped, SyncReport};
use policy::{Access, Policy, Verdict};
use sandbox_core::internal::lock;
use sandbox_core::{
    CommandSpec, EngineReport, Limits, NativeSandbox, RelativePath, Sandbox, SessionId,
    SessionPath, Tier, UserId,
};
use skill_store::InstalledSkill;

use crate::denials::{self, Denial, Reason};
use crate::environment::Environment;
use crate::tool_error::ToolError;
use crate::workspace::{CloseError, RemovalMode, TransferError, Workspace};

/// The size up to which the caller's thread reads and writes a file itself: handing the work to
/// another thread takes longer than the system call.
pub(crate) const INLINE_BYTES: usize = 64 * 1024;

/// An open session. Calls may overlap. Dropping the session kills its processes and keeps its
/// files.
pub struct Session {
    pub(crate) workspace: Workspace,
    pub(crate) settings: SessionSettings,
    policy: Policy,
    sandbox: RwLock<Arc<NativeSandbox>>,
    environment: Environment,
    skills: Vec<InstalledSkill>,
    /// The warnings for the first result.
    unreported_warnings: Mutex<Vec<String>>,
    warnings: Vec<String>,
}

/// Everything that a session consists of, except its files and settings.
pub(crate) struct SessionParts {
    pub(crate) policy: Policy,
    pub(crate) sandbox: NativeSandbox,
    pub(crate) environment: Environment,
    pub(crate) skills: Vec<InstalledSkill>,
    pub(crate) warnings: Vec<String>,
}

/// Settings that all sessions of one [`Sessions`](crate::Sessions) share.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    pub(crate) artifact_label: String,
    pub(crate) instructions: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) tier: Tier,
}

impl Session {
    pub(crate) fn new(
        workspace: Workspace,
        settings: SessionSettings,
        parts: SessionParts,
    ) -> Self {
        let SessionParts { policy, sandbox, environment, skills, warnings } = parts;
        Self {
            workspace,
            settings,
            policy,
            sandbox: RwLock::new(Arc::new(sandbox)),
            environment,
            skills,
            unreported_warnings: Mutex::new(warnings.clone()),
            warnings,
        }
    }

    /// Returns the session's id.
    pub fn id(&self) -> &SessionId {
        &self.workspace.id
    }

    /// Returns the user who owns the session.
    pub fn user(&self) -> Option<&UserId> {
        self.workspace.user.as_ref()
    }

    /// Returns the session directory, which has the same path on the host and in the sandbox.
    pub fn dir(&self) -> &Path {
        self.workspace.dir.path()
    }

    /// Returns the policy of the session's commands.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns a report of the layers that the engine enforces.
    pub fn report(&self) -> EngineReport {
        self.sandbox().report().clone()
    }

    /// Returns the way in which changes of files are detected; see [`Workspace::change_source`].
    pub fn change_source(&self) -> Option<ChangeSourceReport> {
        self.workspace.change_source()
    }

    /// Returns the warnings from opening the session, such as skipped variables and skills without
    /// a version.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the installed skills.
    pub fn skills(&self) -> &[InstalledSkill] {
        &self.skills
    }

    /// Renders the skills for a system prompt; `None` without skills.
    pub fn skills_prompt(&self) -> Option<String> {
        (!self.skills.is_empty()).then(|| skill_store::prompt(&self.skills))
    }

    /// Returns a shell command that runs `command` like [`Session::bash`] would, with the standard
    /// streams of the calling shell; see [`NativeSandbox::wrap_command`].
    ///
    /// Any shell of this user on this host can run it while the session is open. The next call
    /// mirrors the files it changed.
    ///
    /// # Errors
    /// Returns [`ToolError::Exec`] if the command can never be run.
    pub fn wrap_command(&self, command: &str) -> Result<String, ToolError> {
        let sandbox = self.sandbox();
        sandbox
            .wrap_command(&self.command_spec(command, &sandbox))
            .map_err(|source| ToolError::Exec { source })
    }

    /// Fetches objects that are new in the store, and newer versions of files that did not change
    /// locally.
    ///
    /// # Errors
    /// Like [`Workspace::refresh`].
    pub async fn refresh(&self) -> Result<RestoreReport, TransferError> {
        let report = self.workspace.refresh().await?;
        self.reapply_policy().await;
        Ok(report)
    }

    /// Uploads local changes, as every call does automatically.
    ///
    /// # Errors
    /// Like [`Workspace::sync`].
    pub async fn sync(&self, removals: RemovalMode) -> Result<SyncReport, TransferError> {
        self.workspace.sync(removals).await
    }

    /// Fetches one object of the session's prefix into its directory; see [`Workspace::pull`].
    ///
    /// # Errors
    /// Like [`Workspace::pull`].
    pub async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        let pulled = self.workspace.pull(key).await?;
        self.reapply_policy().await;
        Ok(pulled)
    }

    /// Uploads pending changes, ends every process of the session and removes its directory.
    /// Returns the files that cannot be stored and were deleted with the directory.
    ///
    /// # Errors
    /// Returns [`CloseError`] if a change could not be uploaded. The directory then stays, and the
    /// session can be opened again or closed later.
    pub async fn close(&self) -> Result<Vec<Skipped>, CloseError> {
        self.sandbox().close().await;
        self.workspace.close().await
    }

    pub(crate) fn sandbox(&self) -> Arc<NativeSandbox> {
        self.sandbox.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the warnings from opening the session, once.
    pub(crate) fn take_unreported_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.unreported_warnings))
    }

    /// Returns a command with the session's environment and time limit.
    pub(crate) fn command_spec(&self, command: &str, sandbox: &NativeSandbox) -> CommandSpec {
        let mut spec = CommandSpec::new(command);
        spec.env = self.environment.with_temporary_dir(sandbox.temporary_dir());
        spec.timeout = self.settings.timeout;
        spec
    }

    /// Makes the sandbox apply the policy to files that the host has put into the session.
    pub(crate) async fn reapply_policy(&self) {
        let sandbox = self.sandbox();
        match blocking(move || sandbox.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = sandbox_core::with_causes(&error);
                tracing::warn!(session = %self.id(), error, "the policy could not be refreshed");
            }
            Err(error) => tracing::warn!(session = %self.id(), "{error}"),
        }
    }

    /// Replaces a sandbox whose processes were killed, for the next call.
    pub(crate) async fn reopen_sandbox(&self, ended: &Arc<NativeSandbox>) {
        let (policy, dir) = (self.policy.clone(), self.dir().to_owned());
        let SessionSettings { tier, limits, .. } = self.settings.clone();
        let builder = NativeSandbox::builder(&policy, dir).limits(limits).tier(tier);
        if let Ok(Ok(fresh)) = blocking(move || builder.open()).await {
            let mut current = self.sandbox.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&current, ended) {
                *current = Arc::new(fresh);
            }
        }
    }

    /// Resolves the path of a file as the agent wrote it: absolute, and below the session
    /// directory.
    pub(crate) fn resolve(&self, input: &str) -> Result<(PathBuf, RelativePath), ToolError> {
        let path =
            SessionPath::resolve(self.dir(), input).map_err(|source| ToolError::Path { source })?;
        match path.relative() {
            Some(relative) => Ok((path.absolute().to_owned(), relative.clone())),
            None => Err(ToolError::SessionDirectory { input: input.to_owned() }),
        }
    }

    /// Returns an error if the policy denies access to a path as the kernel sees it.
    pub(crate) fn check_access(&self, path: &Path, access: Access) -> Result<(), ToolError> {
        let operation = match access {
            Access::Read => "reading",
            _ => "writing",
        };
        match self.denial_reason(path, access) {
            None => Ok(()),
            Some(Reason { rule, .. }) => {
                Err(ToolError::Denied { operation, path: path.to_owned(), rule })
            }
        }
    }

    /// Returns the rule that denies access to a path, if there is one.
    pub(crate) fn denial_reason(&self, path: &Path, access: Access) -> Option<Reason> {
        let Verdict { allowed, rule, remedy, .. } = self.policy.explain(path, access);
        // The sandbox also protects files that it found on disk, such as the repository of a
        // worktree.
        let is_mounted = self.sandbox().allows(path, access);
        match (allowed, is_mounted) {
            (true, true) => None,
            (true, false) => Some(Reason {
                rule: "it was protected when the session was opened".to_owned(),
                remedy: None,
            }),
            (false, _) => Some(Reason { rule: rule.to_string(), remedy }),
        }
    }

    /// Explains the failures on a command's standard error that the policy caused.
    pub(crate) fn explain_stderr(&self, stderr: &str) -> Vec<Denial> {
        let sandbox = self.sandbox();
        let path = |path: &Path, access| {
            // A private directory replaces one that the policy denies, so the kernel decides.
            if sandbox.allows(path, access) { None } else { self.denial_reason(path, access) }
        };
        let host = |name: &str| {
            let Verdict { allowed, rule, remedy, .. } = self.policy.explain_host(name, None);
            (!allowed).then(|| Reason { rule: rule.to_string(), remedy })
        };
        denials::find(stderr, self.dir(), path, host)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ToolError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ToolError::Interrupted { source })
}
