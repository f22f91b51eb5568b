//! One command: its request, its result, and its errors.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Limit;
use crate::transient::is_transient;

/// `SIGXCPU` and `SIGXFSZ` (`signal(7)`).
const CPU_TIME_SIGNAL: i32 = 24;
const FILE_SIZE_SIGNAL: i32 = 25;

/// A command for `bash -c`.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CommandSpec {
    /// The script, without NUL. Script and environment together have at most a quarter of the
    /// stack limit: 2 MiB by default (`execve(2)`).
    pub command: String,
    /// The working directory; by default the session directory.
    pub cwd: Option<PathBuf>,
    /// The whole environment. The command inherits no variable.
    pub env: Vec<(OsString, OsString)>,
    /// The standard input. If empty, the command reads `/dev/null`.
    pub stdin: Vec<u8>,
    /// Maximum duration; 120 s by default.
    pub timeout: Duration,
    /// Time without output for which processes may outlive the shell; 250 ms by default.
    ///
    /// They are killed when it has passed, and at once if no process of the command has an output
    /// stream open, after the timeout, or if a signal or a limit ended the shell. A command on
    /// streams of the caller gets this time as a whole.
    pub linger: Duration,
    /// Maximum number of bytes kept of each output stream; 32 MiB by default. The engine reads,
    /// counts and drops the rest.
    pub max_output_bytes: usize,
}

impl CommandSpec {
    /// Creates a command with an empty environment, no input, and the default limits.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            env: Vec::new(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(120),
            linger: Duration::from_millis(250),
            max_output_bytes: 32 << 20,
        }
    }
}

/// Shows the command and the names of the variables. Values may be secret.
impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSpec")
            .field("command", &self.command)
            .field("cwd", &self.cwd)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("stdin_bytes", &self.stdin.len())
            .field("timeout", &self.timeout)
            .field("linger", &self.linger)
            .field("max_output_bytes", &self.max_output_bytes)
            .finish()
    }
}

/// The result of a command that has exited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// Standard output.
    pub stdout: CapturedStream,
    /// Standard error.
    pub stderr: CapturedStream,
    /// The exit status.
    pub status: CommandStatus,
    /// Files that the command created although the policy denies their paths.
    pub quarantined: Vec<Quarantined>,
    /// The reason for which the sandbox ended after the command, if it did.
    pub sandbox_ended: Option<&'static str>,
    /// Names of the processes that outlived the shell and were killed: the children that it and
    /// its programs left behind.
    pub killed: Vec<String>,
    /// The limit that the kernel reports for the command as a whole, or the size of the session
    /// directory.
    /// [`CommandOutput::limit_reached`] also derives limits from the status and the output.
    pub limit: Option<Limit>,
    /// Number of connections that had no route, and of connections to name servers, of all
    /// commands that ran at the time of this one. In a sandbox without a network, none of them
    /// reached its destination. 0 for an engine that does not count them.
    pub unroutable: u32,
    /// Time from the request to the last byte of output.
    pub elapsed: Duration,
}

/// A file that a command created although the policy denies its path. It was quarantined after the
/// command had exited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// The denied path.
    pub path: PathBuf,
    /// The new path, in the same directory, if the file was renamed.
    pub moved_to: Option<PathBuf>,
    /// The measure that was taken.
    pub outcome: QuarantineOutcome,
    /// The reason, if the content of the file is refused and not its path.
    pub reason: Option<String>,
}

/// Measure against a file at a denied path. Each except [`QuarantineOutcome::Moved`] also ends the
/// sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuarantineOutcome {
    /// The file was renamed, and has its content.
    Moved,
    /// The file could not be renamed, and was deleted.
    Deleted,
    /// The file could not be deleted either. Its content was deleted.
    Emptied,
    /// The file could not be changed, and is still there.
    Remains,
    /// The path could not be checked. A file may be there.
    Unknown,
}

/// The outcome for a person, about the file.
impl fmt::Display for QuarantineOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moved => "it was renamed",
            Self::Deleted => "it was deleted",
            Self::Emptied => "its content was deleted",
            Self::Remains => "it could not be removed",
            Self::Unknown => "the host could not check it",
        })
    }
}

/// One line for a person.
impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Some(reason) => write!(f, "{path} {reason}; ")?,
            None => write!(f, "{path} was created although the policy denies it; ")?,
        }
        match &self.moved_to {
            Some(moved_to) => write!(f, "it is {} now", moved_to.display()),
            None => self.outcome.fmt(f),
        }
    }
}

/// The beginning of an output stream, and the size of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedStream {
    /// The first bytes of the stream, up to the requested limit.
    pub bytes: Vec<u8>,
    /// Number of bytes after them.
    pub dropped_bytes: u64,
}

/// The exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandStatus {
    /// The shell exited with this code.
    Exited(i32),
    /// This signal killed the shell.
    Signaled(i32),
    /// The command exceeded its timeout, and all its processes were killed.
    TimedOut,
}

impl Quarantined {
    /// Creates the report about a path, for engines and fakes outside this crate.
    pub fn new(path: impl Into<PathBuf>, outcome: QuarantineOutcome) -> Self {
        Self { path: path.into(), moved_to: None, outcome, reason: None }
    }
}

