//! The end of a command: the worker's report and the status it means.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

use super::size::SizeWatch;
use super::wire;
use crate::sandbox::{CommandStatus, ExecError, Limit};

/// `SIGKILL` (`signal(7)`).
const SIGKILL: u32 = 9;

/// A worker's report; see `wire`.
pub(super) struct Report {
    kind: u32,
    value: u32,
    /// The limit that the control group has enforced, as `LIMIT_…`.
    pub(super) limit: u32,
    /// Number of connections without a route in this session while the command ran.
    pub(super) unroutable: u32,
    /// Number of files created in this session under a watched name.
    pub(super) watched_creations: u32,
}

impl Report {
    /// Returns the report in place of that of a worker that was killed because memory had run out.
    pub(super) fn out_of_memory() -> Self {
        Self::killed(wire::LIMIT_MEMORY)
    }

    fn killed(limit: u32) -> Self {
        let (kind, value) = (wire::RESULT_SIGNALED, SIGKILL);
        Self { kind, value, limit, unroutable: 0, watched_creations: 0 }
    }

    pub(super) fn of(message: &[u8; wire::REPORT_BYTES]) -> Self {
        let mut words = message
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let [kind, value, limit, unroutable, watched_creations] =
            std::array::from_fn(|_| words.next().unwrap_or_default());
        Self { kind, value, limit, unroutable, watched_creations }
    }

    /// Returns whether SIGKILL has ended the shell.
    pub(super) fn was_killed(&self) -> bool {
        self.kind == wire::RESULT_SIGNALED && self.value == SIGKILL
    }
}

/// The end of a command.
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) timed_out: bool,
    /// The size of the session directory ended the command.
    pub(super) outgrew: bool,
    /// Names of the processes that outlived the shell and were killed.
    pub(super) killed: Vec<String>,
}

impl Outcome {
    /// Returns the outcome of a command whose worker was killed because memory had run out.
    pub(super) fn out_of_memory() -> Self {
        let report = Report::out_of_memory();
        Self { report, timed_out: false, outgrew: false, killed: Vec::new() }
    }

    /// Returns the limit that the command's control group reports, or the size of the session
    /// directory.
    pub(super) fn limit(&self) -> Option<Limit> {
        match self.report.limit {
            wire::LIMIT_MEMORY => Some(Limit::Memory),
            wire::LIMIT_PROCESSES => Some(Limit::Processes),
            wire::LIMIT_PROCESSOR_TIME => Some(Limit::CpuTime),
            _ => self.outgrew.then_some(Limit::SessionSize),
        }
    }

    /// Returns the command's status.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command did not start. `shell` and `cwd` are the paths that the
    /// error names.
    pub(super) fn status(&self, shell: &Path, cwd: &Path) -> Result<CommandStatus, ExecError> {
        let value = self.report.value.cast_signed();
        let source = io::Error::from_raw_os_error(value);
        match self.report.kind {
            wire::RESULT_EXITED | wire::RESULT_SIGNALED if self.timed_out => {
                Ok(CommandStatus::TimedOut)
            }
            wire::RESULT_EXITED => Ok(CommandStatus::Exited(value)),
            wire::RESULT_SIGNALED => Ok(CommandStatus::Signaled(value)),
            wire::RESULT_NO_DIRECTORY => {
                Err(ExecError::WorkingDirectory { path: cwd.to_owned(), source })
            }
            wire::RESULT_NO_SHELL => Err(ExecError::Shell { path: shell.to_owned(), source }),
            _ => Err(ExecError::Host { operation: "start a process", source }),
        }
    }
}

/// Waits for the report of a command. After the timeout, closes the host's sending side of the
/// channel; the worker then kills everything and reports. Does the same when processes have
/// outlived the shell and `quiet` has returned, when the session directory is too large, and when
/// `stop` has returned.
pub(super) async fn wait_exit(
    channel: UnixStream,
    timeout: Duration,
    size: &mut SizeWatch,
    quiet: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<Outcome, ExecError> {
    let (receiver, sender) = channel.into_split();
    let mut sender = Some(sender);
    let (mut quiet, mut timeout) = (pin!(quiet), pin!(tokio::time::sleep(timeout)));
    let mut stop = pin!(stop);
    let (mut is_lingering, mut timed_out, mut killed) = (false, false, Vec::new());
    let (mut outgrew, mut is_stopped) = (false, false);
    loop {
        let message = tokio::select! {
            biased;
            message = next_message(&receiver) => message,
            () = &mut quiet, if is_lingering && sender.is_some() => {
                sender = None;
                continue;
            }
            // If the shell has exited in time, the command is not late.
            () = &mut timeout, if sender.is_some() => {
                (sender, timed_out) = (None, !is_lingering);
                continue;
            }
            () = size.exceeded(), if sender.is_some() => {
                (sender, outgrew) = (None, true);
                continue;
            }
            () = &mut stop, if sender.is_some() => {
                (sender, is_stopped) = (None, true);
                continue;
            }
        };
        match message {
            Ok(Message::Report(report)) => {
                return Ok(Outcome { report, timed_out, outgrew, killed });
            }
            Ok(Message::Lingers) => is_lingering = true,
            Ok(Message::Killed(names)) => killed = names,
            Ok(Message::Stopped(_)) => {}
            // A worker that had not started the command yet exits without a report. Then no process
            // of the command is alive either.
            Err(_) if timed_out || outgrew || is_stopped => {
                let report = Report::killed(wire::LIMIT_NONE);
                return Ok(Outcome { report, timed_out, outgrew, killed });
            }
            Err(error) => return Err(error),
        }
    }
}

/// A message of a worker on a command's channel.
pub(super) enum Message {
    /// The end of the command.
    Report(Report),
    /// The shell was stopped by this signal.
    Stopped(u32),
    /// The shell has exited, and other processes of the command are alive.
    Lingers,
    /// Those processes are killed. They have these names.
    Killed(Vec<String>),
}

/// Waits for the next message.
///
/// # Cancel safety
/// No message is lost.
pub(super) async fn next_message(channel: &OwnedReadHalf) -> Result<Message, ExecError> {
    let failed = |source| ExecError::Host { operation: "wait for the exit report", source };
    let mut message = [0; wire::REPORT_BYTES];
    loop {
        channel.readable().await.map_err(failed)?;
        // The worker sends each message in one call, and the kernel does not divide it.
        match channel.try_read(&mut message) {
            Ok(wire::REPORT_BYTES) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return Err(worker_ended()),
        }
    }
    let report = Report::of(&message);
    Ok(match report.kind {
        wire::RESULT_STOPPED => Message::Stopped(report.value),
        wire::RESULT_LINGERS => Message::Lingers,
        wire::RESULT_KILLED => {
            let mut names = vec![0; (report.value as usize).min(wire::MAX_NAMES_BYTES)];
            // They have arrived together with the report.
            let read = channel.try_read(&mut names).unwrap_or(0);
            let names = names[..read].split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Message::Killed(names.map(|name| String::from_utf8_lossy(name).into()).collect())
        }
        _ => Message::Report(report),
    })
}

fn worker_ended() -> ExecError {
    ExecError::Ended { reason: "the command's supervising process was killed" }
}
