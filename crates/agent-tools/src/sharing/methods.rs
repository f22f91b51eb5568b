//! The calls of a shared session. Each runs on the session itself, in this process or in another.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{
    CloseMode, GarbageOptions, GarbageReport, HistoryEntry, RestoreReport, RestoredVersion,
    SyncReport, Undelete, UndeleteReport,
};
use egress::Ask;
use sandbox_core::RelativePath;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skill_store::SkillRef;

use super::error::SharingError;
use super::wire::{Failure, base64_bytes, texts};
use crate::network::NetworkRules;
use crate::output::{MAX_STREAM_UNITS, OutputTail};
use crate::process::Variables;
use crate::session::{LocalSession, SkillsReport, Stop};
use crate::sessions::{SessionError, SessionStatus};
use crate::tool_error::ToolError;
use crate::tools::bash::BashResult;
use crate::tools::edit_file::{Edit, EditFileOutput};
use crate::tools::grep::{FoundLines, GrepOptions};
use crate::tools::list_files::{FindOptions, FindOrder, FoundFiles};
use crate::tools::read_file::{FilePart, LineRange, ReadFileOutput};
use crate::tools::write_file::WriteFileOutput;
use crate::workspace::{CloseError, CloseReport, RemovalMode, TransferError};

/// A call with its input.
///
/// To add one, choose the next number, and add a row to the table below and to
/// [`dispatch`](super::server). A call that can end early has an impl of its own. Numbers are never
/// used again.
pub(crate) trait Call: Serialize + Send + Sync {
    /// The number of the method in frames.
    const METHOD: u16;
    type Output: Serialize + DeserializeOwned + Send;
    type Error: CallFailure;

    /// Returns the request that ends the call early, with the output so far.
    fn stop(&self) -> Stop {
        Stop::default()
    }

    /// Ends the call early after this request, if the call can.
    fn end_after(&mut self, stop: Stop) {
        drop(stop);
    }

    /// Returns the descriptors that another process gets with the call.
    fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    /// Takes the descriptors that came with the call.
    fn attach(&mut self, descriptors: Vec<OwnedFd>) {
        drop(descriptors);
    }

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
call_failure!(ToolError, TransferError, CloseError, SessionError);

/// Implements [`Call`] for the type of each row. The row has its number, its output and error, and
/// the expression that runs it. A call with a descriptor also names the field of it.
macro_rules! calls {
    ($($number:literal: $call:ty $(, with $descriptor:ident)? => $output:ty, $error:ty,
        |$input:pat_param, $session:ident| $run:expr;)*) => {$(
        impl Call for $call {
            const METHOD: u16 = $number;
            type Output = $output;
            type Error = $error;

            $(
                fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
                    self.$descriptor.iter().map(OwnedFd::try_clone).collect()
                }

                fn attach(&mut self, descriptors: Vec<OwnedFd>) {
                    self.$descriptor = descriptors.into_iter().next();
                }
            )?

            async fn run_on(self, $session: &LocalSession) -> Result<$output, $error> {
                let $input = self;
                $run
            }
        }
    )*};
}
pub(super) use calls;

calls! {
    3: ReadFile<'_> => ReadFileOutput, ToolError,
        |call, session| {
            let redact = call.redact;
            let path = call.path.clone();
            let read = async {
                session.read_file(call).await.map_err(|error| session.redacted(error, redact))
            };
            session.record("readFile", &path, read).await
        };
    4: WriteFile<'_> => WriteFileOutput, ToolError,
        |call, session| {
            let written = async {
                let written = session.write_file(&call.path, &call.content).await;
                written.map_err(|error| session.redacted(error, call.redact))
            };
            session.record("writeFile", &call.path, written).await
        };
    5: SyncFiles => SyncReport, TransferError,
        |call, session| session.sync(call.patience).await;
    6: Refresh => RestoreReport, TransferError,
        |call, session| session.refresh(call.removals).await;
    7: Pull<'_> => Option<RelativePath>, TransferError,
        |call, session| session.pull(&call.key).await;
    8: Close => CloseReport, CloseError,
        |call, session| session.close(call.mode(), call.patience).await;
    9: ReportStatus => SessionStatus, TransferError,
        |_, session| Ok(session.workspace.status().await);
    10: WrapCommand<'_> => String, ToolError,
        |call, session| {
            match session.wrap_command(&call.command, call.timeout, call.linger) {
                // Each run of the line is recorded when it ends.
                Ok(line) => Ok(line),
                Err(error) => session.record("wrap", &call.command, async { Err(error) }).await,
            }
        };
    11: Delete => (), CloseError,
        |_, session| session.delete().await;
    12: ReadHistory<'_> => Vec<HistoryEntry>, TransferError,
        |call, session| session.workspace.history(call.path.as_deref()).await;
    13: RestoreVersion<'_> => RestoredVersion, TransferError,
        |call, session| session.restore_version(&call.path, call.at).await;
    14: UndeleteFiles => UndeleteReport, TransferError,
        |call, session| session.undelete(call.selection).await;
    15: CollectGarbage => GarbageReport, TransferError,
        |call, session| session.collect_garbage(call.options).await;
    17: InstallSkills => SkillsReport, SessionError,
        |call, session| session.install_skills(&call.skills).await;
    18: SetNetwork => (), ToolError,
        |call, session| session.set_network(call.rules, call.ask).await;
    60: EditFile<'_> => EditFileOutput, ToolError,
        |call, session| {
            let redact = call.redact;
            session.edit_file(call).await.map_err(|error| session.redacted(error, redact))
        };
    61: FindFiles<'_> => FoundFiles, ToolError,
        |call, session| {
            let redact = call.redact;
            session.find_files(call).await.map_err(|error| session.redacted(error, redact))
        };
    62: SearchFiles<'_> => FoundLines, ToolError,
        |call, session| {
            let redact = call.redact;
            session.search_files(call).await.map_err(|error| session.redacted(error, redact))
        };
}

