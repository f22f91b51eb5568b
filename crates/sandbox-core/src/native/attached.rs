//! A command on the caller's standard streams, with signals. It has a pseudo-terminal if one of
//! them is a terminal.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, Shutdown};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep_until;

use super::attached_outcome::{AttachedEvent, AttachedOutcome};
use super::connection::Connection;
use super::memory_kills::KillWatch;
use super::outcome::{Message, Outcome, Report, next_message};
use super::outstanding::Began;
use super::pseudo_terminal::{PseudoTerminal, TerminalSize};
use super::refresh::Mounts;
use super::request;
use super::settlement::Settled;
use super::size::SizeWatch;
use super::stdio::{Pumps, Stdio};
use super::terminal::{Job, Terminal, continue_is_certain, open_pair, stop};
use super::wire;
use crate::internal::blocking;
use crate::sandbox::{CommandSpec, CommandStatus, ExecError, Limit};

/// `SIGCONT`, `SIGSTOP`, `SIGTSTP`, `SIGTTIN`, `SIGTTOU` and `SIGWINCH` (`signal(7)`).
const CONTINUE: i32 = 18;
const STOP: i32 = 19;
const KEYBOARD_STOP: i32 = 20;
const TERMINAL_INPUT: u32 = 21;
const TERMINAL_OUTPUT: u32 = 22;
/// `SIGKILL`.
const KILL: i32 = 9;
const WINDOW_CHANGE: i32 = 28;

/// A command that runs on the caller's standard streams. Dropping it kills the command and every
/// process that it started, and restores the modes of the caller's terminal.
#[derive(Debug)]
pub struct AttachedCommand {
    report: OwnedReadHalf,
    signals: OwnedWriteHalf,
    cwd: PathBuf,
    began: Began,
    reported: Option<Reported>,
    pumps: Pumps,
    terminal: Option<Terminal>,
    linger: Duration,
    /// The time at which the processes that outlived the shell are killed.
    lingers_until: Option<Instant>,
    /// Names of those processes.
    killed: Vec<String>,
    size: SizeWatch,
    /// The size of the session directory has ended the command.
    outgrew: bool,
    /// The caller has asked for the next stop.
    is_stop_requested: bool,
    /// The command has a pseudo-terminal whose outer end the caller has.
    has_own_terminal: bool,
    is_killed: bool,
    kills: KillWatch,
    connection: Arc<Connection>,
    mounts: Arc<Mounts>,
}

/// The end of a command, as its worker reports it.
#[derive(Clone, Copy, Debug)]
struct Reported {
    status: CommandStatus,
    limit: Option<Limit>,
    unroutable: u32,
    watched_creations: u32,
}

