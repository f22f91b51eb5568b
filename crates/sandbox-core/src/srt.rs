//! The engine that runs the program `srt` of Anthropic's sandbox-runtime, one process per command.
//!
//! It is the reference for the native engine. It also enforces settings that the native engine does
//! not support, such as allowed domains. A command takes about 300 ms and eight processes.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use policy::Policy;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::sandbox::streams::{capture, feed};
use crate::sandbox::{
    CaptureReport, CommandOutput, CommandSpec, CommandStatus, Enforcement, EngineReport, ExecError,
    Sandbox,
};
use crate::transient::is_transient;

/// Maximum time for srt to clean up after a command that timed out.
const GRACE: Duration = Duration::from_secs(2);
/// Maximum duration of the trial command at open.
const TRIAL: Duration = Duration::from_secs(20);

/// A sandbox of one session whose commands run under `srt`.
#[derive(Debug)]
pub struct SrtSandbox {
    /// The program that starts srt, with its first arguments.
    program: Vec<OsString>,
    settings: PathBuf,
    session_dir: PathBuf,
    report: EngineReport,
    sockets: SocketDir,
    closed: watch::Sender<bool>,
}

/// The directory for srt's sockets. srt names them by its process id, never removes them, and fails
/// if one exists already.
#[derive(Debug)]
struct SocketDir {
    path: PathBuf,
}

impl SocketDir {
    fn new() -> Result<Self, SrtError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The path is short because a socket's path has at most 107 bytes (`unix(7)`).
        let path = std::env::temp_dir().join(format!("srt-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(SrtError::Settings { path, source }),
        }
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = crate::files::remove_tree(&self.path);
    }
}

