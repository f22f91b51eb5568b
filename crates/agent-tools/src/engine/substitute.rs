//! An engine of the embedder as a session uses it. The engine only runs commands; the policy
//! answers for paths.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use policy::{Access, CreationRules, Policy, Unenforced, Verdict};
use sandbox_core::internal::blocking;
use sandbox_core::{
    AttachedEvent, AttachedOutcome, CommandOutput, CommandSpec, CommandStatus, EngineReport,
    ExecError, NetworkError, NetworkListeners, OpenError, Overlay, PseudoTerminal, Quarantined,
    Sandbox, SessionDir, TerminalSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Engine, RunningCommand, Watch, WrappedObserver};
use crate::session::Stop;

/// The directory for temporary files of commands, and their shell.
const TEMPORARY_DIR: &str = "/tmp";
const SHELL: &str = "/bin/bash";
/// The signals that end a command by default, from `SIGHUP` to `SIGTERM` (`signal(7)`).
const FATAL_SIGNALS: [i32; 5] = [1, 2, 3, KILL, 15];
const KILL: i32 = 9;

#[derive(Debug)]
pub(super) struct Substitute {
    sandbox: Arc<dyn Sandbox>,
    policy: Policy,
    /// The reason for which the sandbox has ended.
    ended: watch::Sender<Option<&'static str>>,
}

impl Substitute {
    pub(super) fn new(sandbox: Arc<dyn Sandbox>, policy: Policy) -> Self {
        Self { sandbox, policy, ended: watch::Sender::default() }
    }
}

/// Waits for the end of the sandbox, and returns its reason.
async fn end(mut ended: watch::Receiver<Option<&'static str>>) -> ExecError {
    let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
    ExecError::Ended { reason: reason.unwrap_or("the session was dropped") }
}

/// Returns the error of an operation that only the native engine has.
fn unsupported(operation: &'static str) -> ExecError {
    ExecError::Host { operation, source: io::ErrorKind::Unsupported.into() }
}

#[async_trait]
impl Engine for Substitute {
    fn report(&self) -> &EngineReport {
        self.sandbox.report()
    }

    async fn exec(
        &self,
        command: CommandSpec,
        stop: Stop,
        watch: &Watch<'_>,
    ) -> Result<CommandOutput, ExecError> {
        tokio::select! {
            biased;
            error = end(self.ended.subscribe()) => Err(error),
            ran = self.sandbox.exec(command) => {
                let ran = ran?;
                watch(&ran.stdout.bytes);
                watch(&ran.stderr.bytes);
                Ok(ran)
            }
            () = stop.requested() => Ok(CommandOutput::new(CommandStatus::Signaled(KILL))),
        }
    }

