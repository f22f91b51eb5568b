//! The subcommand `bash`: a command of a session on the standard streams of this process.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    BashOptions, BashOutput, CapturedStream, InputFrom, OutputTo, Process, ProcessInput,
    ProcessOutput, Session, SessionsBuilder, Spawn, printable, shortened_stream,
};
use clap::Args;
use sandbox_core::read_terminal;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{TimeArgs, env_file};
use crate::command_line;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::{errln, print_bytes, print_command_error, print_error};
use crate::questions::{HeldOutput, are_one};
use crate::signals::{Attention, OnSignal, use_session, use_session_with_attention};

/// The time that output of a killed command has to reach its reader.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct Bash {
    #[command(flatten)]
    times: TimeArgs,
    /// Maximum length of each output stream, in UTF-16 units. The output then follows at the end,
    /// and of a longer stream, its beginning and its end [default: 30000 with --json, otherwise
    /// none].
    #[arg(long, value_name = "UNITS", env = "AGENT_TOOLS_MAX_OUTPUT")]
    max_output: Option<usize>,
    #[command(flatten)]
    place: PlaceArgs,
    /// File of further variables of the command, a JSON object of names and texts. `-` stands for
    /// standard input, which the command then does not get. Unlike with --env, no list of processes
    /// shows the values.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Script for bash. Several words are joined by blanks; put `--` before words that are options
    /// of this command too.
    #[arg(required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    session: SessionArgs,
}

/// A result with `notes`, the lines that follow the streams without --json. Callers show them to a
/// model without a list of the fields of a result.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    output: &'a BashOutput,
    #[serde(skip_serializing_if = "String::is_empty")]
    notes: String,
}

impl<'a> From<&'a BashOutput> for Printed<'a> {
    fn from(output: &'a BashOutput) -> Self {
        Self { output, notes: output.notes() }
    }
}

