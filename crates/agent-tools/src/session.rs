//! One open session and its three tools.

use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use artifact_sync::{ChangeSourceReport, Skipped, SyncReport};
use base64::Engine;
use policy::{Access, Policy, Verdict};
use sandbox_core::{
    CommandSpec, CommandStatus, EngineReport, ExecErrorKind, FileError, Limit, Limits,
    NativeSandbox, RelativePath, Sandbox, SessionId, SessionPath, Tier, UserId, read_open,
    real_path,
};
use skill_store::InstalledSkill;

use crate::denials::{self, Denial, Reason};
use crate::environment::Environment;
use crate::output::{
    Artifact, BashOutput, ConflictNote, FileNote, MAX_LISTED, ReadFileOutput, WriteFileOutput,
    for_display, link_block,
};
use crate::tool_error::ToolError;
use crate::tools::{self, Tool};
use crate::workspace::{CloseError, RemovalMode, TransferError, Workspace, is_artifact};

/// The largest file that `readFile` gives back.
const MAX_READ_BYTES: u64 = 32 << 20;
/// Up to here a file is written on the caller's thread: handing it to another one takes longer than
/// the write.
const INLINE_BYTES: usize = 64 * 1024;

/// An open session. Calls may overlap; dropping it ends its processes and leaves its files.
pub struct Session {
    pub(crate) workspace: Workspace,
    pub(crate) policy: Policy,
    pub(crate) sandbox: RwLock<Arc<NativeSandbox>>,
    pub(crate) environment: Environment,
    pub(crate) skills: Vec<InstalledSkill>,
    pub(crate) settings: SessionSettings,
    /// What the first result tells about how the session was opened.
    pub(crate) unreported_warnings: Mutex<Vec<String>>,
    pub(crate) warnings: Vec<String>,
}

/// How an embedder wants the tools to speak.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    pub(crate) artifact_label: String,
    pub(crate) instructions: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) tier: Tier,
}

/// What a call of `bash` may set.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BashOptions {
    /// How long the command may run; the session's timeout (120 s by default) when absent.
    pub timeout: Option<Duration>,
    /// What the command reads on standard input.
    pub stdin: Vec<u8>,
}

/// A range of lines, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRange {
    /// The first line.
    pub first: usize,
    /// The last line; the end of the file when absent.
    pub last: Option<usize>,
}