/// Sends the request for a command on these streams.
pub(super) async fn start(
    connection: &Arc<Connection>,
    mounts: &Arc<Mounts>,
    spec: &CommandSpec,
    mut given: [BorrowedFd<'_>; 3],
) -> Result<AttachedCommand, ExecError> {
    let began = mounts.begin();
    let new = Terminal::of(given, connection.init_pid())?;
    let mut flags = wire::COMMAND_REPORTS_STOPS | wire::COMMAND_MAY_LINGER;
    let mut piped = [false; 3];
    if let Some(new) = &new {
        flags |= wire::COMMAND_IN_TERMINAL;
        flags |= if new.starts_in_foreground { wire::COMMAND_IN_FOREGROUND } else { 0 };
        for (stream, _) in given.iter_mut().zip(new.replaces).filter(|(_, replaced)| *replaced) {
            *stream = new.inner.as_fd();
        }
        piped = new.is_other;
    }
    let body = request::encode(connection, spec, flags)?;
    let Stdio { streams, pumps } = Stdio::of(given, piped, &mounts.plan())?;
    let streams = streams.each_ref().map(AsFd::as_fd);
    let command = send(connection, mounts, began, spec, &body, streams).await?;
    Ok(AttachedCommand { pumps, terminal: new.map(|new| new.terminal), ..command })
}

/// Sends the request for a command in a new pseudo-terminal. Returns its outer end too.
pub(super) async fn start_in_terminal(
    connection: &Arc<Connection>,
    mounts: &Arc<Mounts>,
    spec: &CommandSpec,
    size: TerminalSize,
) -> Result<(AttachedCommand, PseudoTerminal), ExecError> {
    let began = mounts.begin();
    let failed = |source| ExecError::Host { operation: "create a pseudo-terminal", source };
    let (outer, inner) = open_pair(connection.init_pid()).map_err(|errno| failed(errno.into()))?;
    let terminal = PseudoTerminal::new(outer, size).map_err(failed)?;
    let flags = wire::COMMAND_REPORTS_STOPS
        | wire::COMMAND_MAY_LINGER
        | wire::COMMAND_IN_TERMINAL
        | wire::COMMAND_IN_FOREGROUND;
    let body = request::encode(connection, spec, flags)?;
    let command = send(connection, mounts, began, spec, &body, [inner.as_fd(); 3]).await?;
    Ok((AttachedCommand { has_own_terminal: true, ..command }, terminal))
}

async fn send(
    connection: &Arc<Connection>,
    mounts: &Arc<Mounts>,
    began: Began,
    spec: &CommandSpec,
    body: &[u8],
    [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
) -> Result<AttachedCommand, ExecError> {
    let (channel, end) = UnixStream::pair()
        .map_err(|source| ExecError::Host { operation: "create a socket", source })?;
    let kills = connection.watch_memory_kills();
    connection.send(body, [stdin, stdout, stderr, end.as_fd()]).await?;
    let (report, signals) = channel.into_split();
    let (connection, mounts) = (Arc::clone(connection), Arc::clone(mounts));
    Ok(AttachedCommand {
        report,
        signals,
        cwd: connection.working_dir(spec).to_owned(),
        began,
        reported: None,
        pumps: Pumps::default(),
        terminal: None,
        linger: spec.linger,
        lingers_until: None,
        killed: Vec::new(),
        size: connection.size().watch(),
        outgrew: false,
        is_stop_requested: false,
        has_own_terminal: false,
        is_killed: false,
        kills,
        connection,
        mounts,
    })
}

impl AttachedCommand {
    /// Passes on a signal, by its number, that this process has received. A signal that arrives
    /// after the command has exited is lost.
    ///
    /// The command's process group gets it, like from a terminal. `SIGTSTP` stops the command, and
    /// `SIGCONT` continues it, also if it is alone in its terminal session. For a command with a
    /// pseudo-terminal in place of the caller's, `SIGWINCH` passes on the size of the latter.
    pub fn signal(&mut self, number: i32) {
        match (number, &mut self.terminal) {
            (WINDOW_CHANGE, Some(terminal)) => terminal.resize(),
            (CONTINUE, _) => self.resume(),
            (KEYBOARD_STOP, terminal) => {
                self.is_stop_requested = true;
                // Without a terminal, no shell could be its parent, and the kernel would drop it.
                let number = if terminal.is_some() { KEYBOARD_STOP } else { STOP };
                self.send(number.unsigned_abs());
            }
            (STOP, _) => {
                self.is_stop_requested = true;
                self.send(STOP.unsigned_abs());
            }
            _ => self.send(number.unsigned_abs()),
        }
    }

    /// Kills every process of the command. [`AttachedCommand::next_event`] then returns its end.
    pub fn kill(&mut self) {
        self.is_killed = true;
        self.hang_up();
    }

    /// Gives the processes that have outlived the shell their time once more, because they are at
    /// work.
    pub fn extend_linger(&mut self) {
        self.lingers_until = self.lingers_until.map(|_| Instant::now() + self.linger);
    }

    /// Tells the worker to kill what is left.
    fn hang_up(&self) {
        let _ = rustix::net::shutdown(self.signals.as_ref(), Shutdown::Write);
    }

    fn send(&self, word: u32) {
        // Without the flag, a command that has exited would kill a host that does not ignore
        // SIGPIPE.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(self.signals.as_ref(), &word.to_le_bytes(), flags);
    }

    /// Continues the command, in the foreground of its terminal if this process is in that of the
    /// caller's.
    fn resume(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.resize();
            if terminal.is_in_use() {
                let is_foreground = terminal.try_enter();
                self.send(if is_foreground { wire::TO_FOREGROUND } else { wire::TO_BACKGROUND });
            }
        }
        self.send(CONTINUE.unsigned_abs());
    }

    /// Waits for the end of the command like [`AttachedCommand::next_event`], and ignores stops.
    ///
    /// # Errors
    /// Like [`AttachedCommand::next_event`].
    ///
    /// # Cancel safety
    /// Like [`AttachedCommand::next_event`].
    pub async fn wait(&mut self) -> Result<AttachedOutcome, ExecError> {
        loop {
            if let AttachedEvent::Ended(outcome) = self.next_event().await? {
                return Ok(outcome);
            }
        }
    }

    /// Waits until the command is stopped, or until every process of it has exited. In the latter
    /// case, quarantines the files that it created although the policy denies it.
    ///
    /// A command that uses its terminal for the first time is not reported. It gets the foreground,
    /// if this process has it.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command could not be started, or if the session ended under it.
    ///
    /// # Cancel safety
    /// After the future is dropped, `next_event` can be called again.
    pub async fn next_event(&mut self) -> Result<AttachedEvent, ExecError> {
        let Reported { status, limit, unroutable, watched_creations } = loop {
            if let Some(reported) = self.reported {
                break reported;
            }
            let due = self.lingers_until;
            let message = tokio::select! {
                message = next_message(&self.report) => match message {
                    // The worker had not begun the command. It exits without a report.
                    Err(_) if self.is_killed && self.connection.is_open() => {
                        let status = CommandStatus::Signaled(KILL);
                        let (limit, unroutable, watched_creations) = (None, 0, 0);
                        self.reported =
                            Some(Reported { status, limit, unroutable, watched_creations });
                        continue;
                    }
                    Err(ExecError::Ended { .. })
                        if self.connection.end_after_memory_kill(&mut self.kills) =>
                    {
                        Message::Report(Report::out_of_memory())
                    }
                    message => message?,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.lingers_until = None;
                    self.hang_up();
                    continue;
                }
                () = self.size.exceeded(), if !self.outgrew => {
                    self.outgrew = true;
                    self.hang_up();
                    continue;
                }
            };
            match message {
                // The caller's shell does not know of this terminal, and could not continue it.
                Message::Stopped(_) if self.has_own_terminal => {
                    if !std::mem::take(&mut self.is_stop_requested) {
                        self.send(wire::TO_FOREGROUND);
                        self.send(CONTINUE.unsigned_abs());
                    }
                }
                Message::Stopped(signal) if self.is_for_caller(signal) => {
                    return Ok(AttachedEvent::Stopped);
                }
                Message::Stopped(_) => {}
                Message::Lingers => self.lingers_until = Some(Instant::now() + self.linger),
                Message::Killed(names) => self.killed = names,
                Message::Report(report) => {
                    self.kills.settle(report.limit);
                    let (unroutable, watched_creations) =
                        (report.unroutable, report.watched_creations);
                    let (killed, timed_out, outgrew) = (Vec::new(), false, self.outgrew);
                    let outcome = Outcome { report, timed_out, outgrew, killed };
                    let status = outcome.status(self.connection.shell(), &self.cwd)?;
                    let limit = outcome.limit();
                    self.reported = Some(Reported { status, limit, unroutable, watched_creations });
                }
            }
        };
        let pumps = std::mem::take(&mut self.pumps);
        let print = self.terminal.as_mut().map(Terminal::finish);
        if !pumps.are_none() || print.is_some() {
            blocking(move || {
                pumps.finish();
                print.map(|print| print())
            })
            .await;
        }
        drop(self.terminal.take());
        let Settled { quarantined, sandbox_ended } =
            self.mounts.settle(&self.began, watched_creations).await;
        let is_too_large = self.size.is_exceeded().await;
        Ok(AttachedEvent::Ended(AttachedOutcome {
            status,
            killed: std::mem::take(&mut self.killed),
            limit: limit.or(is_too_large.then_some(Limit::SessionSize)),
            unroutable,
            quarantined,
            sandbox_ended,
        }))
    }

    /// Returns whether the caller must know that a signal has stopped the command. Gives the
    /// command the terminal instead, if it was stopped because it has asked for that.
    fn is_for_caller(&mut self, signal: u32) -> bool {
        let is_requested = std::mem::take(&mut self.is_stop_requested);
        let Some(terminal) = &mut self.terminal else { return is_requested };
        if !matches!(signal, TERMINAL_INPUT | TERMINAL_OUTPUT) || !terminal.try_enter() {
            return true;
        }
        self.send(wire::TO_FOREGROUND);
        self.send(CONTINUE.unsigned_abs());
        false
    }

    /// Stops this process after its command, as the shell that started it expects. Its process
    /// group is stopped with it if the command was stopped from its terminal.
    ///
    /// The caller passes `SIGCONT` to [`AttachedCommand::signal`] when this process is continued.
    /// If no shell can continue this process, the command goes on at once.
    pub fn stop_with_command(&mut self) {
        let Some(terminal) = &mut self.terminal else { return stop(Job::Process) };
        terminal.leave();
        if continue_is_certain() {
            stop(Job::Group);
        } else {
            self.send(wire::TO_FOREGROUND);
            self.resume();
        }
    }
}
