//! Processes of a session: commands with streams, signals and a lifetime of their own.

mod handle;
mod local;
mod pump;
mod reattach;
mod registry;
mod request;
mod streams;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sandbox_core::TerminalSize;
use serde::{Deserialize, Serialize};

pub(crate) use self::handle::{Order, Orders, Started, lost};
pub use self::handle::{Process, ProcessControl, ProcessInput, ProcessOutput};
pub use self::reattach::ProcessSummary;
pub(crate) use self::registry::Processes;
pub(crate) use self::request::{SpawnProcess, Streams, Variables};

/// The name of the call in errors.
pub(crate) const SPAWN: &str = "spawn";

/// A request to start a process in a session, with [`Session::spawn`](crate::Session::spawn).
///
/// ```
/// use agent_tools::{Lifetime, Spawn, TerminalSize};
///
/// let mut server = Spawn::program(["python3", "-m", "http.server"]);
/// server.lifetime = Lifetime::Session;
/// let mut shell = Spawn::command("exec bash");
/// shell.terminal = Some(TerminalSize { rows: 24, columns: 80 });
/// ```
#[non_exhaustive]
pub struct Spawn {
    /// The script for bash.
    pub command: String,
    /// The working directory, absolute or relative to the session directory; by default the session
    /// directory.
    pub cwd: Option<String>,
    /// Further variables, by name. They replace variables of the session.
    pub env: Vec<(String, String)>,
    /// The standard input; by default nothing. A terminal replaces it.
    pub stdin: InputFrom,
    /// The destination of standard output; by default a pipe. A terminal is a pipe too.
    pub stdout: OutputTo,
    /// The destination of standard error; by default a pipe. A terminal replaces it.
    pub stderr: OutputTo,
    /// The size of the terminal, for a process with one.
    pub terminal: Option<TerminalSize>,
    /// The lifetime of a process that does not exit by itself; by default that of the call.
    pub lifetime: Lifetime,
    /// The maximum duration; by default the process has no limit.
    pub timeout: Option<Duration>,
    /// The time for which processes may outlive the shell; by default that of the session (250 ms).
    /// Output that goes through this process extends it.
    pub linger: Option<Duration>,
}

impl Spawn {
    /// Creates the request for a script of bash.
    pub fn command(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            env: Vec::new(),
            stdin: InputFrom::Nothing,
            stdout: OutputTo::Pipe,
            stderr: OutputTo::Pipe,
            terminal: None,
            lifetime: Lifetime::Call,
            timeout: None,
            linger: None,
        }
    }

    /// Creates the request for a program with arguments, which no shell expands.
    pub fn program<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let quoted = |argument: A| format!(" '{}'", argument.as_ref().replace('\'', r"'\''"));
        let arguments: String = arguments.into_iter().map(quoted).collect();
        Self::command(format!("exec --{arguments}"))
    }
}

/// Shows the names of the variables, and no value.
impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("command", &self.command)
            .field("cwd", &self.cwd)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("terminal", &self.terminal)
            .field("lifetime", &self.lifetime)
            .field("timeout", &self.timeout)
            .field("linger", &self.linger)
            .finish()
    }
}

/// The standard input of a process.
#[derive(Debug)]
#[non_exhaustive]
pub enum InputFrom {
    /// Nothing: the process reads the end of the file at once.
    Nothing,
    /// A pipe, to which the caller writes: [`Process::take_stdin`].
    Pipe,
    /// A file, a pipe or a socket of the caller. Of a file, the process reads no more than it asks
    /// for. A terminal is refused.
    Descriptor(OwnedFd),
}

/// The destination of an output stream. In each of them, the values of variables are replaced.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputTo {
    /// A pipe, from which the caller reads. The process waits while it is full.
    Pipe,
    /// A file, a pipe, a socket or a terminal of the caller. A write that fails is the error of
    /// [`Process::wait`], unless the reader has closed a pipe.
    Descriptor(OwnedFd),
    /// The destination of standard output. Only standard error can have it.
    Stdout,
}

/// The lifetime of a process that does not exit by itself. No process outlives the session, or the
/// program that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Lifetime {
    /// The process is killed when its [`Process`] is dropped. The session waits for it like for a
    /// call of `bash`, before it is released.
    Call,
    /// The process goes on when its [`Process`] is dropped. It is killed when the session is
    /// closed, released, drained or taken over.
    Session,
}