impl CapturedStream {
    /// Creates a stream that was captured as a whole.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), dropped_bytes: 0 }
    }
}

impl CommandOutput {
    /// Creates a result without output, for engines and fakes outside this crate. The fields are
    /// public.
    pub fn new(status: CommandStatus) -> Self {
        Self {
            stdout: CapturedStream::default(),
            stderr: CapturedStream::default(),
            status,
            quarantined: Vec::new(),
            sandbox_ended: None,
            killed: Vec::new(),
            limit: None,
            unroutable: 0,
            elapsed: Duration::ZERO,
        }
    }

    /// Returns the exit code in a shell's convention. It is 125 if the command succeeded, but
    /// created a file at a denied path, or ended the sandbox.
    pub fn exit_code(&self) -> i32 {
        exit_code(self.status, &self.quarantined, self.sandbox_ended)
    }

    /// Returns the limit that the command reached, from the kernel's report, the status and the
    /// output.
    ///
    /// A program whose request for memory or an open file fails receives an error from the kernel.
    /// It handles the error itself, so no limit is returned for it.
    pub fn limit_reached(&self) -> Option<Limit> {
        let is_cut = self.stdout.dropped_bytes + self.stderr.dropped_bytes > 0;
        limit_reached(self.limit, self.status).or(is_cut.then_some(Limit::Output))
    }
}

/// Returns the limit that a command reached, from the kernel's report and its status.
pub(crate) fn limit_reached(reported: Option<Limit>, status: CommandStatus) -> Option<Limit> {
    // The kernel's report is more specific than a timeout, which the status shows anyway.
    if reported.is_some() {
        return reported;
    }
    // A shell returns 128 plus the signal's number for a killed program.
    let signal = match status {
        CommandStatus::TimedOut => return Some(Limit::WallTime),
        CommandStatus::Signaled(signal) => signal,
        CommandStatus::Exited(code) => code - 128,
    };
    match signal {
        CPU_TIME_SIGNAL => Some(Limit::CpuTime),
        FILE_SIZE_SIGNAL => Some(Limit::FileSize),
        _ => None,
    }
}

impl CommandStatus {
    /// Returns the exit code in a shell's convention: the code, 128 + the signal, or 124 for a
    /// timeout.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::TimedOut => 124,
        }
    }
}

/// Exit code of a command that succeeded and was not allowed to.
pub(crate) const REFUSED: i32 = 125;

/// Returns the exit code of a command in a shell's convention.
pub(crate) fn exit_code(
    status: CommandStatus,
    quarantined: &[Quarantined],
    sandbox_ended: Option<&'static str>,
) -> i32 {
    match status.code() {
        0 if !quarantined.is_empty() || sandbox_ended.is_some() => REFUSED,
        code => code,
    }
}

/// Errors returned when a command cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The command, a variable or the working directory contains a NUL, which no argument can
    /// contain.
    #[error("the {what} contains a NUL character")]
    Nul {
        /// `command`, `working directory` or `environment`.
        what: &'static str,
    },
    /// The request is larger than the kernel allows.
    #[error("the {what} has {size} bytes; the kernel allows {limit}")]
    TooLarge {
        /// `variable NAME` or `working directory`.
        what: String,
        /// The size in bytes.
        size: usize,
        /// The kernel's limit in bytes.
        limit: usize,
    },
    /// The sandboxed command cannot enter the working directory.
    #[error("cannot enter the working directory {}", path.display())]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The shell cannot be started inside the sandbox.
    #[error("cannot start the shell {}", path.display())]
    Shell {
        /// The shell.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A standard stream is a directory, through whose parents a command would reach every file, or
    /// a socket without a connection, through which it would reach other programs.
    #[error("{which} is {what}, which a command cannot have as a stream")]
    Stream {
        /// `standard input`, `standard output` or `standard error`.
        which: &'static str,
        /// Its kind, such as `a directory`.
        what: &'static str,
    },
    /// The session's processes have exited. The session can be opened again.
    #[error("the sandbox of the session has ended: {reason}")]
    Ended {
        /// The cause, as far as it is known.
        reason: &'static str,
    },
    /// An operation on the host failed, for example because descriptors ran out.
    #[error("cannot {operation} for the command")]
    Host {
        /// The failed operation.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Kinds of [`ExecError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecErrorKind {
    /// The request never works in this form.
    BadRequest,
    /// The session must be opened again.
    Ended,
    /// The host or the sandbox could not start the command.
    Host,
}

impl ExecError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ExecErrorKind {
        match self {
            Self::Nul { .. }
            | Self::TooLarge { .. }
            | Self::WorkingDirectory { .. }
            | Self::Stream { .. } => ExecErrorKind::BadRequest,
            Self::Ended { .. } => ExecErrorKind::Ended,
            Self::Shell { .. } | Self::Host { .. } => ExecErrorKind::Host,
        }
    }

    /// Returns whether the same command may run later in the same session.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Shell { source, .. } | Self::Host { source, .. } => is_transient(source),
            _ => false,
        }
    }
}
