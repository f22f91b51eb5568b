//! One captured command, from its request to its output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::connection::Connection;
use super::outcome::{Outcome, wait_exit};
use super::prestart::{self, Prestart};
use super::refresh::Mounts;
use super::request;
use super::settlement::Settled;
use super::streams::{Activity, CommandPipes, OutputWatch, capture, command_pipes, pipe_pair};
use super::wire;
use crate::sandbox::streams::feed;
use crate::sandbox::{CommandOutput, CommandSpec, ExecError, Limit};

/// Runs a command to its end, or until `stop` returns, then prestarts a shell for the next one.
pub(super) async fn exec(
    connection: &Arc<Connection>,
    mounts: &Arc<Mounts>,
    prestart: &Arc<Prestart>,
    spec: CommandSpec,
    stop: impl Future<Output = ()>,
    watch: &OutputWatch<'_>,
) -> Result<CommandOutput, ExecError> {
    let started = Instant::now();
    let running = prestart.begin();
    let began = mounts.begin();
    let mut kills = connection.watch_memory_kills();
    let host = |operation| move |source: io::Error| ExecError::Host { operation, source };
    let (pipes, stdin) = match prestart.take(connection, &spec) {
        Some(pipes) => (pipes, None),
        None => start(connection, &spec).await?,
    };
    let stdin = stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(host("use a pipe"))?;
    let stdout = pipe::Receiver::from_owned_fd(pipes.stdout).map_err(host("use a pipe"))?;
    let stderr = pipe::Receiver::from_owned_fd(pipes.stderr).map_err(host("use a pipe"))?;
    let channel = UnixStream::from_std(pipes.channel).map_err(host("use a socket"))?;
    let activity = Activity::new(watch);
    let mut size = connection.size().watch();
    let quiet = activity.wait_for_silence(spec.linger);
    let (outcome, stdout, stderr, ()) = tokio::join!(
        wait_exit(channel, spec.timeout, &mut size, quiet, stop),
        capture(stdout, spec.max_output_bytes, connection.null(), &activity),
        capture(stderr, spec.max_output_bytes, connection.null(), &activity),
        feed(stdin, &spec.stdin),
    );
    let outcome = match outcome {
        Err(ExecError::Ended { .. }) if connection.end_after_memory_kill(&mut kills) => {
            Outcome::out_of_memory()
        }
        outcome => outcome?,
    };
    kills.settle(outcome.report.limit);
    let status = outcome.status(connection.shell(), connection.working_dir(&spec))?;
    let Settled { quarantined, sandbox_ended } =
        mounts.settle(&began, outcome.report.watched_creations).await;
    let mut limit = outcome.limit();
    if limit.is_none() && size.is_exceeded().await {
        limit = Some(Limit::SessionSize);
    }
    let read = host("read the output");
    let output = CommandOutput {
        stdout: stdout.map_err(read)?,
        stderr: stderr.map_err(read)?,
        status,
        quarantined,
        sandbox_ended,
        limit,
        unroutable: outcome.report.unroutable,
        killed: outcome.killed,
        elapsed: started.elapsed(),
    };
    drop(running);
    prestart::prepare_next(connection, prestart, spec);
    Ok(output)
}

/// Starts a new shell with the command. Also returns the writing end of its input, if it has any.
async fn start(
    connection: &Connection,
    spec: &CommandSpec,
) -> Result<(CommandPipes, Option<OwnedFd>), ExecError> {
    let body = request::encode(connection, spec, wire::COMMAND_MAY_LINGER)?;
    let (pipes, ends) = command_pipes()?;
    let (stdin_end, stdin) = match spec.stdin.is_empty() {
        true => (None, None),
        false => pipe_pair().map(|(end, writer)| (Some(end), Some(writer)))?,
    };
    let stdin_end = stdin_end.as_ref().unwrap_or(connection.null());
    let fds = [stdin_end, &ends.stdout, &ends.stderr, &ends.channel];
    connection.send(&body, fds.map(AsFd::as_fd)).await?;
    Ok((pipes, stdin))
}