/// The directory and the environment of a command.
#[derive(Args, Debug)]
pub(super) struct PlaceArgs {
    /// Working directory, absolute or relative to the session directory.
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Variable of the command, instead of one of the session; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl PlaceArgs {
    pub(super) fn apply(self, spawn: &mut Spawn) {
        (spawn.cwd, spawn.env) = (self.cwd, self.env);
    }
}

pub(super) async fn run(context: &Context, mut args: Bash) -> Result<ExitCode, Failure> {
    let has_input = args.env_file.as_deref() != Some(Path::new(env_file::STDIN));
    if let Some(path) = &args.env_file {
        // Those of the command line come last and win.
        args.place.env.splice(..0, env_file::read(path)?);
    }
    let command = script(&args.command);
    let TimeArgs { timeout, linger } = args.times;
    // The next command has another sandbox, with a `/tmp` of its own.
    let open = context.open_with(&args.session, SessionsBuilder::without_kept_output);
    if context.prints_json() {
        let mut options = BashOptions::default();
        (options.timeout, options.linger) = (Some(timeout), Some(linger));
        (options.cwd, options.env) = (args.place.cwd, args.place.env);
        options.max_output = args.max_output;
        return use_session(OnSignal::Kill, open, async |session| {
            let output = session.bash_with(&command, options).await.map_err(Failure::not_run)?;
            context.print(&Printed::from(&output), || ())?;
            Ok(code(&output))
        })
        .await;
    }
    let mut spawn = Spawn::command(command);
    (spawn.timeout, spawn.linger) = (Some(timeout), Some(linger));
    args.place.apply(&mut spawn);
    use_session_with_attention(open, async |session, attention| {
        let is_typed = stdin().is_terminal();
        spawn.stdin = match is_typed {
            // The keys are the answers.
            true if args.session.network.asks() => InputFrom::Nothing,
            _ if !has_input => InputFrom::Nothing,
            true => InputFrom::Pipe,
            false => InputFrom::Descriptor(copy(stdin())?),
        };
        let mut held = HeldOutput::default();
        if args.max_output.is_some() {
            (spawn.stdout, spawn.stderr) = (OutputTo::Pipe, OutputTo::Pipe);
        } else {
            let (out, error) = (copy(stdout())?, copy(stderr())?);
            // One destination of both shows them in their order.
            let are_one = are_one(&out, &error).map_err(Failure::not_run)?;
            let mut output = |stream| match args.session.network.asks() {
                true => held.stream(stream).map(OutputTo::Descriptor).map_err(Failure::not_run),
                false => Ok(OutputTo::Descriptor(stream)),
            };
            spawn.stderr = if are_one { OutputTo::Stdout } else { output(error)? };
            spawn.stdout = output(out)?;
        }
        let mut process = tokio::select! {
            spawned = session.spawn(spawn) => spawned.map_err(Failure::not_run)?,
            received = attention.next() => return Ok(received.into()),
        };
        if let Some(input) = process.take_stdin() {
            forward_keys(input);
        }
        let streams = [("stdout", process.take_stdout()), ("stderr", process.take_stderr())];
        let streams = streams.map(|(name, output)| (name, tokio::spawn(collected(output))));
        let output = attend(&mut process, attention).await;
        let is_killed =
            attention.code().is_some() || output.as_ref().map_or(true, |it| it.timed_out);
        let written = held.finish(is_killed.then_some(REST_TIMEOUT)).await;
        let output = output?;
        written.map_err(|error| {
            Failure::failed_text(format!("cannot write the output of the command: {error}"))
        })?;
        for (name, stream) in streams {
            let Some(max) = args.max_output else { continue };
            let stream = stream.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
            let text = shortened_stream(name, &stream, max);
            if name == "stdout" {
                print_bytes(text.as_bytes());
            } else {
                print_command_error(&text);
            }
        }
        show_rest(session, &output);
        Ok(attention.code().map_or_else(|| code(&output), ExitCode::from))
    })
    .await
}

/// The size of the part of a stream that is kept until its end.
const MAX_COLLECTED: usize = 32 << 20;

/// Collects a pipe of a process until its end.
async fn collected(output: Option<ProcessOutput>) -> io::Result<CapturedStream> {
    let mut stream = CapturedStream::default();
    let Some(mut output) = output else { return Ok(stream) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = output.read(&mut buffer).await?;
        if count == 0 {
            return Ok(stream);
        }
        let kept = count.min(MAX_COLLECTED - stream.bytes.len());
        stream.bytes.extend_from_slice(&buffer[..kept]);
        stream.dropped_bytes += (count - kept) as u64;
    }
}

/// Joins the words of a command line to a script.
pub(super) fn script(words: &[OsString]) -> String {
    command_line::of_script(&words.join(" ".as_ref()))
}

/// Returns the exit code of this process after a command.
pub(super) fn code(output: &BashOutput) -> ExitCode {
    ExitCode::from(u8::try_from(output.exit_code).unwrap_or(1))
}

/// Waits for the end of a process, and passes on the signals that this process receives.
pub(super) async fn attend(
    process: &mut Process,
    attention: &mut Attention,
) -> Result<BashOutput, Failure> {
    let control = process.control();
    let mut waiting = std::pin::pin!(process.wait());
    let mut given_up_at = None;
    loop {
        let is_late = async {
            match given_up_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut waiting => return ended.map_err(|error| match error {
                error @ agent_tools::ToolError::Write { .. } => Failure::failed(error),
                error => Failure::not_run(error),
            }),
            received = attention.next_or_late() => match received {
                Some(number) => control.signal(number),
                None => {
                    control.kill();
                    given_up_at = Some(Instant::now() + REST_TIMEOUT);
                }
            },
            // The output has no reader.
            () = is_late => {
                return Err(Failure::ended(attention.code().unwrap_or_default()));
            }
        }
    }
}

/// Prints all but the output to standard error.
pub(super) fn show_rest(session: &Arc<Session>, output: &BashOutput) {
    print_command_error(&output.stderr);
    print_error(format_args!("{}", output.notes()));
    // Those from opening the session are printed before.
    let known = session.warnings();
    for warning in output.warnings.iter().filter(|warning| !known.contains(warning)) {
        errln!("agent-tools: warning: {}", printable(warning));
    }
}

fn copy(stream: impl AsFd) -> Result<OwnedFd, Failure> {
    stream.as_fd().try_clone_to_owned().map_err(Failure::not_run)
}

/// Passes on what is typed, in a thread that ends with this process.
pub(super) fn forward_keys(mut input: ProcessInput) {
    let (sender, mut typed) = mpsc::channel::<Vec<u8>>(1);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = read_terminal(stdin(), &mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(bytes) = typed.recv().await {
            if input.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}

/// Writes to the terminal of this process.
pub(super) fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
