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
use super::refresh::Mounts;
use super::request::{self, CommandText};
use crate::sandbox::{CommandSpec, CommandStatus, ExecError, Quarantined};

/// A command that runs on the caller's standard streams. Dropping it kills the command and every
/// process that it started.
#[derive(Debug)]
pub struct AttachedCommand {
    report: OwnedReadHalf,
    signals: OwnedWriteHalf,
    cwd: PathBuf,
    began: SystemTime,
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
    let [stdin, stdout, stderr] = streams;
    connection.send(&body, [stdin, stdout, stderr, end.as_fd()]).await?;
    let (report, signals) = channel.into_split();
    let (connection, mounts) = (Arc::clone(connection), Arc::clone(mounts));
    let cwd = connection.working_dir(spec).to_owned();
    Ok(AttachedCommand { report, signals, cwd, began, connection, mounts })
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

    /// Waits until every process of the command has exited.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command could not be started, or if the session ended under it.
    ///
    /// # Cancel safety
    /// After the future is dropped, `wait` can be called again.
    pub async fn wait(&mut self) -> Result<CommandStatus, ExecError> {
        self.report
            .readable()
            .await
            .map_err(|source| ExecError::Host { operation: "wait for the exit report", source })?;
        let report = read_report(&mut self.report).await?;
        self.mounts.after_command(report.watched_creations).await;
        Outcome { report, timed_out: false }.status(self.connection.shell(), &self.cwd)
    }

    /// Quarantines the paths that the command created although the policy denies it. Call it after
    /// [`AttachedCommand::wait`].
    pub fn quarantine(&self) -> Vec<Quarantined> {
        self.mounts.quarantine(self.began)
    }
}