/// The number of the frame that ends a running call early. Like those of calls, it is never used
/// again.
pub(super) const STOP: u16 = 16;

impl Call for Bash<'_> {
    const METHOD: u16 = 2;
    type Output = BashResult;
    type Error = ToolError;

    fn stop(&self) -> Stop {
        self.stop.clone()
    }

    fn end_after(&mut self, stop: Stop) {
        self.stop = stop;
    }

    async fn run_on(self, session: &LocalSession) -> Result<BashResult, ToolError> {
        let (redact, command) = (self.redact, self.command.clone());
        let run =
            async { session.bash(self).await.map_err(|error| session.redacted(error, redact)) };
        session.record_outcome("bash", &command, run).await
    }
}

/// Runs a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bash<'c> {
    pub(crate) command: Cow<'c, str>,
    #[serde(default)]
    pub(crate) cwd: Option<Cow<'c, str>>,
    #[serde(default)]
    pub(crate) env: Variables<'c>,
    pub(crate) timeout: Duration,
    pub(crate) linger: Duration,
    #[serde(with = "base64_bytes")]
    pub(crate) stdin: Cow<'c, [u8]>,
    pub(crate) artifact_label: Cow<'c, str>,
    #[serde(default = "yes")]
    pub(crate) redact: bool,
    #[serde(default = "usual_units")]
    pub(crate) max_output: usize,
    /// The variables without which the command does not run.
    #[serde(default)]
    pub(crate) required: Vec<String>,
    #[serde(skip)]
    pub(crate) tail: Option<OutputTail>,
    #[serde(skip)]
    pub(crate) stop: Stop,
}

/// Reads a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadFile<'c> {
    pub(crate) path: Cow<'c, str>,
    /// The range of lines in calls of earlier versions, and the one in `part`.
    pub(crate) range: Option<LineRange>,
    #[serde(default)]
    pub(crate) part: FilePart,
    #[serde(default)]
    pub(crate) max_units: Option<usize>,
    #[serde(default = "yes")]
    pub(crate) redact: bool,
}

impl ReadFile<'_> {
    /// Returns the part that is read.
    pub(crate) fn part(&self) -> FilePart {
        match (self.part, self.range) {
            (FilePart::Whole, Some(range)) => FilePart::Lines(range),
            (part, _) => part,
        }
    }
}

/// Writes a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WriteFile<'c> {
    pub(crate) path: Cow<'c, str>,
    #[serde(with = "base64_bytes")]
    pub(crate) content: Cow<'c, [u8]>,
    #[serde(default = "yes")]
    pub(crate) redact: bool,
}

/// Edits a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EditFile<'c> {
    pub(crate) path: Cow<'c, str>,
    pub(crate) edit: Cow<'c, Edit>,
    pub(crate) redact: bool,
}

/// Lists files that match a pattern.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FindFiles<'c> {
    pub(crate) options: Cow<'c, FindOptions>,
    pub(crate) order: FindOrder,
    pub(crate) redact: bool,
}

/// Searches files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SearchFiles<'c> {
    pub(crate) options: Cow<'c, GrepOptions>,
    pub(crate) redact: bool,
}

/// Clients of earlier versions name no limit of the output.
fn usual_units() -> usize {
    MAX_STREAM_UNITS
}

/// Clients of earlier versions do not ask for redaction, and get it.
fn yes() -> bool {
    true
}

/// Uploads local changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyncFiles {
    /// Time without progress after which the call gives up; `None` is the time of the session.
    pub(crate) patience: Option<Duration>,
}

/// Adopts changes of other programs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refresh {
    pub(crate) removals: RemovalMode,
}

/// Fetches one object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pull<'c> {
    pub(crate) key: Cow<'c, str>,
}

/// Closes the session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Close {
    discard: bool,
    /// Time without progress after which the call gives up; `None` is the time of the session.
    pub(crate) patience: Option<Duration>,
}

impl Close {
    pub(crate) fn new(mode: CloseMode, patience: Option<Duration>) -> Self {
        Self { discard: mode == CloseMode::Discard, patience }
    }

    pub(crate) fn mode(&self) -> CloseMode {
        if self.discard { CloseMode::Discard } else { CloseMode::KeepPending }
    }
}

/// Describes the session's place in the log, and lists pending changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReportStatus {}

/// Deletes the session everywhere.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delete {}

/// Reads the history of the session or of one path.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadHistory<'c> {
    pub(crate) path: Option<Cow<'c, RelativePath>>,
}

/// Restores an older version of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoreVersion<'c> {
    pub(crate) path: Cow<'c, RelativePath>,
    pub(crate) at: u64,
}

/// Brings removed files back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UndeleteFiles {
    pub(crate) selection: Undelete,
}

/// Deletes versions that are no longer retained.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CollectGarbage {
    pub(crate) options: GarbageOptions,
}

/// Installs skills that the session does not have in that version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallSkills {
    #[serde(with = "texts")]
    pub(crate) skills: Vec<SkillRef>,
}

/// Replaces the rules for the network.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetNetwork {
    pub(crate) rules: NetworkRules,
    /// The user to ask, in the process that serves the session.
    #[serde(skip)]
    pub(crate) ask: Option<Arc<dyn Ask>>,
}

/// Makes a shell command of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrapCommand<'c> {
    pub(crate) command: Cow<'c, str>,
    pub(crate) timeout: Duration,
    pub(crate) linger: Duration,
}
