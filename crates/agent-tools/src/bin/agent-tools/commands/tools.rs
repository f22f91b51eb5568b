//! The subcommands that call one tool: `bash`, `shell`, `read-file` and `write-file`.

mod bash;
mod env_file;
mod screen;
mod shell;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use agent_tools::{ByteRange, Session, ToolError, printable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use sandbox_core::{FileError, SessionPath};

use crate::context::Context;
use crate::failure::Failure;
use crate::options::{SessionArgs, session_path};
use crate::output::{errln, outln, print_bytes, print_error};
use crate::signals::{OnSignal, use_session};
use crate::stdin;
use bash::Bash;
use shell::Shell;

/// The size of the parts in which a file is read.
const PART_BYTES: u64 = 8 << 20;

/// The subcommands that call one tool.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolCommand {
    /// Run a bash command in a session and exit with its code (124: timeout, 125: not run).
    ///
    /// The command gets the standard input of this process, and its signals HUP, INT, QUIT, TERM,
    /// ALRM, USR1 and USR2, in all of its processes. Its output is passed on byte for byte while it
    /// runs, with `[redacted:NAME]` for the values of variables. Notes about changed files and
    /// refusals follow on standard error. With --json, the result is one object, HUP, INT, QUIT and
    /// TERM end the command, and it does not get the other signals.
    #[command(after_help = "Examples:\n  $ agent-tools bash 'echo hello > greeting.txt; ls'\n  \
                            $ agent-tools bash --session other --timeout 600 'sleep 0.1'\n  \
                            $ echo hello | agent-tools bash 'cat > greeting.txt'")]
    Bash(Bash),
    /// Open a terminal in a session, and exit with the code of its shell.
    #[command(after_help = "Examples:\n  $ agent-tools shell\n  \
                            $ agent-tools shell --session other vim notes.txt")]
    Shell(Shell),
    /// Print a file of a session.
    #[command(after_help = "Example:\n  $ agent-tools read-file greeting.txt")]
    ReadFile(ReadFile),
    /// Write a file of a session, from standard input or --content.
    ///
    /// A file in `/tmp` would end with this process, and is refused unless another process has the
    /// session open.
    #[command(
        after_help = "Examples:\n  $ agent-tools write-file notes.txt --content 'some text'\n  \
                            $ echo 'some text' | agent-tools write-file notes.txt"
    )]
    WriteFile(WriteFile),
}

/// The times after which a command and its processes are killed.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct TimeArgs {
    /// Time limit of the command in seconds, after which it is killed.
    #[arg(
        long,
        value_name = "SECS",
        default_value = "120",
        value_parser = seconds,
        env = "AGENT_TOOLS_TIMEOUT"
    )]
    pub(super) timeout: Duration,
    /// Time without output for which processes may outlive the shell.
    #[arg(
        long,
        value_name = "SECS",
        default_value = "0.25",
        value_parser = seconds_or_none,
        env = "AGENT_TOOLS_LINGER"
    )]
    pub(super) linger: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct ReadFile {
    /// File, relative to the session directory.
    #[arg(value_parser = session_path())]
    path: String,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Args, Debug)]
pub(crate) struct WriteFile {
    /// File, relative to the session directory.
    #[arg(value_parser = session_path())]
    path: String,
    /// Content of the file [default: standard input].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    content: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) async fn run(context: &Context, command: ToolCommand) -> Result<ExitCode, Failure> {
    match command {
        ToolCommand::Bash(args) => bash::run(context, args).await,
        ToolCommand::Shell(args) => shell::run(context, args).await,
        ToolCommand::ReadFile(args) => read_file(context, args).await,
        ToolCommand::WriteFile(args) => write_file(context, args).await,
    }
}

async fn read_file(context: &Context, args: ReadFile) -> Result<ExitCode, Failure> {
    use_session(OnSignal::Kill, context.open_existing(&args.session), async |session| {
        if context.prints_json() {
            let output = session.read_file(&args.path).await.map_err(not_whole)?;
            context.print(&output, || ())?;
        } else {
            print_file(session, &args.path).await.map_err(Failure::failed)?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
    .map_err(Failure::into_failed)
}

/// Reports a file that JSON cannot have as a whole.
pub(super) fn not_whole(error: ToolError) -> Failure {
    let is_large = matches!(&error, ToolError::File { source: FileError::TooLarge { .. } });
    let failure = Failure::failed(error);
    if is_large { failure.with_remedy("without --json, a file may have any size") } else { failure }
}

/// Prints a file of any size, part by part. A note names the values that are replaced in binary
/// content, because its reader may not see the placeholders.
pub(super) async fn print_file(session: &Session, path: &str) -> Result<(), ToolError> {
    let (mut start, mut redacted) = (0, BTreeSet::new());
    loop {
        let range = ByteRange { start, end: Some(start + PART_BYTES) };
        let part = session.read_file_bytes(path, range).await?;
        match part.encoding {
            Some(_) => {
                print_bytes(&STANDARD.decode(&part.content).unwrap_or_default());
                redacted.extend(part.redacted);
            }
            None => print_bytes(part.content.as_bytes()),
        }
        start = part.next_byte.unwrap_or(start + PART_BYTES);
        if part.total_bytes.is_none_or(|size| start >= size) {
            break;
        }
    }
    if !redacted.is_empty() {
        let names = Vec::from_iter(redacted).join(", ");
        errln!(
            "agent-tools: note: {} is binary, and [redacted:NAME] replaces the values of {names} \
             in it; `agent-tools cp` copies it as it is",
            printable(path)
        );
    }
    Ok(())
}

async fn write_file(context: &Context, args: WriteFile) -> Result<ExitCode, Failure> {
    let content = match args.content {
        Some(content) => content.into_bytes(),
        None => stdin::read("the content")?,
    };
    use_session(OnSignal::Kill, context.open_for_files(&args.session), async |session| {
        check_lasts(context, session, &args.path)?;
        // A placeholder in the place of a value would lose the value.
        let checked = session.check_placeholders(&args.path, &content).await;
        checked.map_err(Failure::failed)?;
        let output = session.write_file(&args.path, &content).await.map_err(Failure::failed)?;
        context.print(&output, || {
            outln!("{}", output.url.as_deref().unwrap_or(&output.path));
            print_error(format_args!("{}", output.notes()));
        })?;
        Ok(ExitCode::SUCCESS)
    })
    .await
    .map_err(Failure::into_failed)
}

/// Returns an error for a path in `/tmp` of a session that ends with this process.
pub(super) fn check_lasts(context: &Context, session: &Session, path: &str) -> Result<(), Failure> {
    let outside = SessionPath::outside(session.dir(), path);
    // The reference has `/tmp` in the session directory.
    let lasts = context.follows_reference() || session.is_served_elsewhere();
    if lasts || !outside.is_some_and(|path| path.starts_with("/tmp")) {
        return Ok(());
    }
    Err(Failure::failed_text(format!(
        "cannot write {path}: /tmp ends with this process; use the session directory"
    )))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("expected a number of seconds above 0".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number of seconds, such as 30 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "abc", "inf", "NaN", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds_or_none("0"), Ok(Duration::ZERO));
        assert!(seconds_or_none("-1").is_err());
    }
}
