//! One command: what is asked, and what came of it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Limit;

/// A command for `bash -c`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandSpec {
    /// The script, at most 131,071 bytes (the kernel's limit for one argument), without NUL.
    pub command: String,
    /// Where it starts; the session directory when absent.
    pub cwd: Option<PathBuf>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// What the command reads on standard input; empty input is `/dev/null`.
    pub stdin: Vec<u8>,
    /// How long it may run; 120 s by default.
    pub timeout: Duration,
    /// How much of each stream is kept; 32 MiB by default. The rest is read, counted and dropped.
    pub max_output_bytes: usize,
}

impl CommandSpec {
    /// A command with an empty environment, no input, and the default limits.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            env: Vec::new(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(120),
            max_output_bytes: 32 << 20,
        }
    }
}

/// Names the command and the variables, but no value: values may be secret.
impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSpec")
            .field("command", &self.command)
            .field("cwd", &self.cwd)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("stdin_bytes", &self.stdin.len())
            .field("timeout", &self.timeout)
            .field("max_output_bytes", &self.max_output_bytes)
            .finish()
    }
}

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// Standard output.
    pub stdout: CapturedStream,
    /// Standard error.
    pub stderr: CapturedStream,
    /// How it ended.
    pub status: CommandStatus,
    /// What it had brought into being where the policy allows nothing, and what became of that.
    pub quarantined: Vec<Quarantined>,
    /// The limit of the command as a whole that the kernel has seen it run into.
    /// [`CommandOutput::limit_reached`] also tells those that show otherwise.
    pub limit: Option<Limit>,
    /// From the request to the last byte of output.
    pub elapsed: Duration,
}

/// Something that a command had brought into being where the policy allows nothing. It was taken
/// away when the command had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is now, in the same directory; absent when it could not be moved, and is still
    /// there.
    pub moved_to: Option<PathBuf>,
}

/// One output stream: its head, and how much was dropped after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedStream {
    /// The first bytes of the stream, at most the limit that was asked for.
    pub bytes: Vec<u8>,
    /// How many bytes came after them.
    pub dropped_bytes: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandStatus {
    /// The shell exited with this code.
    Exited(i32),
    /// The shell was killed by this signal.
    Signaled(i32),
    /// The time was up, and everything was killed.
    TimedOut,
}

impl CommandStatus {
    /// The code that a shell would give: the exit code, 128 + the signal, or 124 for a timeout.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::TimedOut => 124,
        }
    }
}

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The command, a variable or the working directory has a NUL, which no argument can hold.
    #[error("the {what} contains a NUL character")]
    Nul {
        /// `command`, `working directory` or `environment`.
        what: &'static str,
    },
    /// The request is larger than the kernel takes.
    #[error(
        "the {what} has {size} {unit}; the limit is {limit}; write long scripts to a file and run that"
    )]
    TooLarge {
        /// `command`, `variable NAME` or `environment`.
        what: String,
        /// How large it is.
        size: usize,
        /// `bytes` or `variables`.
        unit: &'static str,
        /// The limit, in the same unit.
        limit: usize,
    },
    /// The working directory cannot be entered by the sandboxed command.
    #[error("cannot enter the working directory {}", path.display())]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The shell cannot be started inside the sandbox.
    #[error("cannot start the shell {}", path.display())]
    Shell {
        /// The shell.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The session's processes are gone; open it again.
    #[error("the sandbox of the session has ended: {reason}")]
    Ended {
        /// What is known about it.
        reason: &'static str,
    },
    /// The host is out of something, such as descriptors.
    #[error("cannot {operation} for the command")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// The system's own error.
        source: io::Error,
    },
}

/// The kinds of [`ExecError`] that callers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecErrorKind {
    /// The request can never work as it stands.
    BadRequest,
    /// The session must be opened again.
    Ended,
    /// The machine refused; it may work later.
    Host,
}

impl ExecError {
    /// The kind, for callers that branch.
    pub fn kind(&self) -> ExecErrorKind {
        match self {
            Self::Nul { .. } | Self::TooLarge { .. } | Self::WorkingDirectory { .. } => {
                ExecErrorKind::BadRequest
            }
            Self::Ended { .. } => ExecErrorKind::Ended,
            Self::Shell { .. } | Self::Host { .. } => ExecErrorKind::Host,
        }
    }
}
