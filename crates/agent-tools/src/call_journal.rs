//! The journal of a session's calls: what was called, when, and how it ended.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sandbox_core::internal::lock;
use sandbox_core::{AttachedOutcome, CommandStatus, WrappedEnd};
use secrets::Redactor;
use serde::{Deserialize, Serialize};

use crate::journal_file::{self, JournalFile, JournalNames};
use crate::redaction::whole_end;
use crate::session::LocalSession;
use crate::times;
use crate::tool_error::ToolError;
use crate::tools::bash::{self, BashOutput, BashResult, limit_key};

const NAMES: JournalNames = JournalNames { current: "calls.jsonl", former: "calls.old.jsonl" };
/// The maximum length of a text of a record, in characters.
const MAX_CHARS: usize = 1000;
/// The maximum number of denials of a record.
const MAX_DENIALS: usize = 10;

/// A call of a session that has ended.
///
/// Texts have placeholders for the values of variables, and are cut after 1,000 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CallRecord {
    /// The time at which the call began.
    #[serde(rename = "atMs", with = "times::milliseconds_since_1970")]
    pub at: SystemTime,
    /// The duration of the call.
    #[serde(rename = "tookMs", with = "times::milliseconds")]
    pub took: Duration,
    /// The name of the call, such as `bash` or `readFile`.
    pub call: String,
    /// The command, or the path.
    pub subject: String,
    /// The exit code of a command.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// True if the command was killed because it exceeded its time limit.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub timed_out: bool,
    /// The limit that the command reached, such as `memory`; see
    /// [`BashOutput::limit_reached`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_reached: Option<String>,
    /// The accesses that the engine refused, at most 10, such as `connect a.test:443: …`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub denied: Vec<String>,
    /// Guesses about the failures of a command, as its result has them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The error of a call that failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// The journal of the calls of one session.
#[derive(Debug)]
pub(crate) struct CallJournal {
    dir: PathBuf,
    file: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: JournalFile,
    /// Set after a failed write, which is logged once.
    has_failed: bool,
}

impl CallJournal {
    /// Appends to the journal in a state directory.
    pub(crate) fn in_directory(dir: &Path) -> Self {
        let file = State { file: JournalFile::new(NAMES), has_failed: false };
        Self { dir: dir.to_owned(), file: Mutex::new(file) }
    }

    fn append(&self, record: &CallRecord) {
        let mut state = lock(&self.file);
        if let Err(error) = state.file.append(&self.dir, record)
            && !std::mem::replace(&mut state.has_failed, true)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "calls cannot be recorded");
        }
    }
}

impl CallJournal {
    /// Returns a recorder of the ends of wrapped commands.
    pub(crate) fn wrapped_recorder(
        self: Arc<Self>,
        redactor: Arc<Redactor>,
    ) -> impl Fn(WrappedEnd) + Send + Sync + 'static {
        move |WrappedEnd { spec, began, elapsed, outcome, .. }| {
            let mut record = CallRecord::of("wrap", &spec.command);
            (record.at, record.took) = (began, elapsed);
            if let Some(outcome) = outcome {
                record.end(&Ok(outcome));
            }
            record.redact(&redactor);
            self.append(&record);
        }
    }
}

/// Reads the journal of a state directory, oldest first.
pub(crate) fn read(dir: &Path) -> std::io::Result<Vec<CallRecord>> {
    journal_file::read(dir, NAMES)
}

/// Returns the time of the last call that a journal has.
pub(crate) fn last_call(dir: &Path) -> Option<SystemTime> {
    dir.join(NAMES.current).metadata().ok()?.modified().ok()
}

/// The outcome of a call, for its record.
pub(crate) trait Outcome {
    fn describe(&self, record: &mut CallRecord);
}

impl Outcome for BashResult {
    fn describe(&self, record: &mut CallRecord) {
        self.output().describe(record);
    }
}

impl Outcome for BashOutput {
    fn describe(&self, record: &mut CallRecord) {
        record.exit_code = Some(self.exit_code);
        record.timed_out = self.timed_out;
        record.limit_reached = self.limit_reached.map(str::to_owned);
        let denied = self.denied.iter().take(MAX_DENIALS);
        record.denied = denied
            .map(|denial| format!("{} {}: {}", denial.access, denial.target, denial.rule))
            .collect();
        record.hint.clone_from(&self.hint);
    }
}

