//! The optional tools `startProcess`, `readProcess` and `stopProcess`: a program of the session
//! that outlasts the call, such as a server or an interpreter.

mod background;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bash::BashOutput;
use super::call::{CallOptions, ToolContent, ToolResult};
use super::definition::{Definition, Effects, Surroundings, parse, result};
use crate::redaction::names_in;
use crate::session::Session;
use crate::tool_error::ToolError;

pub(crate) use background::Background;
use background::{ReadPart, Until};

/// Time in which the first output of a process may arrive.
const START_WAIT: Duration = Duration::from_millis(500);
/// The usual time for which `readProcess` waits for output, and the maximum.
const READ_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Time in which a process may end itself after a signal, before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// `SIGTERM` and `SIGINT` (`signal(7)`).
const TERMINATE: i32 = 15;
const INTERRUPT: i32 = 2;

/// The note about a process of another program.
const ADOPTED: &str = "only the program that started the process gets its output";

const START_NAME: &str = "startProcess";
const READ_NAME: &str = "readProcess";
const STOP_NAME: &str = "stopProcess";

pub(super) const START: Definition = Definition {
    name: START_NAME,
    title: "Start a process",
    effects: Effects::Any,
    uses_network: true,
    describe: |surroundings| {
        describe(
            surroundings,
            "Start a bash command that goes on after this call, such as a server or an \
             interpreter, and get its id and its first output. Both output streams are one. Read \
             more with readProcess, and end it with stopProcess. It is killed when the session \
             ends. For a command that ends by itself, use bash.",
        )
    },
    input_schema: schema::start_input,
    output_schema: schema::output,
    call: |session, input, options| Box::pin(start(session, input, options)),
};

pub(super) const READ: Definition = Definition {
    name: READ_NAME,
    title: "Read from a process",
    effects: Effects::Any,
    uses_network: false,
    describe: |surroundings| {
        describe(
            surroundings,
            "Get what a process of startProcess has printed since the last call, after writing to \
             its standard input if there is `input`. Waits for output until waitMs have passed.",
        )
    },
    input_schema: schema::read_input,
    output_schema: schema::output,
    call: |session, input, _| Box::pin(read(session, input)),
};

pub(super) const STOP: Definition = Definition {
    name: STOP_NAME,
    title: "Stop a process",
    effects: Effects::Idempotent,
    uses_network: false,
    describe: |surroundings| {
        describe(
            surroundings,
            "Ask a process of startProcess to end, kill it if it does not, and get the rest of \
             its output, its exit code, and links to the files it changed.",
        )
    },
    input_schema: schema::stop_input,
    output_schema: schema::output,
    call: |session, input, _| Box::pin(stop(session, input)),
};

