//! The connection to a session's init: requests for commands, and updates of the mounts.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use rustix::process::{Pid, getpid};

use super::access::OwnerAccess;
use super::error::{OpenError, host_error};
use super::exchange::exchange;
use super::memory_file::memory_file;
use super::memory_kills::KillWatch;
use super::network::NetworkError;
use super::process::{InitProcess, StartedInit};
use super::shell;
use super::size::SizeLimit;
use super::wire;
use crate::files::SessionDir;
use crate::internal::lock;
use crate::sandbox::{CommandSpec, ExecError};

/// Pause before a retry while the control socket is full.
const FULL_SOCKET_PAUSE: Duration = Duration::from_millis(1);

/// The connection to the init of one session, and the fixed parts of every request.
///
/// Dropping it ends every process of the session.
pub(super) struct Connection {
    /// `None` after the end of the session.
    control: Mutex<Option<OwnedFd>>,
    /// Reason of this engine for the end of the session.
    ended: OnceLock<&'static str>,
    updates: Mutex<OwnedFd>,
    init: InitProcess,
    shell: PathBuf,
    session_dir: OwnerAccess,
    size: Arc<SizeLimit>,
    null: OwnedFd,
    tmp: Option<SessionDir>,
    /// The process that opened the session.
    owner: Pid,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session_dir", &self.session_dir)
            .field("init", &self.init.pid())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        init: StartedInit,
        session_dir: &Path,
        size: Arc<SizeLimit>,
    ) -> Result<Self, OpenError> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(host_error("open /dev/null"))?;
        let StartedInit { control, updates, process, tmp, .. } = init;
        Ok(Self {
            control: Mutex::new(Some(control)),
            ended: OnceLock::new(),
            updates: Mutex::new(updates),
            init: process,
            shell: shell::find(),
            session_dir: OwnerAccess::of(session_dir),
            size,
            null,
            tmp: tmp.map(|directory| SessionDir::of_mount(directory, "/tmp".as_ref())),
            owner: getpid(),
        })
    }

    pub(super) fn init_pid(&self) -> u32 {
        self.init.pid()
    }

    pub(super) fn shell(&self) -> &Path {
        &self.shell
    }

    /// Returns an open `/dev/null`.
    pub(super) fn null(&self) -> &OwnedFd {
        &self.null
    }

    /// Returns the session's own `/tmp`, if it has one.
    pub(super) fn tmp(&self) -> Option<&SessionDir> {
        self.tmp.as_ref()
    }

    /// Returns the directory in which a command starts.
    pub(super) fn working_dir<'s>(&'s self, spec: &'s CommandSpec) -> &'s Path {
        spec.cwd.as_deref().unwrap_or(self.session_dir.path())
    }

    /// Returns the limit on the size of the session directory.
    pub(super) fn size(&self) -> &Arc<SizeLimit> {
        &self.size
    }

    /// Returns to the owner the permissions on the session directory that a command took.
    pub(super) fn restore_access(&self) {
        self.session_dir.restore();
    }

    /// Sends a request with the command's ends of its streams and of its channel. Waits while the
    /// socket is full.
    pub(super) async fn send(
        &self,
        body: &[u8],
        ends: [BorrowedFd<'_>; 4],
    ) -> Result<(), ExecError> {
        while !self.try_send(body, ends)? {
            tokio::time::sleep(FULL_SOCKET_PAUSE).await;
        }
        Ok(())
    }

    /// Like [`Connection::send`], for a thread that waits no longer than `timeout`.
    pub(super) fn send_blocking(
        &self,
        body: &[u8],
        ends: [BorrowedFd<'_>; 4],
        timeout: Duration,
    ) -> Result<(), ExecError> {
        let started = Instant::now();
        while !self.try_send(body, ends)? {
            if started.elapsed() > timeout {
                let source = io::ErrorKind::TimedOut.into();
                return Err(ExecError::Host { operation: "send the request", source });
            }
            std::thread::sleep(FULL_SOCKET_PAUSE);
        }
        Ok(())
    }

    /// Sends a request without waiting. Returns `Ok(false)` if the socket is full.
    ///
    /// A long body travels in a file in memory.
    pub(super) fn try_send(
        &self,
        body: &[u8],
        ends: [BorrowedFd<'_>; 4],
    ) -> Result<bool, ExecError> {
        let host =
            |operation| move |errno: Errno| ExecError::Host { operation, source: errno.into() };
        let file = if body.len() > wire::MAX_MESSAGE_BYTES {
            let file = memory_file("command", body, MemfdFlags::NOEXEC_SEAL);
            Some(file.map_err(host("create a file in memory"))?)
        } else {
            None
        };
        let message = if file.is_some() { &wire::BODY_IN_FILE.to_le_bytes()[..] } else { body };
        let fds: Vec<_> = ends.into_iter().chain(file.as_ref().map(AsFd::as_fd)).collect();
        self.send_message(message, &fds).map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => {
                let reason = "it was closed, or its init process was killed";
                ExecError::Ended { reason: self.end_reason().unwrap_or(reason) }
            }
            errno => host("send the request")(errno),
        })
    }

    fn send_message(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<bool> {
        let control = lock(&self.control);
        let control = control.as_ref().ok_or(Errno::PIPE)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(control, &[IoSlice::new(message)], &mut ancillary, flags) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Sends additional mounts and new creation rules, and waits until init has applied them.
    pub(super) fn update(&self, body: &[u8]) -> io::Result<()> {
        let file = memory_file("session-additions", body, MemfdFlags::NOEXEC_SEAL)?;
        let message = wire::BODY_IN_FILE.to_le_bytes();
        exchange(&lock(&self.updates), &message, &[file.as_fd()]).map(drop)
    }

    /// Asks init for something with the socket for updates.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the session has ended. If init does not answer, the session
    /// ends.
    pub(super) fn ask<T>(
        &self,
        ask: impl FnOnce(&OwnedFd) -> io::Result<T>,
    ) -> Result<io::Result<T>, NetworkError> {
        let ended = || NetworkError::Ended {
            reason: self.end_reason().unwrap_or("it was closed, or its init process was killed"),
        };
        if lock(&self.control).is_none() {
            return Err(ended());
        }
        let updates = lock(&self.updates);
        match ask(&updates) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.begin_to_end("its init process did not answer");
                Err(ended())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Err(ended())
            }
            other => Ok(other),
        }
    }

    /// Watches the processes that are killed for their memory while a command runs. The caller has
    /// not sent the command yet.
    pub(super) fn watch_memory_kills(&self) -> KillWatch {
        self.init.watch_memory_kills()
    }

    /// Begins to end the session if a process was killed for its memory while a command ran. The
    /// caller knows that the worker of the command was killed, so processes of that command may be
    /// alive until the session has ended. Returns whether the session ends.
    pub(super) fn end_after_memory_kill(&self, kills: &mut KillWatch) -> bool {
        let is_killed = kills.has_seen_kill();
        if is_killed {
            self.begin_to_end("the memory of a command had run out");
        }
        is_killed
    }

    /// Returns whether the session has not been ended by this process.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.control).is_some()
    }

    /// Returns the number of files that commands have created under a watched name.
    pub(super) fn watched_creations(&self) -> io::Result<u32> {
        let request = wire::REQUEST_CREATIONS.to_le_bytes();
        let asked = self.ask(|updates| exchange(updates, &request, &[]));
        let answer = asked.map_err(io::Error::other)??;
        answer.words.first().copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Ends init, and with it every process of the session, and waits until they have exited.
    pub(super) async fn end(&self) {
        self.hang_up();
        self.init.wait().await;
    }

    /// Closes the control socket, even if a child of this process has a copy of it.
    fn hang_up(&self) {
        if let Some(control) = lock(&self.control).take() {
            let _ = rustix::net::shutdown(&control, Shutdown::Both);
        }
    }

    /// Returns an error in a child of the process that opened the session. A lock may be held there
    /// forever, and no thread of the parent runs there.
    pub(super) fn check_process(&self) -> Result<(), ExecError> {
        if self.is_inherited() {
            let reason = "this process is a fork of the one that opened it";
            return Err(ExecError::Ended { reason });
        }
        Ok(())
    }

    fn is_inherited(&self) -> bool {
        getpid() != self.owner
    }

    /// Like [`Connection::end`], for a thread. Later commands fail with this reason.
    pub(super) fn end_because(&self, reason: &'static str) {
        self.begin_to_end(reason);
        self.init.wait_blocking();
    }

    /// Like [`Connection::end_because`], without waiting.
    pub(super) fn begin_to_end(&self, reason: &'static str) {
        let _ = self.ended.set(reason);
        self.hang_up();
    }

    /// Returns the reason for which this engine ended the session.
    pub(super) fn end_reason(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }
}

#[cfg(test)]
impl Connection {
    /// Makes this process look like a child of the one that opened the session.
    pub(super) fn pretend_to_be_inherited(&mut self) {
        self.owner = Pid::INIT;
    }

    /// Returns a copy of the control socket, as a child of this process has it.
    pub(super) fn copy_of_control(&self) -> OwnedFd {
        lock(&self.control).as_ref().unwrap().try_clone().unwrap()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_inherited() {
            self.init.disown();
        } else {
            self.hang_up();
        }
    }
}
