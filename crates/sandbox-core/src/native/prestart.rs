//! The shell that starts before its command is known; `init/prestart.rs` is its other half.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use rustix::net::SendFlags;

use super::connection::Connection;
use super::request;
use super::streams::{CommandPipes, command_pipes};
use super::wire;
use crate::internal::lock;
use crate::sandbox::CommandSpec;

/// Idle time of a session before a shell is prestarted. A command that follows at once would only
/// wait for the new shell.
const IDLE_TIME: Duration = Duration::from_millis(2);
/// Time after which an unused shell exits.
const LIFETIME: Duration = Duration::from_secs(30);

/// Flags of a prestarted shell.
const DEFERRED: u32 = wire::COMMAND_DEFERRED | wire::COMMAND_MAY_LINGER;

/// State of the shells that a session prestarts: at most one waits.
#[derive(Debug, Default)]
pub(super) struct Prestart {
    waiting: Mutex<Option<PrestartedShell>>,
    running_commands: AtomicUsize,
    /// Number of shells prestarted so far.
    started: AtomicU64,
}

#[derive(Debug)]
struct PrestartedShell {
    number: u64,
    /// Environment and working directory of the shell; the command is empty.
    template: CommandSpec,
    pipes: CommandPipes,
}

/// A running command. While it exists, the session is not idle.
pub(super) struct RunningCommand<'s>(&'s Prestart);

impl Drop for RunningCommand<'_> {
    fn drop(&mut self) {
        self.0.running_commands.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Prestart {
    pub(super) fn begin(&self) -> RunningCommand<'_> {
        self.running_commands.fetch_add(1, Ordering::Relaxed);
        RunningCommand(self)
    }

    /// Sends a command to the waiting shell and returns the pipes of that shell. Returns `None` if
    /// no suitable shell is waiting.
    pub(super) fn take(&self, connection: &Connection, spec: &CommandSpec) -> Option<CommandPipes> {
        if !is_deferrable(spec) {
            return None;
        }
        let waiting =
            self.waiting().take_if(|waiting| matches(connection, &waiting.template, spec))?;
        let length = u32::try_from(spec.command.len()).ok()?;
        let message = [&length.to_le_bytes()[..], spec.command.as_bytes(), b"\0"].concat();
        // The socket's buffer is empty and larger than the message. A worker that receives only a
        // part runs nothing.
        let sent = rustix::net::send(
            &waiting.pipes.channel,
            &message,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        (sent.ok()? == message.len()).then_some(waiting.pipes)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<PrestartedShell>> {
        lock(&self.waiting)
    }

    fn is_idle(&self) -> bool {
        self.running_commands.load(Ordering::Relaxed) == 0
    }
}

/// Returns whether two commands start with the same environment in the same directory.
fn matches(connection: &Connection, a: &CommandSpec, b: &CommandSpec) -> bool {
    a.env == b.env && connection.working_dir(a) == connection.working_dir(b)
}

/// Returns whether a prestarted shell can run the command.
///
/// The command must be short and have no input. No variable may make bash act before it reads its
/// command, or change its value while the shell waits.
fn is_deferrable(spec: &CommandSpec) -> bool {
    let is_special = |name: &OsStr| {
        name.as_bytes().starts_with(b"BASH")
            || ["SHELLOPTS", "POSIXLY_CORRECT", "SECONDS", "_"]
                .iter()
                .any(|special| name == *special)
    };
    spec.stdin.is_empty()
        && spec.command.len() <= wire::MAX_DEFERRED_BYTES
        && !spec.command.contains('\0')
        && !spec.env.iter().any(|(name, _)| is_special(name))
}

/// Prestarts a shell like the one of `template` once the session has been idle for a moment.
pub(super) fn prepare_next(
    connection: &Arc<Connection>,
    prestart: &Arc<Prestart>,
    mut template: CommandSpec,
) {
    template.command = String::new();
    template.stdin = Vec::new();
    if !is_deferrable(&template) {
        return;
    }
    let (connection, prestart) = (Arc::downgrade(connection), Arc::downgrade(prestart));
    tokio::spawn(async move {
        tokio::time::sleep(IDLE_TIME).await;
        let Some(number) = start(&connection, &prestart, template) else { return };
        tokio::time::sleep(LIFETIME).await;
        if let Some(prestart) = prestart.upgrade() {
            drop(prestart.waiting().take_if(|waiting| waiting.number == number));
        }
    });
}

/// Prestarts a shell if the session is idle, and returns the shell's number. A failure costs only
/// the time that the shell would have saved.
fn start(
    connection: &Weak<Connection>,
    prestart: &Weak<Prestart>,
    template: CommandSpec,
) -> Option<u64> {
    let (connection, prestart) = (connection.upgrade()?, prestart.upgrade()?);
    let mut waiting = prestart.waiting();
    let is_waiting =
        waiting.as_ref().is_some_and(|shell| matches(&connection, &shell.template, &template));
    if is_waiting || !prestart.is_idle() {
        return None;
    }
    let body = request::encode(&connection, &template, DEFERRED).ok()?;
    if body.len() > wire::MAX_MESSAGE_BYTES {
        return None;
    }
    let (pipes, ends) = command_pipes().ok()?;
    let fds = [connection.null(), &ends.stdout, &ends.stderr, &ends.channel];
    if !connection.try_send(&body, fds.map(AsFd::as_fd)).ok()? {
        return None;
    }
    let number = prestart.started.fetch_add(1, Ordering::Relaxed);
    *waiting = Some(PrestartedShell { number, template, pipes });
    Some(number)
}
