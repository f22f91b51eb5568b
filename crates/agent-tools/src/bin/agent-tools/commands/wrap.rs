//! The subcommand `wrap`: a command in a session on the standard streams of the caller.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Instant;

use agent_tools::{PendingGroup, Session, SessionsBuilder};
use clap::Args;
use sandbox_core::internal::signal_child;
use serde_json::json;
use tokio::process::Command;

use super::tools::TimeArgs;
use crate::command_line;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::{errln, outln};
use crate::signals::use_session_with_attention;

/// The shell that runs the line of a wrapped command.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The signals of the keys of a terminal: `SIGINT`, `SIGQUIT` (`signal(7)`).
const KEYS: [i32; 2] = [2, 3];

/// The exit code of a command that exceeds its time limit.
const TIMED_OUT: i32 = 124;

#[derive(Args, Debug)]
pub(crate) struct WrapArgs {
    /// Print a shell line that runs the command, instead of running it. Another process, such as
    /// `agent-tools mcp`, must have the session open, and the line works while it has.
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    times: TimeArgs,
    /// Script for bash. Several words are joined by blanks; put `--` before words that are options
    /// of this command too.
    #[arg(required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) async fn run(context: &Context, args: WrapArgs) -> Result<ExitCode, Failure> {
    if args.session.network.asks() {
        return Err(Failure::usage(
            "the command has the streams of this process, so --ask cannot use them; use `bash`",
        ));
    }
    let script = args.command.join(OsStr::new(" "));
    let command = command_line::of_script(&script);
    let TimeArgs { timeout, linger } = args.times;
    let settings = |builder: SessionsBuilder| builder.timeout(timeout).linger(linger);
    let open = context.open_with(&args.session, settings);
    // The keys of a terminal signal the command too.
    let has_keys = std::io::stdin().is_terminal();
    use_session_with_attention(open, async move |session, attention| {
        if args.print && !session.is_served_elsewhere() {
            return Err(Failure::not_run_text(
                "no other process has the session open, so the line would not work; start \
                 `agent-tools mcp` for this session first, or leave out --print",
            ));
        }
        let line = session.wrap_command(&command).await.map_err(Failure::not_run)?;
        if args.print {
            let argv = [SHELL[0], SHELL[1], &line];
            context.print(&json!({ "argv": argv, "command": line }), || outln!("{line}"))?;
            return Ok(ExitCode::SUCCESS);
        }
        // The client of the command takes the place of the shell, and passes on signals. The
        // command ends with it.
        let mut child = Command::new(SHELL[0]);
        child.arg(SHELL[1]).arg(format!("exec {line}")).kill_on_drop(true);
        let begun = Instant::now();
        let mut child = child.spawn().map_err(Failure::not_run)?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(Failure::not_run)?,
                received = attention.next_or_late() => match received {
                    Some(number) if has_keys && KEYS.contains(&number) => {}
                    Some(number) => {
                        // One that has just ended needs no signal.
                        let _ = child.id().map(|id| signal_child(id, number));
                    }
                    None => child.start_kill().map_err(Failure::not_run)?,
                },
            }
        };
        report_files(session).await;
        if status.code() == Some(TIMED_OUT) && begun.elapsed() >= timeout {
            let limit = timeout.as_secs_f64();
            errln!("timed out after {limit} s: the command and its children were killed");
        }
        Ok(ExitCode::from(attention.code().unwrap_or_else(|| code(status))))
    })
    .await
}

/// Returns the exit code as a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Uploads the files that the command changed, and names those that could not be stored.
async fn report_files(session: &Session) {
    match session.sync().await {
        Ok(report) => {
            for group in PendingGroup::group(&report.pending) {
                errln!("agent-tools: pending: {group}");
            }
        }
        Err(error) => errln!("agent-tools: warning: {}", agent_tools::with_causes(&error)),
    }
}