impl Session {
    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.workspace.id
    }

    /// Whose session it is.
    pub fn user(&self) -> Option<&UserId> {
        self.workspace.user.as_ref()
    }

    /// The session directory, the same on the host and in the sandbox.
    pub fn dir(&self) -> &Path {
        self.workspace.dir.path()
    }

    /// What the session's commands may do.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the engine enforces.
    pub fn report(&self) -> EngineReport {
        self.sandbox().report().clone()
    }

    /// How changes to the session's files are found; see [`Workspace::change_source`].
    pub fn change_source(&self) -> Option<ChangeSourceReport> {
        self.workspace.change_source()
    }

    /// What was not as asked for when the session was opened: variables that were skipped, skills
    /// without a version.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The installed skills.
    pub fn skills(&self) -> &[InstalledSkill] {
        &self.skills
    }

    /// The skills for a system prompt, or `None` without skills.
    pub fn skills_prompt(&self) -> Option<String> {
        (!self.skills.is_empty()).then(|| skill_store::prompt(&self.skills))
    }

    /// The tools, described for a model.
    pub fn tools(&self) -> [Tool; 3] {
        tools::describe(
            self.dir(),
            &self.workspace.file_names(),
            self.settings.instructions.as_deref(),
        )
    }

    /// Runs a bash command; see [`Session::bash_with`].
    ///
    /// # Errors
    /// As [`Session::bash_with`].
    ///
    /// # Cancel safety
    /// As [`Session::bash_with`].
    pub async fn bash(&self, command: &str) -> Result<BashOutput, ToolError> {
        self.bash_with(command, BashOptions::default()).await
    }

    /// Runs a bash command in the sandbox, then mirrors what it changed.
    ///
    /// A non-zero exit, a signal and a timeout are results. A failing store never fails the call:
    /// what could not be stored stands in the result as pending.
    ///
    /// # Errors
    /// [`ToolError::Exec`] when the command could not be run.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command. What it changed until then is mirrored by the next
    /// call.
    #[tracing::instrument(name = "execute_tool", skip_all, fields(gen_ai.tool.name = tools::BASH, gen_ai.conversation.id = %self.workspace.id))]
    pub async fn bash_with(
        &self,
        command: &str,
        options: BashOptions,
    ) -> Result<BashOutput, ToolError> {
        let sandbox = self.sandbox();
        let mut spec = self.spec(command, &sandbox);
        spec.stdin = options.stdin;
        spec.timeout = options.timeout.unwrap_or(spec.timeout);
        let output = match sandbox.exec(spec).await {
            Ok(output) => output,
            Err(source) => {
                if source.kind() == ExecErrorKind::Ended {
                    self.reopen_sandbox(&sandbox).await;
                }
                return Err(ToolError::Exec { source });
            }
        };
        let mut result = BashOutput {
            stdout: for_display("stdout", &output.stdout),
            stderr: for_display("stderr", &output.stderr),
            exit_code: output.status.code(),
            timed_out: output.status == CommandStatus::TimedOut,
            limit_reached: match output.limit_reached() {
                Some(Limit::CpuTime) => Some("cpuTime"),
                Some(Limit::FileSize) => Some("fileSize"),
                Some(Limit::Memory) => Some("memory"),
                Some(Limit::Processes) => Some("processes"),
                _ => None,
            },
            warnings: std::mem::take(
                &mut *self.unreported_warnings.lock().unwrap_or_else(PoisonError::into_inner),
            ),
            ..BashOutput::default()
        };
        result.command_stdout_bytes = result.stdout.len();
        result.denied = self.denials(&result.stderr);
        let quarantined = output.quarantined.iter();
        let quarantined = quarantined
            .map(|it| denials::from_quarantined(it, self.denies(&it.path, Access::Write)));
        result.denied.extend(quarantined);
        if let Some(mirror) = &self.workspace.mirror {
            self.add_artifacts(&mut result, mirror.sync().await);
        }
        Ok(result)
    }

    /// A string which, run by any shell of this user on this host, runs a command as
    /// [`Session::bash`] would, on the streams of that shell; see [`NativeSandbox::wrap_command`].
    /// It works while the session is open. What the command changes is mirrored by the next call.
    ///
    /// # Errors
    /// [`ToolError::Exec`] for a command that could never be run.
    pub fn wrap_command(&self, command: &str) -> Result<String, ToolError> {
        let sandbox = self.sandbox();
        sandbox
            .wrap_command(&self.spec(command, &sandbox))
            .map_err(|source| ToolError::Exec { source })
    }

    fn spec(&self, command: &str, sandbox: &NativeSandbox) -> CommandSpec {
        let mut spec = CommandSpec::new(command);
        spec.env = self.environment.with_temporary_dir(sandbox.temporary_dir());
        spec.timeout = self.settings.timeout;
        spec
    }

    fn add_artifacts(&self, result: &mut BashOutput, report: SyncReport) {
        let omitted = |count: usize| count.saturating_sub(MAX_LISTED);
        result.artifacts_omitted = omitted(report.changed.len());
        result.pending_omitted = omitted(report.pending.len());
        result.removals_held_back = report.held_back.len();
        result.skipped_omitted = omitted(report.skipped.len());
        let (pending, skipped) =
            (report.pending.iter().take(MAX_LISTED), report.skipped.iter().take(MAX_LISTED));
        result.pending =
            pending.map(|pending| FileNote::new(&pending.path, &pending.reason)).collect();
        let conflicts = report.conflicts.iter().take(MAX_LISTED);
        result.conflicts = conflicts
            .map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as))
            .collect();
        result.skipped =
            skipped.map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect();
        for changed in report.changed.into_iter().take(MAX_LISTED) {
            result.artifacts.push(Artifact {
                path: self.dir().join(changed.path.as_str()).to_string_lossy().into_owned(),
                relative_path: changed.path.to_string(),
                key: changed.key.map(|key| self.workspace.display_key(&key)),
                url: changed.url,
            });
        }
        result.stdout +=
            &link_block(&self.settings.artifact_label, &result.artifacts, result.artifacts_omitted);
    }

    /// Reads a file of the session.
    ///
    /// # Errors
    /// As [`Session::read_file_lines`].
    pub async fn read_file(&self, path: &str) -> Result<ReadFileOutput, ToolError> {
        self.read_file_lines(path, None).await
    }

    /// Reads a file of the session, or a range of its lines. No process is started.
    ///
    /// # Errors
    /// [`ToolError::Path`] for a path that leads out, [`ToolError::Denied`] where the policy denies
    /// it, [`ToolError::File`] with the system's own message for one that is not there.
    #[tracing::instrument(name = "execute_tool", skip_all, fields(gen_ai.tool.name = tools::READ_FILE, gen_ai.conversation.id = %self.workspace.id))]
    pub async fn read_file_lines(
        &self,
        path: &str,
        range: Option<LineRange>,
    ) -> Result<ReadFileOutput, ToolError> {
        let (_, relative) = self.resolve(path)?;
        let file = self.workspace.dir.open_file(&relative).map_err(ToolError::file)?;
        self.permit(
            &real_path(file.as_fd(), relative.as_ref()).map_err(ToolError::file)?,
            Access::Read,
        )?;
        // What was judged is what is read: the name may lead elsewhere by now.
        let content = match read_open(&file, relative.as_ref(), INLINE_BYTES as u64) {
            Err(FileError::TooLarge { .. }) => {
                let asked = relative.clone();
                blocking(move || read_open(&file, asked.as_ref(), MAX_READ_BYTES)).await?
            }
            other => other,
        }
        .map_err(ToolError::file)?;
        Ok(presented(content, &relative, range))
    }

    /// Writes a file of the session whole, making missing directories, then mirrors it. No process
    /// is started.
    ///
    /// # Errors
    /// [`ToolError::Path`] for a path that leads out, [`ToolError::Denied`] where the policy denies
    /// it, [`ToolError::File`] when the system refuses. A failing store is no error: the result
    /// says that the file is pending.
    ///
    /// # Cancel safety
    /// The file is whole or as it was; what was written but not mirrored is mirrored by the next
    /// call.
    #[tracing::instrument(name = "execute_tool", skip_all, fields(gen_ai.tool.name = tools::WRITE_FILE, gen_ai.conversation.id = %self.workspace.id))]
    pub async fn write_file(
        &self,
        path: &str,
        content: &[u8],
    ) -> Result<WriteFileOutput, ToolError> {
        let (absolute, relative) = self.resolve(path)?;
        self.permit(&absolute, Access::Write)?;
        let mut staged = self.workspace.dir.stage(&relative).map_err(ToolError::file)?;
        self.permit(&staged.real_path().map_err(ToolError::file)?, Access::Write)?;
        let failed = |source| ToolError::Write { path: relative.clone(), source };
        if content.len() <= INLINE_BYTES {
            staged.write_all(content).map_err(failed)?;
            staged.commit().map_err(ToolError::file)?;
        } else {
            let content = content.to_vec();
            blocking(move || staged.write_all(&content).map(|()| staged))
                .await?
                .map_err(failed)?
                .commit()
                .map_err(ToolError::file)?;
        }
        if self.sandbox().affects_policy(relative.as_ref()) {
            self.reapply_policy().await;
        }
        let mut output = WriteFileOutput {
            success: true,
            path: absolute.to_string_lossy().into_owned(),
            url: None,
            key: None,
            pending: None,
        };
        if let Some(mirror) = self.workspace.mirror.as_ref().filter(|_| is_artifact(&relative)) {
            let report = mirror.put_file(&relative).await;
            if let Some(changed) = report.changed.into_iter().next() {
                output.url = changed.url;
                output.key = changed.key.map(|key| self.workspace.display_key(&key));
            }
            output.pending = report.pending.first().map(|pending| pending.reason.to_string());
        }
        Ok(output)
    }

    /// Fetches what is new in the store, or newer and not changed here: what a user has uploaded
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Workspace::refresh`].
    pub async fn refresh(&self) -> Result<artifact_sync::RestoreReport, TransferError> {
        let report = self.workspace.refresh().await?;
        self.reapply_policy().await;
        Ok(report)
    }

    /// Brings the store up to date, as every call does by itself.
    ///
    /// # Errors
    /// As [`Workspace::sync`].
    pub async fn sync(&self, removals: RemovalMode) -> Result<SyncReport, TransferError> {
        self.workspace.sync(removals).await
    }

    /// Fetches one object of the session's prefix into its directory; see [`Workspace::pull`].
    ///
    /// # Errors
    /// [`TransferError`] for a key of another session, or when the store fails.
    pub async fn pull(&self, key: &str) -> Result<Option<RelativePath>, TransferError> {
        let pulled = self.workspace.pull(key).await?;
        self.reapply_policy().await;
        Ok(pulled)
    }

    /// Uploads what is pending, ends every process of the session and removes its directory. Gives
    /// what the store could not hold and which is gone with the directory.
    ///
    /// # Errors
    /// [`CloseError`] when something could not be uploaded; then the directory stays, and the
    /// session can be opened again or closed later.
    pub async fn close(&self) -> Result<Vec<Skipped>, CloseError> {
        self.sandbox().close().await;
        self.workspace.close().await
    }

    fn sandbox(&self) -> Arc<NativeSandbox> {
        self.sandbox.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the sandbox hide and protect what was put into the session from outside, and the policy
    /// covers.
    pub(crate) async fn reapply_policy(&self) {
        let sandbox = self.sandbox();
        match blocking(move || sandbox.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = crate::with_causes(&error);
                tracing::warn!(session = %self.id(), error, "the policy could not be refreshed");
            }
            Err(error) => tracing::warn!(session = %self.id(), "{error}"),
        }
    }

    /// Puts a new sandbox in the place of one whose processes were killed; the next call will find
    /// it.
    async fn reopen_sandbox(&self, ended: &Arc<NativeSandbox>) {
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

    fn resolve(&self, input: &str) -> Result<(PathBuf, RelativePath), ToolError> {
        let path =
            SessionPath::resolve(self.dir(), input).map_err(|source| ToolError::Path { source })?;
        match path.relative() {
            Some(relative) => Ok((path.absolute().to_owned(), relative.clone())),
            None => Err(ToolError::SessionDirectory { input: input.to_owned() }),
        }
    }

    /// Asks the policy about a path as the kernel sees it.
    fn permit(&self, path: &Path, access: Access) -> Result<(), ToolError> {
        let what = match access {
            Access::Read => "reading",
            _ => "writing",
        };
        match self.denies(path, access) {
            None => Ok(()),
            Some(Reason { rule, .. }) => {
                Err(ToolError::Denied { what, path: path.to_owned(), rule })
            }
        }
    }

    /// The rule that denies a path, if one does.
    fn denies(&self, path: &Path, access: Access) -> Option<Reason> {
        let Verdict { allowed, rule, remedy, .. } = self.policy.explain(path, access);
        // Some of what is protected is known only from looking at the files, such as the repository
        // of a worktree.
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

    /// What the policy denied of what a command tells on standard error.
    fn denials(&self, stderr: &str) -> Vec<Denial> {
        let sandbox = self.sandbox();
        let path = |path: &Path, access| {
            // A private directory takes the place of one that the policy denies.
            if sandbox.allows(path, access) { None } else { self.denies(path, access) }
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ToolError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ToolError::Interrupted { source })
}

/// Text as it is, or a range of its lines; anything else as base64 with its media type.
fn presented(content: Vec<u8>, path: &RelativePath, range: Option<LineRange>) -> ReadFileOutput {
    match String::from_utf8(content) {
        Ok(text) => {
            let Some(range) = range else {
                return ReadFileOutput {
                    content: text,
                    encoding: None,
                    media_type: None,
                    total_lines: None,
                };
            };
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let first = range.first.saturating_sub(1).min(lines.len());
            let last = range.last.unwrap_or(lines.len()).clamp(first, lines.len());
            let content = lines[first..last].concat();
            ReadFileOutput {
                content,
                encoding: None,
                media_type: None,
                total_lines: Some(lines.len()),
            }
        }
        Err(error) => ReadFileOutput {
            content: base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
            encoding: Some("base64"),
            media_type: Some(
                mime_guess::from_path(path.as_str()).first_or_octet_stream().to_string(),
            ),
            total_lines: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, first: usize, last: Option<usize>, expected: &str, total: usize) {
        let path = RelativePath::parse("f.txt").unwrap();
        let output = presented(content.as_bytes().to_vec(), &path, Some(LineRange { first, last }));
        assert_eq!((output.content.as_str(), output.total_lines), (expected, Some(total)));
    }

    #[test]
    fn a_range_of_lines_is_cut_out_and_never_panics() {
        check("a\nb\nc\n", 2, Some(2), "b\n", 3);
        check("a\nb\nc", 2, None, "b\nc", 3);
        check("a\nb\nc", 0, Some(1), "a\n", 3);
        check("a\nb", 9, Some(3), "", 2);
        check("a\nb", 2, Some(1), "", 2);
        check("", 1, None, "", 0);
    }

    #[test]
    fn binary_content_comes_as_base64_with_its_media_type() {
        let output = presented(vec![0xff, 0x00], &RelativePath::parse("a/b.png").unwrap(), None);
        assert_eq!((output.content.as_str(), output.encoding), ("/wA=", Some("base64")));
        assert_eq!(output.media_type.as_deref(), Some("image/png"));
    }
}
