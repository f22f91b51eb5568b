//! The shell that is started before its command is known; how it waits is told in `init/ahead.rs`.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::net::SendFlags;

use super::exec::{self, Lines};
use super::{Inner, wire};
use crate::sandbox::CommandSpec;

/// How long a session is idle before a shell is started ahead: commands that follow at once would
/// only wait for it.
const IDLE: Duration = Duration::from_millis(2);
/// How long a shell waits for a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// The shell of a session that waits, if one does.
#[derive(Default)]
pub(super) struct PrestartedShell {
    shell: Mutex<Option<Waiting>>,
    /// Commands that are running.
    running: AtomicUsize,
    /// How often a shell was started ahead.
    started: AtomicU64,
}

struct Waiting {
    number: u64,
    /// A command with what the shell was started with; its text is not looked at.
    like: CommandSpec,
    lines: Lines,
}

/// One command that is running.
pub(super) struct Running<'w>(&'w PrestartedShell);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PrestartedShell {
    pub(super) fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    /// Gives the waiting shell a command. `None` when no shell waits that this command could have.
    pub(super) fn give(&self, spec: &CommandSpec, session_dir: &Path) -> Option<Lines> {
        if !may_come_later(spec) {
            return None;
        }
        let waiting = self.shell().take_if(|waiting| is_like(&waiting.like, spec, session_dir))?;
        let length = u32::try_from(spec.command.len()).ok()?;
        let message = [&length.to_le_bytes()[..], spec.command.as_bytes(), b"\0"].concat();
        // The message is shorter than the socket's buffer, which is empty. A slot that has received
        // a part of it only runs nothing.
        let sent = rustix::net::send(
            &waiting.lines.channel,
            &message,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        (sent.ok()? == message.len()).then_some(waiting.lines)
    }

    fn shell(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }
}

/// Whether both start with the same environment in the same directory.
fn is_like(a: &CommandSpec, b: &CommandSpec, session_dir: &Path) -> bool {
    let cwd = |spec: &CommandSpec| spec.cwd.clone().unwrap_or_else(|| session_dir.to_owned());
    a.env == b.env && cwd(a) == cwd(b)
}

/// Whether a shell that was started ahead can run it: nothing to read, nothing long, and no
/// variable by which bash would act before it looks at its command, or which the waiting would
/// change.
fn may_come_later(spec: &CommandSpec) -> bool {
    let is_special = |name: &OsStr| {
        name.as_bytes().starts_with(b"BASH")
            || ["SHELLOPTS", "POSIXLY_CORRECT", "SECONDS", "_"].iter().any(|it| name == *it)
    };
    spec.stdin.is_empty()
        && spec.command.len() <= wire::MAX_LATER_BYTES
        && !spec.command.contains('\0')
        && !spec.env.iter().any(|(name, _)| is_special(name))
}

/// Has a shell wait for a next command like this one, once the session has been idle for a moment.
pub(super) fn wait_for_next(sandbox: &Arc<Inner>, mut like: CommandSpec) {
    like.command = String::new();
    like.stdin = Vec::new();
    if !may_come_later(&like) {
        return;
    }
    let sandbox = Arc::downgrade(sandbox);
    tokio::spawn(async move {
        tokio::time::sleep(IDLE).await;
        let Some(number) = start(&sandbox, like) else { return };
        tokio::time::sleep(PATIENCE).await;
        if let Some(sandbox) = sandbox.upgrade() {
            drop(sandbox.waiting.shell().take_if(|waiting| waiting.number == number));
        }
    });
}

/// Starts a shell ahead, where the session is idle; gives its number. What goes wrong costs only
/// the time that it would have saved.
fn start(sandbox: &Weak<Inner>, like: CommandSpec) -> Option<u64> {
    let sandbox = sandbox.upgrade()?;
    let mut shell = sandbox.waiting.shell();
    let waits =
        shell.as_ref().is_some_and(|waiting| is_like(&waiting.like, &like, &sandbox.session_dir));
    if waits || !sandbox.waiting.is_idle() {
        return None;
    }
    let body = exec::encode(&sandbox, &like, wire::COMMAND_LATER).ok()?;
    if body.len() > wire::MAX_MESSAGE_BYTES {
        return None;
    }
    let (lines, ends) = exec::lines().ok()?;
    let fds =
        [sandbox.null.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd(), ends.channel.as_fd()];
    if !sandbox.init.send(&body, &fds).ok()? {
        return None;
    }
    let number = sandbox.waiting.started.fetch_add(1, Ordering::Relaxed);
    *shell = Some(Waiting { number, like, lines });
    Some(number)
}
