//! The subcommand `shell`: a terminal in a session.

use std::ffi::OsString;
use std::io::{IsTerminal as _, stdin, stdout};
use std::process::ExitCode;

use agent_tools::{ProcessOutput, SessionsBuilder, Spawn};
use clap::Args;
use sandbox_core::RawTerminal;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::bash::{PlaceArgs, code, forward_keys, script, show, show_rest};
use super::screen::Screen;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::origins;
use crate::signals::use_session_with_attention;

/// The shell of the session, which `SHELL` names.
const SHELL: &str = "exec \"$SHELL\" -i";

/// `SIGHUP` and `SIGTERM` (`signal(7)`).
const HANG_UP: i32 = 1;
const TERMINATE: i32 = 15;
/// The exit code of a shell that the latter has ended.
const TERMINATED: u8 = 143;

#[derive(Args, Debug)]
pub(crate) struct Shell {
    #[command(flatten)]
    place: PlaceArgs,
    /// Script for bash, instead of an interactive shell. Several words are joined by blanks.
    #[arg(value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) async fn run(context: &Context, args: Shell) -> Result<ExitCode, Failure> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage(
            "`shell` needs a terminal as its standard input and output; use `bash` without one",
        ));
    }
    if args.session.network.asks() {
        let ask = origins::name("--ask");
        return Err(Failure::usage(format!("the shell has the terminal, so {ask} cannot use it")));
    }
    let is_shell = args.command.is_empty();
    let mut spawn = match args.command.as_slice() {
        [] => Spawn::command(SHELL),
        words => Spawn::command(script(words)),
    };
    args.place.apply(&mut spawn);
    let open = context.open_with(&args.session, SessionsBuilder::without_kept_output);
    use_session_with_attention(open, async |session, attention| {
        spawn.terminal = Some(RawTerminal::size_of(stdin()));
        let mut sizes = signal(SignalKind::window_change()).map_err(Failure::not_run)?;
        let mut process = tokio::select! {
            spawned = session.spawn(spawn) => spawned.map_err(Failure::not_run)?,
            received = attention.next() => return Ok(received.into()),
        };
        let raw = RawTerminal::enter(stdin()).map_err(Failure::not_run)?;
        if let Some(input) = process.take_stdin() {
            forward_keys(input);
        }
        let shown = process.take_stdout().map(|output| tokio::spawn(show_all(output)));
        // The size may have changed before its signal was handled.
        let _ = process.resize(RawTerminal::size_of(stdin()));
        let mut is_terminated = false;
        let ended = loop {
            tokio::select! {
                ended = process.wait() => break ended,
                _ = sizes.recv() => {
                    let _ = process.resize(RawTerminal::size_of(stdin()));
                }
                received = attention.next_or_late() => match received {
                    // An interactive bash ignores it.
                    Some(TERMINATE) if is_shell => {
                        is_terminated = true;
                        process.signal(HANG_UP);
                    }
                    Some(number) => process.signal(number),
                    None => process.kill(),
                },
            }
        };
        if let Some(shown) = shown
            && let Ok(screen) = shown.await
        {
            // A program that was killed has left its picture.
            let _ = show(&screen.restoring());
        }
        drop(raw);
        let output = ended.map_err(Failure::not_run)?;
        show_rest(session, &output);
        if is_terminated {
            return Ok(ExitCode::from(TERMINATED));
        }
        Ok(attention.code().map_or_else(|| code(&output), ExitCode::from))
    })
    .await
}

/// Shows what the process prints, until its terminal ends or this process has lost its own.
/// Returns what the screen is then.
async fn show_all(mut output: ProcessOutput) -> Screen {
    let mut screen = Screen::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        screen.note(&buffer[..count]);
        if show(&buffer[..count]).is_err() {
            break;
        }
    }
    screen
}