impl SrtSandbox {
    /// Writes the policy to the settings file of later commands, and runs a trial command.
    ///
    /// `program` starts srt: `["srt"]`, or `["node", ".../dist/cli.js"]`. Commands must not be able
    /// to write to the settings file. `PATH` in a command's environment must contain node, bwrap,
    /// socat and rg. A command without `PATH` gets the host's.
    ///
    /// # Errors
    /// Returns [`SrtError`] if the file cannot be written, or if srt does not run the trial
    /// command.
    pub async fn open(
        policy: &Policy,
        session_dir: &Path,
        program: Vec<OsString>,
        settings: &Path,
    ) -> Result<Self, SrtError> {
        let write = || {
            if !policy.has_exact_json() {
                let problem = "a path of the policy is not UTF-8, so settings cannot hold it";
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, problem));
            }
            std::fs::write(settings, policy.absolute_config().to_json())
        };
        write().map_err(|source| SrtError::Settings { path: settings.to_owned(), source })?;
        let sandbox = Self {
            program,
            settings: settings.to_owned(),
            session_dir: session_dir.to_owned(),
            report: report(),
            sockets: SocketDir::new()?,
            closed: watch::Sender::new(false),
        };
        let mut trial = CommandSpec::new("true");
        trial.timeout = TRIAL;
        let ran = sandbox.exec(trial).await.map_err(|source| SrtError::Start { source })?;
        if ran.status != CommandStatus::Exited(0) {
            let message = String::from_utf8_lossy(&ran.stderr.bytes).trim().to_owned();
            return Err(SrtError::TrialFailed { status: ran.status.code(), message });
        }
        Ok(sandbox)
    }

    fn command(&self, spec: &CommandSpec) -> Command {
        let (program, first) = self
            .program
            .split_first()
            .map_or((OsString::from("srt"), &[][..]), |(a, b)| (a.clone(), b));
        let mut command = Command::new(program);
        command.args(first).arg("--settings").arg(&self.settings).arg("-c").arg(&spec.command);
        command.current_dir(spec.cwd.as_deref().unwrap_or(&self.session_dir));
        command
            .env_clear()
            .env("TMPDIR", &self.sockets.path)
            .envs(spec.env.iter().map(|(name, value)| (name, value)));
        if !spec.env.iter().any(|(name, _)| name == "PATH") {
            command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command.stdin(if spec.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }
}

#[async_trait]
impl Sandbox for SrtSandbox {
    async fn exec(&self, spec: CommandSpec) -> Result<CommandOutput, ExecError> {
        let started = Instant::now();
        let host = |operation| move |source: io::Error| ExecError::Host { operation, source };
        if spec.command.contains('\0') {
            return Err(ExecError::Nul { what: "command" });
        }
        let ended = || ExecError::Ended { reason: "it was closed" };
        let mut closed = self.closed.subscribe();
        if *closed.borrow() {
            return Err(ended());
        }
        let mut group = Group::start(self.command(&spec)).map_err(host("start srt"))?;
        let child = &mut group.child;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let no_pipe = || ExecError::Host {
            operation: "use a pipe",
            source: io::ErrorKind::BrokenPipe.into(),
        };
        let (stdout, stderr) = (stdout.ok_or_else(no_pipe)?, stderr.ok_or_else(no_pipe)?);
        let run = async {
            tokio::join!(
                group.end(spec.timeout),
                capture(stdout, spec.max_output_bytes),
                capture(stderr, spec.max_output_bytes),
                feed(stdin, &spec.stdin),
            )
        };
        // An early return drops the group, which kills its processes.
        let (status, stdout, stderr, ()) = tokio::select! {
            ran = run => ran,
            _ = closed.wait_for(|closed| *closed) => return Err(ended()),
        };
        let read = host("read the output");
        Ok(CommandOutput {
            status: status.map_err(host("wait for srt"))?,
            stdout: stdout.map_err(read)?,
            stderr: stderr.map_err(read)?,
            quarantined: Vec::new(),
            sandbox_ended: None,
            killed: Vec::new(),
            limit: None,
            unroutable: 0,
            elapsed: started.elapsed(),
        })
    }

    fn report(&self) -> &EngineReport {
        &self.report
    }

    async fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// The process group of srt. Dropping it kills the group.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn start(mut command: Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id })
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }

    /// Waits until srt exits. After the timeout, first lets srt clean up. Then kills the group.
    async fn end(&mut self, timeout: Duration) -> io::Result<CommandStatus> {
        use std::os::unix::process::ExitStatusExt;
        let in_time = tokio::time::timeout(timeout, self.child.wait()).await;
        let status = match in_time {
            Ok(status) => {
                let status = status?;
                status.signal().map_or(
                    CommandStatus::Exited(status.code().unwrap_or(1)),
                    CommandStatus::Signaled,
                )
            }
            Err(_) => {
                self.signal(Signal::TERM);
                let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
                CommandStatus::TimedOut
            }
        };
        self.signal(Signal::KILL);
        self.id = None;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn report() -> EngineReport {
    let weaker = |why: &str| Enforcement::Weaker { why: why.to_owned() };
    EngineReport {
        engine: "srt",
        filesystem: weaker(
            "patterns for writing are dropped, and files that appear later are not covered",
        ),
        network: Enforcement::Full,
        capture: CaptureReport::none("this engine opens sessions without a network"),
        processes: weaker("shared memory and message queues of the host are visible"),
        system_calls: weaker("only Unix sockets and io_uring are denied"),
        resources: weaker("only wall time and output are limited"),
    }
}

/// Errors returned by [`SrtSandbox::open`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SrtError {
    /// The settings file, or the directory for srt's sockets, cannot be created.
    #[error("cannot write to {}", path.display())]
    Settings {
        /// The file or the directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// srt cannot be started.
    #[error("cannot run srt; install it with `npm install -g @anthropic-ai/sandbox-runtime`")]
    Start {
        /// The cause.
        source: ExecError,
    },
    /// srt did not run the trial command under these settings.
    #[error("srt ended with {status} instead of running a command: {message}")]
    TrialFailed {
        /// Its exit code.
        status: i32,
        /// The text that srt wrote to standard error.
        message: String,
    },
}

/// Kinds of [`SrtError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SrtErrorKind {
    /// A file or directory of the host cannot be written.
    Settings,
    /// srt is not installed, or cannot be started.
    Unavailable,
    /// srt rejected the settings, or lacks one of its programs.
    TrialFailed,
}

impl SrtError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> SrtErrorKind {
        match self {
            Self::Settings { .. } => SrtErrorKind::Settings,
            Self::Start { .. } => SrtErrorKind::Unavailable,
            Self::TrialFailed { .. } => SrtErrorKind::TrialFailed,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Settings { source, .. } => is_transient(source),
            Self::Start { source } => source.is_retryable(),
            Self::TrialFailed { .. } => false,
        }
    }
}
