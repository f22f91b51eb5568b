//! The caller's side of a process.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use sandbox_core::{PseudoTerminal, TerminalSize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::SPAWN;
use crate::tool_error::ToolError;
use crate::tools::bash::BashOutput;

/// An order to the task that looks after a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send this signal.
    Signal(i32),
    /// Kill every process that the command has started.
    Kill,
}

/// The orders to a process. The end of the channel means that the caller has no interest any more.
pub(crate) type Orders = UnboundedReceiver<Order>;

/// A process that has been started, here or in another program.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) ended: oneshot::Receiver<Result<BashOutput, ToolError>>,
    pub(crate) terminal: Option<PseudoTerminal>,
}

impl Started {
    /// Returns the channel of the orders to a process.
    pub(crate) fn channel() -> (UnboundedSender<Order>, Orders) {
        unbounded_channel()
    }
}

/// The ends of a process' pipes that its caller has.
#[derive(Debug, Default)]
pub(crate) struct CallerEnds {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A process of a session; see [`Session::spawn`](crate::Session::spawn).
///
/// Dropping it kills the process, unless its lifetime is that of the session.
pub struct Process {
    id: String,
    stdin: Option<ProcessInput>,
    stdout: Option<ProcessOutput>,
    stderr: Option<ProcessOutput>,
    terminal: Option<PseudoTerminal>,
    orders: UnboundedSender<Order>,
    ended: Ended,
}

enum Ended {
    NotYet(oneshot::Receiver<Result<BashOutput, ToolError>>),
    Reported(End),
}

/// The end of a process, for every caller that asks for it.
#[derive(Clone, Debug)]
pub(super) enum End {
    With(Box<BashOutput>),
    WithError { message: String, kind: crate::ErrorKind, is_retryable: bool },
}

impl End {
    pub(super) fn of(ended: &Result<BashOutput, ToolError>) -> Self {
        match ended {
            Ok(output) => Self::With(Box::new(output.clone())),
            Err(error) => Self::WithError {
                message: crate::with_causes(error),
                kind: error.kind(),
                is_retryable: error.is_retryable(),
            },
        }
    }

    pub(super) fn into_result(self) -> Result<BashOutput, ToolError> {
        match self {
            Self::With(output) => Ok(*output),
            Self::WithError { message, kind, is_retryable } => {
                Err(ToolError::Redacted { message, kind, is_retryable })
            }
        }
    }
}

impl Process {
    pub(crate) fn new(started: Started, ends: CallerEnds) -> Result<Self, ToolError> {
        let Started { id, orders, ended, terminal } = started;
        let failed = |source| ToolError::Write { path: "a pipe".to_owned(), source };
        let stdin = match &terminal {
            Some(terminal) => {
                let copy = terminal.as_fd().try_clone_to_owned().map_err(failed)?;
                // A terminal is written to like a pipe.
                Some(pipe::Sender::from_owned_fd_unchecked(copy).map_err(failed)?)
            }
            None => ends.stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(failed)?,
        };
        let output = |end: Option<OwnedFd>| {
            let pipe = end.map(pipe::Receiver::from_owned_fd).transpose().map_err(failed)?;
            Ok::<_, ToolError>(pipe.map(ProcessOutput))
        };
        Ok(Self {
            id,
            stdin: stdin.map(|pipe| ProcessInput(Some(pipe))),
            stdout: output(ends.stdout)?,
            stderr: output(ends.stderr)?,
            terminal,
            orders,
            ended: Ended::NotYet(ended),
        })
    }

    /// Returns the id, by which no other process of the session is known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes the pipe to the standard input, or what is typed into the terminal. Dropping the pipe
    /// ends the input.
    pub fn take_stdin(&mut self) -> Option<ProcessInput> {
        self.stdin.take()
    }

    /// Takes the pipe from standard output, or from the terminal.
    pub fn take_stdout(&mut self) -> Option<ProcessOutput> {
        self.stdout.take()
    }

    /// Takes the pipe from standard error.
    pub fn take_stderr(&mut self) -> Option<ProcessOutput> {
        self.stderr.take()
    }

    /// Sends a signal, by its number, to the process group of the shell. After the end, it is lost.
    pub fn signal(&self, number: i32) {
        let _ = self.orders.send(Order::Signal(number));
    }

    /// Kills every process that the command has started. May be called again.
    pub fn kill(&self) {
        let _ = self.orders.send(Order::Kill);
    }

    /// Returns the means to signal and to kill the process, also while [`Process::wait`] runs. It
    /// does not keep the process running.
    pub fn control(&self) -> ProcessControl {
        ProcessControl(self.orders.downgrade())
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// Returns [`ToolError::Failed`] if the process has no terminal, and [`ToolError::Write`] if it
    /// has ended.
    pub fn resize(&self, size: TerminalSize) -> Result<(), ToolError> {
        let Some(terminal) = &self.terminal else {
            let problem = format!("process {} has no terminal", self.id);
            return Err(ToolError::Failed { tool: SPAWN, problem });
        };
        let failed = |source| ToolError::Write { path: "the terminal".to_owned(), source };
        terminal.resize(size).map_err(failed)
    }

    /// Ends the input, and waits until every process of the command has exited and its changes are
    /// stored. Returns the result like [`Session::bash`](crate::Session::bash), without the
    /// streams. May be called again.
    ///
    /// A process waits for its reader while a pipe is full, so read its output meanwhile.
    ///
    /// # Errors
    /// Like [`Session::bash`](crate::Session::bash). Also returns [`ToolError::Exec`] if the
    /// process could not be started, and [`ToolError::Write`] if output could not be written to a
    /// descriptor of the caller.
    ///
    /// # Cancel safety
    /// After the future is dropped, `wait` can be called again.
    pub async fn wait(&mut self) -> Result<BashOutput, ToolError> {
        self.stdin = None;
        match &mut self.ended {
            Ended::NotYet(receiver) => {
                let ended = receiver.await.unwrap_or_else(|_| Err(lost()));
                self.ended = Ended::Reported(End::of(&ended));
                ended
            }
            Ended::Reported(end) => end.clone().into_result(),
        }
    }
}

/// Returns the error of a process whose session was dropped.
pub(crate) fn lost() -> ToolError {
    let reason = "the session was dropped";
    ToolError::Exec { source: sandbox_core::ExecError::Ended { reason } }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The means to signal and to kill a [`Process`]. Clones share it.
#[derive(Clone, Debug)]
pub struct ProcessControl(tokio::sync::mpsc::WeakUnboundedSender<Order>);

impl ProcessControl {
    /// Like [`Process::signal`].
    pub fn signal(&self, number: i32) {
        self.send(Order::Signal(number));
    }

    /// Like [`Process::kill`].
    pub fn kill(&self) {
        self.send(Order::Kill);
    }

    fn send(&self, order: Order) {
        if let Some(orders) = self.0.upgrade() {
            let _ = orders.send(order);
        }
    }
}

/// The writing end of a process' standard input. Dropping it, and shutting it down, ends the input.
#[derive(Debug)]
pub struct ProcessInput(Option<pipe::Sender>);

impl AsyncWrite for ProcessInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// The reading end of a process' output. After dropping it, a process that writes is killed, as in
/// any pipeline.
#[derive(Debug)]
pub struct ProcessOutput(pipe::Receiver);

impl AsyncRead for ProcessOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}