impl Outcome for AttachedOutcome {
    fn describe(&self, record: &mut CallRecord) {
        record.exit_code = Some(self.exit_code());
        record.timed_out = self.status == CommandStatus::TimedOut;
        record.limit_reached = self.limit_reached().and_then(limit_key).map(str::to_owned);
        let denied = self.quarantined.iter().take(MAX_DENIALS);
        record.denied = denied.map(ToString::to_string).collect();
    }
}

/// A call whose output is not recorded.
pub(crate) struct Plain<T>(pub(crate) T);

impl<T> Outcome for Plain<T> {
    fn describe(&self, _: &mut CallRecord) {}
}

impl LocalSession {
    /// Runs a call whose output is not recorded, and records the call.
    pub(crate) async fn record<T>(
        &self,
        call: &str,
        subject: &str,
        run: impl Future<Output = Result<T, ToolError>>,
    ) -> Result<T, ToolError> {
        let run = async { run.await.map(Plain) };
        self.record_outcome(call, subject, run).await.map(|Plain(output)| output)
    }

    /// Runs a call and records it, also if the caller cancels it.
    pub(crate) async fn record_outcome<T: Outcome>(
        &self,
        call: &str,
        subject: &str,
        run: impl Future<Output = Result<T, ToolError>>,
    ) -> Result<T, ToolError> {
        let record = CallRecord::of(call, subject);
        let mut running = Running { session: self, begun: Instant::now(), record };
        let result = run.await;
        running.record.end(&result);
        result
    }
}

impl CallRecord {
    /// Begins a record. Unless it is ended, the caller has cancelled the call.
    fn of(call: &str, subject: &str) -> Self {
        Self {
            at: SystemTime::now(),
            took: Duration::ZERO,
            call: call.to_owned(),
            subject: subject.to_owned(),
            exit_code: None,
            timed_out: false,
            limit_reached: None,
            denied: Vec::new(),
            hint: None,
            error: Some("the caller cancelled the call".to_owned()),
        }
    }

    fn end<T: Outcome>(&mut self, result: &Result<T, ToolError>) {
        self.error = None;
        match result {
            Ok(output) => output.describe(self),
            Err(error) => {
                if let ToolError::Denied { .. } = error {
                    self.denied.push(error.message());
                }
                self.error = Some(error.message());
            }
        }
    }
}

impl CallRecord {
    fn redact(&mut self, redactor: &Redactor) {
        let texts = [&mut self.subject].into_iter().chain(&mut self.denied);
        for text in texts.chain(&mut self.hint).chain(&mut self.error) {
            *text = recorded(text, redactor);
        }
    }
}

/// A process, from its start to its end. It may outlive the call that starts it.
pub(crate) struct ProcessRecord {
    begun: Instant,
    record: CallRecord,
}

impl ProcessRecord {
    pub(crate) fn begin(command: &str) -> Self {
        Self { begun: Instant::now(), record: CallRecord::of(bash::NAME, command) }
    }

    /// Writes the record.
    pub(crate) fn end<T: Outcome>(self, session: &LocalSession, result: &Result<T, ToolError>) {
        let mut running = Running { session, begun: self.begun, record: self.record };
        running.record.end(result);
    }
}

/// A call that runs. Dropping it writes its record.
struct Running<'s> {
    session: &'s LocalSession,
    begun: Instant,
    record: CallRecord,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let record = &mut self.record;
        record.took = self.begun.elapsed();
        // The journal outlives the process, so it is redacted even if results are not.
        record.redact(&self.session.variables.current().redactor);
        self.session.calls.append(record);
    }
}

/// Returns a text as a record has it.
fn recorded(text: &str, redactor: &Redactor) -> String {
    let redacted = redactor.redact(text);
    match redacted.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{}…", &redacted[..whole_end(redacted.as_bytes(), cut)]),
        None => redacted.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_text_is_redacted_and_then_cut() {
        let value = "s3cret-value-of-some-length".to_owned().into();
        let redactor = Redactor::of([("TOKEN", &value)]);
        assert_eq!(
            recorded("echo s3cret-value-of-some-length", &redactor),
            "echo [redacted:TOKEN]"
        );
        let long = format!("{}s3cret-value-of-some-length", "é".repeat(MAX_CHARS - 3));
        let cut = recorded(&long, &redactor);
        assert_eq!(cut.chars().count(), MAX_CHARS - 3 + 1);
        assert!(cut.ends_with("é…"), "{cut}");
    }
}
