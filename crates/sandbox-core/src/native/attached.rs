//! A command on streams of the caller's own, such as a terminal, with signals.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::net::SendFlags;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::exec::{self, End};
use super::{Inner, NativeSandbox, refresh, wire};
use crate::sandbox::{CommandSpec, CommandStatus, ExecError, Quarantined};

impl NativeSandbox {
    /// Starts a command on the caller's own standard input, output and error. Of `spec` the
    /// command, the directory and the environment count; there is no timeout, and nothing is
    /// captured.
    ///
    /// The command has no controlling terminal, also where a stream is one: signals reach it by
    /// [`AttachedCommand::signal`].
    ///
    /// # Errors
    /// [`ExecError`] when the command could not be handed over.
    pub async fn start(
        &self,
        spec: &CommandSpec,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<AttachedCommand, ExecError> {
        let began = SystemTime::now();
        self.inner.unchecked.begin(began);
        let body = exec::encode(&self.inner, spec, wire::COMMAND_NOW)?;
        let host = |operation| move |source| ExecError::Host { operation, source };
        let (channel, end) = UnixStream::pair().map_err(host("make a socket"))?;
        let [stdin, stdout, stderr] = streams;
        exec::send(&self.inner, &body, [stdin, stdout, stderr, end.as_fd()]).await?;
        let (report, signals) = channel.into_split();
        let cwd = spec.cwd.clone().unwrap_or_else(|| self.inner.session_dir.clone());
        Ok(AttachedCommand { report, signals, cwd, began, sandbox: Arc::clone(&self.inner) })
    }
}

/// A command that is running on the caller's own streams. Dropping it kills the command and all
/// that it started.
#[derive(Debug)]
pub struct AttachedCommand {
    report: OwnedReadHalf,
    signals: OwnedWriteHalf,
    cwd: PathBuf,
    began: SystemTime,
    sandbox: Arc<Inner>,
}

impl AttachedCommand {
    /// Sends a signal, by its number, to the command's process group, as a terminal would. One that
    /// comes after the end is lost.
    pub fn signal(&self, number: i32) {
        // A host that does not ignore SIGPIPE must not die of a command that has ended.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(self.signals.as_ref(), &number.to_le_bytes(), flags);
    }

    /// Waits for the end. When this returns, no process of the command is alive.
    ///
    /// # Errors
    /// [`ExecError`] when the command could not be started, or the engine broke down under it.
    ///
    /// # Cancel safety
    /// It may be waited for again.
    pub async fn wait(&mut self) -> Result<CommandStatus, ExecError> {
        self.report
            .readable()
            .await
            .map_err(|source| ExecError::Host { operation: "hear", source })?;
        let report = exec::hear_report(&mut self.report).await?;
        refresh::after_command(&self.sandbox, report.arrivals).await;
        exec::status(&End { report, timed_out: false }, &self.sandbox.shell, &self.cwd)
    }

    /// After the end: takes away what the command has made where the policy allows nothing to be
    /// made.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        self.sandbox
            .unchecked
            .quarantine(&self.sandbox.mounts().creation_rules.denied_paths, self.began)
    }
}
