//! `bash`, `read-file`, `write-file`: the three tools from a shell.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use agent_tools::{BashOptions, BashOutput};
use base64::Engine;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Bash, ReadFile, WriteFile};
use crate::context::Context;
use crate::failure::Failure;

/// What a shell gives for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

pub(crate) async fn bash(context: &Context, args: Bash) -> Result<ExitCode, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::setting)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::setting)?;
    let mut options = BashOptions::default();
    options.timeout = Some(args.timeout);
    let running = async {
        let session = context.open(&args.session).await?;
        session.bash_with(&args.command, options).await.map_err(Failure::setting)
    };
    // Dropping the call kills the command; what it changed is mirrored when the session is used
    // next.
    let output = tokio::select! {
        output = running => output?,
        _ = interrupt.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(TERMINATED)),
    };
    context.print(&output, || show(&output))?;
    Ok(ExitCode::from(u8::try_from(output.exit_code).unwrap_or(1)))
}

/// Output to where a shell would send it; what is about it to standard error.
fn show(output: &BashOutput) {
    let _ = std::io::stdout().write_all(output.command_stdout().as_bytes());
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().write_all(output.stderr.as_bytes());
    let mut about = String::new();
    for artifact in &output.artifacts {
        let link =
            artifact.url.as_deref().or(artifact.key.as_deref()).unwrap_or("not in the store yet");
        about += &format!("  {}: {link}\n", artifact.relative_path);
    }
    if output.artifacts_omitted > 0 {
        about += &format!("  and {} more\n", output.artifacts_omitted);
    }
    if !about.is_empty() {
        about.insert_str(0, "artifacts:\n");
    }
    for (what, notes, omitted) in [
        ("pending", &output.pending, output.pending_omitted),
        ("not mirrored", &output.skipped, output.skipped_omitted),
    ] {
        for note in notes {
            about += &format!("{what}: {}: {}\n", note.relative_path, note.reason);
        }
        if omitted > 0 {
            about += &format!("{what}: and {omitted} more\n");
        }
    }
    if output.removals_held_back > 0 {
        let count = output.removals_held_back;
        about += &format!(
            "removals held back: {count} files are gone at one time; `session sync --confirm-removals` removes their stored copies\n"
        );
    }
    for conflict in &output.conflicts {
        about += &format!(
            "changed on both sides: {}; the other version is {}\n",
            conflict.relative_path, conflict.kept_as
        );
    }
    for denial in &output.denied {
        let remedy = denial.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let moved =
            denial.moved_to.as_ref().map(|to| format!("; it is {to} now")).unwrap_or_default();
        about += &format!(
            "denied: {} {}: {}{remedy}{moved}\n",
            denial.access, denial.target, denial.rule
        );
    }
    if output.timed_out {
        about += "the time was up: the command and all that it had started were killed\n";
    }
    eprint!("{about}");
}

pub(crate) async fn read_file(context: &Context, args: ReadFile) -> Result<ExitCode, Failure> {
    let session = context.open(&args.session).await.map_err(Failure::plain)?;
    let output = session.read_file(&args.path).await.map_err(Failure::new)?;
    context.print(&output, || {
        let bytes = match output.encoding {
            Some(_) => base64::engine::general_purpose::STANDARD
                .decode(&output.content)
                .unwrap_or_default(),
            None => output.content.clone().into_bytes(),
        };
        let _ = std::io::stdout().write_all(&bytes);
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn write_file(context: &Context, args: WriteFile) -> Result<ExitCode, Failure> {
    let content = match args.content {
        Some(content) => content.into_bytes(),
        None => standard_input("the content")?,
    };
    let session = context.open(&args.session).await.map_err(Failure::plain)?;
    let output = session.write_file(&args.path, &content).await.map_err(Failure::new)?;
    context.print(&output, || {
        println!("{}", output.url.as_deref().unwrap_or(&output.path));
        if let Some(reason) = &output.pending {
            eprintln!("pending: {reason}");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads standard input to its end; tells a person at a terminal what is waited for.
pub(crate) fn standard_input(what: &str) -> Result<Vec<u8>, Failure> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("agent-tools: type {what}, and end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(Failure::new)?;
    Ok(bytes)
}
