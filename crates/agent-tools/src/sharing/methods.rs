//! The calls of a shared session. Each runs on the session itself, in this process or in another.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use artifact_sync::{
    CloseMode, GarbageOptions, GarbageReport, HistoryEntry, RestoreReport, RestoredVersion,
    SyncReport, Undelete, UndeleteReport,
};
use sandbox_core::RelativePath;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::SharingError;
use super::wire::{Failure, base64_bytes};
use crate::session::LocalSession;
use crate::sessions::SessionStatus;
use crate::tool_error::ToolError;
use crate::tools::bash::BashResult;
use crate::tools::read_file::{LineRange, ReadFileOutput};
use crate::tools::write_file::WriteFileOutput;
use crate::workspace::{CloseError, CloseReport, RemovalMode, TransferError};

/// A call with its input.
///
/// To add one, choose the next number and add its row to [`dispatch`](super::server). Numbers are
/// never used again.
pub(crate) trait Call: Serialize + Send + Sync {
    /// The number of the method in frames.
    const METHOD: u16;
    type Output: Serialize + DeserializeOwned + Send;
    type Error: CallFailure;

    /// Runs the call in the process that serves the session.
    fn run_on(
        self,
        session: &LocalSession,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// An error of a call, which another process receives as a [`Failure`].
pub(crate) trait CallFailure: From<SharingError> + Send {
    fn to_failure(&self) -> Failure;
}

macro_rules! call_failure {
    ($($error:ty),*) => {$(
        impl CallFailure for $error {
            fn to_failure(&self) -> Failure {
                Failure::new(self.kind(), self.is_retryable(), self)
            }
        }
    )*};
}
call_failure!(ToolError, TransferError, CloseError);

/// Runs a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bash<'c> {
    pub(crate) command: Cow<'c, str>,
    pub(crate) timeout: Duration,
    #[serde(with = "base64_bytes")]
    pub(crate) stdin: Cow<'c, [u8]>,
    pub(crate) artifact_label: Cow<'c, str>,
}

impl Call for Bash<'_> {
    const METHOD: u16 = 2;
    type Output = BashResult;
    type Error = ToolError;

    async fn run_on(self, session: &LocalSession) -> Result<BashResult, ToolError> {
        session.bash(self).await
    }
}

/// Reads a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadFile<'c> {
    pub(crate) path: Cow<'c, str>,
    pub(crate) range: Option<LineRange>,
}

impl Call for ReadFile<'_> {
    const METHOD: u16 = 3;
    type Output = ReadFileOutput;
    type Error = ToolError;

    async fn run_on(self, session: &LocalSession) -> Result<ReadFileOutput, ToolError> {
        session.read_file_lines(&self.path, self.range).await
    }
}

/// Writes a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WriteFile<'c> {
    pub(crate) path: Cow<'c, str>,
    #[serde(with = "base64_bytes")]
    pub(crate) content: Cow<'c, [u8]>,
}

impl Call for WriteFile<'_> {
    const METHOD: u16 = 4;
    type Output = WriteFileOutput;
    type Error = ToolError;

    async fn run_on(self, session: &LocalSession) -> Result<WriteFileOutput, ToolError> {
        session.write_file(&self.path, &self.content).await
    }
}

/// Uploads local changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyncFiles {}

impl Call for SyncFiles {
    const METHOD: u16 = 5;
    type Output = SyncReport;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<SyncReport, TransferError> {
        session.workspace.sync().await
    }
}

/// Adopts changes of other programs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refresh {
    pub(crate) removals: RemovalMode,
}

impl Call for Refresh {
    const METHOD: u16 = 6;
    type Output = RestoreReport;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<RestoreReport, TransferError> {
        session.refresh(self.removals).await
    }
}

/// Fetches one object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pull<'c> {
    pub(crate) key: Cow<'c, str>,
}

impl Call for Pull<'_> {
    const METHOD: u16 = 7;
    type Output = Option<RelativePath>;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<Option<RelativePath>, TransferError> {
        session.pull(&self.key).await
    }
}

/// Closes the session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Close {
    discard: bool,
}

impl Close {
    pub(crate) fn new(mode: CloseMode) -> Self {
        Self { discard: mode == CloseMode::Discard }
    }

    pub(crate) fn mode(&self) -> CloseMode {
        if self.discard { CloseMode::Discard } else { CloseMode::KeepPending }
    }
}

impl Call for Close {
    const METHOD: u16 = 8;
    type Output = CloseReport;
    type Error = CloseError;

    async fn run_on(self, session: &LocalSession) -> Result<CloseReport, CloseError> {
        session.close(self.mode()).await
    }
}

/// Describes the session's place in the log, and lists pending changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReportStatus {}

impl Call for ReportStatus {
    const METHOD: u16 = 9;
    type Output = SessionStatus;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<SessionStatus, TransferError> {
        Ok(session.workspace.status().await)
    }
}

/// Deletes the session everywhere.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delete {}

impl Call for Delete {
    const METHOD: u16 = 11;
    type Output = ();
    type Error = CloseError;

    async fn run_on(self, session: &LocalSession) -> Result<(), CloseError> {
        session.delete().await
    }
}

/// Reads the history of the session or of one path.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadHistory<'c> {
    pub(crate) path: Option<Cow<'c, RelativePath>>,
}

impl Call for ReadHistory<'_> {
    const METHOD: u16 = 12;
    type Output = Vec<HistoryEntry>;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<Vec<HistoryEntry>, TransferError> {
        session.workspace.history(self.path.as_deref()).await
    }
}

/// Restores an older version of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoreVersion<'c> {
    pub(crate) path: Cow<'c, RelativePath>,
    pub(crate) at: u64,
}

impl Call for RestoreVersion<'_> {
    const METHOD: u16 = 13;
    type Output = RestoredVersion;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<RestoredVersion, TransferError> {
        session.restore_version(&self.path, self.at).await
    }
}

/// Brings removed files back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UndeleteFiles {
    pub(crate) selection: Undelete,
}

impl Call for UndeleteFiles {
    const METHOD: u16 = 14;
    type Output = UndeleteReport;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<UndeleteReport, TransferError> {
        session.undelete(self.selection).await
    }
}

/// Deletes versions that are no longer retained.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CollectGarbage {
    pub(crate) options: GarbageOptions,
}

impl Call for CollectGarbage {
    const METHOD: u16 = 15;
    type Output = GarbageReport;
    type Error = TransferError;

    async fn run_on(self, session: &LocalSession) -> Result<GarbageReport, TransferError> {
        session.workspace.collect_garbage(self.options).await
    }
}

/// Makes a shell command of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrapCommand<'c> {
    pub(crate) command: Cow<'c, str>,
    pub(crate) timeout: Duration,
}

impl Call for WrapCommand<'_> {
    const METHOD: u16 = 10;
    type Output = String;
    type Error = ToolError;

    async fn run_on(self, session: &LocalSession) -> Result<String, ToolError> {
        session.wrap_command(&self.command, self.timeout)
    }
}