    async fn start(
        &self,
        command: &CommandSpec,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<Box<dyn RunningCommand>, ExecError> {
        let copied = |stream: BorrowedFd<'_>| stream.try_clone_to_owned();
        let [stdin, stdout, stderr] = streams.map(copied);
        let failed = |source| ExecError::Host { operation: "prepare the streams", source };
        let (stdin, stdout, stderr) =
            (stdin.map_err(failed)?, stdout.map_err(failed)?, stderr.map_err(failed)?);
        let (sandbox, mut command) = (Arc::clone(&self.sandbox), command.clone());
        let ended = end(self.ended.subscribe());
        let running = async move {
            command.stdin = read_all(stdin).await.map_err(failed)?;
            let output = sandbox.exec(command).await?;
            let mut outcome = AttachedOutcome::new(output.status);
            (outcome.killed, outcome.limit) = (output.killed, output.limit);
            outcome.quarantined = output.quarantined;
            outcome.sandbox_ended = output.sandbox_ended;
            // The reader may have closed its end.
            let _ = write_all(stdout, output.stdout.bytes).await;
            let _ = write_all(stderr, output.stderr.bytes).await;
            Ok(outcome)
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                error = ended => Err(error),
                outcome = running => outcome,
            }
        });
        Ok(Box::new(Simulated { task, signal: None }))
    }

    async fn start_in_terminal(
        &self,
        _: &CommandSpec,
        _: TerminalSize,
    ) -> Result<(Box<dyn RunningCommand>, PseudoTerminal), ExecError> {
        Err(unsupported("open a terminal"))
    }

    fn wrap_command(&self, _: &CommandSpec) -> Result<String, ExecError> {
        Err(unsupported("write a shell line"))
    }

    fn observe_wrapped_commands(&self, _: WrappedObserver) {}

    fn runs_wrapped_commands(&self) -> bool {
        false
    }

    async fn check_running(&self) -> Vec<Quarantined> {
        Vec::new()
    }

    fn kill(&self, reason: &'static str) {
        self.ended.send_replace(Some(reason));
    }

    async fn close(&self) {
        self.kill("the session was closed");
        self.sandbox.close().await;
    }

    fn allows(&self, path: &Path, access: Access) -> bool {
        self.explain(path, access).allowed
    }

    fn explain(&self, path: &Path, access: Access) -> Verdict {
        self.policy.explain(path, access)
    }

    fn restricted_below(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn protected_inside(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn creation_rules(&self) -> Option<CreationRules> {
        None
    }

    fn affects_policy(&self, _: &Path) -> bool {
        false
    }

    fn unenforced(&self) -> Vec<Unenforced> {
        Vec::new()
    }

    fn refresh(&self) -> Result<(), OpenError> {
        Ok(())
    }

    async fn reserve(&self, _: u64, _: u64) -> bool {
        true
    }

    fn temporary_dir(&self) -> &Path {
        Path::new(TEMPORARY_DIR)
    }

    fn own_tmp(&self) -> Option<&SessionDir> {
        None
    }

    fn shell(&self) -> &Path {
        Path::new(SHELL)
    }

    fn overlays(&self) -> &[Overlay] {
        &[]
    }

    async fn open_network(&self, _: &[u16]) -> Result<NetworkListeners, NetworkError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(NetworkError::Host { operation: "open listeners", source })
    }

    async fn dial(&self, _: u16) -> Result<TcpStream, NetworkError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(NetworkError::Host { operation: "connect to a port", source })
    }
}

/// A command that the engine runs as a whole, between the end of its input and its output.
struct Simulated {
    task: JoinHandle<Result<AttachedOutcome, ExecError>>,
    /// The signal that has ended the command.
    signal: Option<i32>,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl RunningCommand for Simulated {
    fn signal(&mut self, number: i32) {
        if FATAL_SIGNALS.contains(&number) {
            self.signal = self.signal.or(Some(number));
            self.task.abort();
        }
    }

    fn kill(&mut self) {
        self.signal(KILL);
    }

    fn extend_linger(&mut self) {}

    async fn next_event(&mut self) -> Result<AttachedEvent, ExecError> {
        let outcome = match ((&mut self.task).await, self.signal) {
            (Ok(outcome), _) => outcome?,
            (Err(_), Some(signal)) => AttachedOutcome::new(CommandStatus::Signaled(signal)),
            (Err(error), None) => {
                let source = io::Error::other(error);
                return Err(ExecError::Host { operation: "run the engine", source });
            }
        };
        Ok(AttachedEvent::Ended(outcome))
    }
}

/// Reads a stream to its end. An aborted read of a pipe leaves no thread behind.
async fn read_all(stream: OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match pipe::Receiver::from_owned_fd(stream.try_clone()?) {
        Ok(mut pipe) => {
            pipe.read_to_end(&mut bytes).await?;
            Ok(bytes)
        }
        Err(_) => blocking(move || File::from(stream).read_to_end(&mut bytes).map(|_| bytes)).await,
    }
}

/// Writes to a stream, like [`read_all`].
async fn write_all(stream: OwnedFd, bytes: Vec<u8>) -> io::Result<()> {
    match pipe::Sender::from_owned_fd(stream.try_clone()?) {
        Ok(mut pipe) => pipe.write_all(&bytes).await,
        Err(_) => blocking(move || File::from(stream).write_all(&bytes)).await,
    }
}