fn describe(surroundings: &Surroundings<'_>, purpose: &str) -> String {
    format!("{purpose}\n\nWORKING DIRECTORY: {}\n", surroundings.session_dir.display())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StartInput {
    command: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadInput {
    process_id: String,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    end_input: bool,
    #[serde(default)]
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StopInput {
    process_id: String,
    #[serde(default)]
    signal: StopSignal,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum StopSignal {
    #[default]
    #[serde(rename = "TERM", alias = "SIGTERM")]
    Terminate,
    #[serde(rename = "INT", alias = "SIGINT")]
    Interrupt,
    #[serde(rename = "KILL", alias = "SIGKILL")]
    Kill,
}

/// The output of each of the three tools.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessOutput {
    process_id: String,
    /// The output since the last call.
    output: String,
    /// The number of bytes before it that were dropped, because no call had read them.
    #[serde(skip_serializing_if = "crate::output::is_zero")]
    omitted_bytes: usize,
    /// The number of bytes that follow the output, and that the next call gets.
    #[serde(skip_serializing_if = "crate::output::is_zero")]
    remaining_bytes: usize,
    /// The names of the variables whose values `[redacted:NAME]` replaces in the output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    redacted: Vec<String>,
    is_running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// The result of a process that has ended, without its streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<BashOutput>>,
    /// The reason for which there is no output.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    /// The reason for which there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn start(
    session: &Session,
    input: Value,
    options: CallOptions,
) -> Result<ToolResult, ToolError> {
    let StartInput { command, cwd, timeout_ms } = parse(START_NAME, input)?;
    let asked = timeout_ms.map(Duration::from_millis);
    let timeout = match (asked, options.max_timeout) {
        (Some(Duration::ZERO), _) => {
            return Err(failed(START_NAME, "timeoutMs must be at least 1".to_owned()));
        }
        (Some(asked), Some(max)) if asked > max => {
            let problem = format!("timeoutMs may be at most {} here", max.as_millis());
            return Err(failed(START_NAME, problem));
        }
        (asked, max) => asked.or(max),
    };
    let (id, unanswered) = session.background.start(session, command, cwd, timeout).await?;
    let seen = session.background.read(READ_NAME, &id, Until::Output, START_WAIT).await?;
    // It never ran.
    if let (Some(Err(error)), true) = (&seen.ended, seen.output.is_empty()) {
        return Err(failed(START_NAME, error.clone()));
    }
    unanswered.answer();
    finish(session, id, seen)
}

async fn read(session: &Session, input: Value) -> Result<ToolResult, ToolError> {
    let ReadInput { process_id, input, end_input, wait_ms } = parse(READ_NAME, input)?;
    let background = &session.background;
    background.adopt(session, &process_id).await?;
    let wait = wait_ms.map_or(READ_WAIT, Duration::from_millis).min(MAX_WAIT);
    let begun = Instant::now();
    if input.is_some() || end_input {
        let text = input.unwrap_or_default();
        background.write(READ_NAME, &process_id, text.as_bytes(), end_input, wait).await?;
    }
    let left = wait.saturating_sub(begun.elapsed());
    let seen = background.read(READ_NAME, &process_id, Until::Output, left).await?;
    finish(session, process_id, seen)
}

async fn stop(session: &Session, input: Value) -> Result<ToolResult, ToolError> {
    let StopInput { process_id, signal } = parse(STOP_NAME, input)?;
    let background = &session.background;
    background.adopt(session, &process_id).await?;
    let signal = match signal {
        StopSignal::Terminate => Some(TERMINATE),
        StopSignal::Interrupt => Some(INTERRUPT),
        StopSignal::Kill => None,
    };
    background.stop(STOP_NAME, &process_id, signal, STOP_WAIT).await?;
    // The changes of a killed process are stored before its end is known.
    let seen = background.read(STOP_NAME, &process_id, Until::End, MAX_WAIT).await?;
    finish(session, process_id, seen)
}

fn failed(tool: &'static str, problem: String) -> ToolError {
    ToolError::Failed { tool, problem }
}

fn finish(session: &Session, process_id: String, seen: ReadPart) -> Result<ToolResult, ToolError> {
    let ReadPart { output, omitted_bytes, remaining_bytes, is_adopted, ended } = seen;
    let is_running = ended.is_none();
    let (ended, error) = match ended {
        Some(Ok(ended)) => (Some(ended), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let exit_code = ended.as_ref().map(|ended| ended.exit_code);
    // The output is redacted on its way.
    let redacted = if session.settings.redact { names_in(&output) } else { BTreeSet::new() };
    let output = ProcessOutput {
        process_id,
        output,
        omitted_bytes,
        remaining_bytes,
        redacted: Vec::from_iter(redacted),
        is_running,
        exit_code,
        result: ended,
        note: is_adopted.then_some(ADOPTED),
        error,
    };
    let text = output.text();
    result(&output, ToolContent::text(text))
}

impl ProcessOutput {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.omitted_bytes > 0 {
            let _ = writeln!(text, "[{} earlier bytes were dropped]", self.omitted_bytes);
        }
        text += &self.output;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if self.remaining_bytes > 0 {
            let left = self.remaining_bytes;
            let _ = writeln!(text, "[{left} more bytes of output: call readProcess]");
        }
        if self.is_running {
            let _ = writeln!(text, "process {} is running", self.process_id);
        }
        if let Some(code) = self.exit_code {
            let _ = writeln!(text, "process {} has ended: exit code {code}", self.process_id);
        }
        if let Some(error) = &self.error {
            let _ = writeln!(text, "process {} has ended: {error}", self.process_id);
        }
        if let Some(note) = self.note {
            let _ = writeln!(text, "note: {note}");
        }
        let notes = self.result.as_ref().map(|result| result.notes());
        text + &notes.unwrap_or_default()
    }
}
