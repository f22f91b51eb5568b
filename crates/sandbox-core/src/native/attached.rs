//! A command on the caller's standard streams, such as a terminal, with signals.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::net::SendFlags;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::connection::Connection;
use super::outcome::{Outcome, read_report};
use super::refresh::{Mounts, Settled};
use super::request::{self, CommandText};
use super::stdio::{Pumps, Stdio};
use crate::internal::blocking;
use crate::sandbox::{CommandSpec, CommandStatus, ExecError, Quarantined, exit_code};

/// A command that runs on the caller's standard streams. Dropping it kills the command and every
/// process that it started.
#[derive(Debug)]
pub struct AttachedCommand {
    report: OwnedReadHalf,
    signals: OwnedWriteHalf,
    cwd: PathBuf,
    began: SystemTime,
    /// The status and the count of watched creations, once they have been reported.
    reported: Option<(CommandStatus, u32)>,
    pumps: Pumps,
    connection: Arc<Connection>,
    mounts: Arc<Mounts>,
}

/// Sends the request for a command on these streams.
pub(super) async fn start(
    connection: &Arc<Connection>,
    mounts: &Arc<Mounts>,
    spec: &CommandSpec,
    streams: [BorrowedFd<'_>; 3],
) -> Result<AttachedCommand, ExecError> {
    let began = SystemTime::now();
    mounts.expect_unreported(began);
    let body = request::encode(connection, spec, CommandText::Included)?;
    let (channel, end) = UnixStream::pair()
        .map_err(|source| ExecError::Host { operation: "create a socket", source })?;
    let Stdio { streams, pumps } = Stdio::of(streams, &mounts.plan())?;
    let [stdin, stdout, stderr] = streams.each_ref().map(AsFd::as_fd);
    connection.send(&body, [stdin, stdout, stderr, end.as_fd()]).await?;
    let (report, signals) = channel.into_split();
    let (connection, mounts) = (Arc::clone(connection), Arc::clone(mounts));
    let cwd = connection.working_dir(spec).to_owned();
    Ok(AttachedCommand { report, signals, cwd, began, reported: None, pumps, connection, mounts })
}

impl AttachedCommand {
    /// Sends a signal, by its number, to the command's process group, like a terminal does. A
    /// signal that arrives after the command has exited is lost.
    pub fn signal(&self, number: i32) {
        // Without the flag, a command that has exited would kill a host that does not ignore
        // SIGPIPE.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(self.signals.as_ref(), &number.to_le_bytes(), flags);
    }

    /// Waits until every process of the command has exited, and quarantines the files that it
    /// created although the policy denies it.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command could not be started, or if the session ended under it.
    ///
    /// # Cancel safety
    /// After the future is dropped, `wait` can be called again.
    pub async fn wait(&mut self) -> Result<AttachedOutcome, ExecError> {
        let (status, watched_creations) = match self.reported {
            Some(reported) => reported,
            None => {
                self.report.readable().await.map_err(|source| ExecError::Host {
                    operation: "wait for the exit report",
                    source,
                })?;
                let report = read_report(&mut self.report).await?;
                let watched_creations = report.watched_creations;
                let outcome = Outcome { report, timed_out: false };
                let status = outcome.status(self.connection.shell(), &self.cwd)?;
                *self.reported.insert((status, watched_creations))
            }
        };
        let pumps = std::mem::take(&mut self.pumps);
        if !pumps.are_none() {
            blocking(move || pumps.finish()).await;
        }
        let Settled { quarantined, sandbox_ended } =
            self.mounts.settle(self.began, watched_creations).await;
        Ok(AttachedOutcome { status, quarantined, sandbox_ended })
    }
}

/// The result of an [`AttachedCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachedOutcome {
    /// The exit status.
    pub status: CommandStatus,
    /// Files that the command created although the policy denies their paths.
    pub quarantined: Vec<Quarantined>,
    /// The reason for which the sandbox ended after the command, if it did.
    pub sandbox_ended: Option<&'static str>,
}

impl AttachedOutcome {
    /// Returns the exit code, like
    /// [`CommandOutput::exit_code`](crate::CommandOutput::exit_code).
    pub fn exit_code(&self) -> i32 {
        exit_code(self.status, &self.quarantined, self.sandbox_ended)
    }
}
