//! The session's init as a process of the host: starting it, talking to it, and seeing it end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::cgroup::SessionGroup;
use super::temporary::TemporaryDir;
use super::{OpenError, probe, wire};

/// The init program; see `build.rs`.
#[cfg(native_init)]
pub(super) const PROGRAM: &[u8] = include_bytes!(env!("SESSION_INIT"));
#[cfg(not(native_init))]
pub(super) const PROGRAM: &[u8] = &[];

/// How long the setup of a session may take before it is given up.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running init. Dropping it ends the session's processes.
#[derive(Debug)]
pub(super) struct InitProcess {
    /// `None` once the session was ended.
    control: Mutex<Option<OwnedFd>>,
    /// For what comes to the plan later.
    additions: Mutex<OwnedFd>,
    pid: Pid,
    /// Becomes readable when init has ended.
    pidfd: OwnedFd,
    landlock_abi: u32,
    kept: Mutex<Kept>,
}

/// What goes when every process of the session has gone; the group first, because what was still
/// alive in it is dead then.
#[derive(Debug, Default)]
struct Kept {
    _group: Option<SessionGroup>,
    temporary: Option<TemporaryDir>,
}

impl InitProcess {
    /// Starts init with a plan and waits until it takes commands. The group that the plan names is
    /// kept until it has ended.
    pub(super) fn start(plan: &[u8], mut group: Option<SessionGroup>) -> Result<Self, OpenError> {
        let host =
            |operation| move |errno: Errno| OpenError::Host { operation, source: errno.into() };
        if PROGRAM.is_empty() {
            return Err(OpenError::Unsupported);
        }
        let program = memory_file("session-init", PROGRAM, MemfdFlags::EXEC)
            .map_err(host("make a file in memory"))?;
        let plan = memory_file("session-plan", plan, MemfdFlags::empty())
            .map_err(host("make a file in memory"))?;
        let (ours, theirs) = socket_pair().map_err(host("make a socket"))?;
        let (additions, their_additions) = socket_pair().map_err(host("make a socket"))?;

        // Without `pre_exec` and the like, the standard library starts this with `posix_spawn`.
        let mut first = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("session-init")
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(plan))
            .stderr(Stdio::from(their_additions))
            .spawn()
            .map_err(|source| OpenError::Host { operation: "start init", source })?;
        // The first process makes the namespaces, forks init as its sibling, tells its id, and
        // goes. Init may be ready before that is told.
        let heard = hear_both(&ours);
        let _ = first.wait();
        let (pid, landlock_abi) = heard?;
        let pidfd =
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(host("watch init"))?;
        if let Some(group) = &mut group {
            group.is_in_use();
        }
        let kept = Mutex::new(Kept { _group: group, temporary: None });
        let (control, additions) = (Mutex::new(Some(ours)), Mutex::new(additions));
        Ok(Self { control, additions, pid, pidfd, landlock_abi, kept })
    }

    /// Keeps a directory for temporary files until init has ended.
    pub(super) fn keep(&self, temporary: TemporaryDir) {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).temporary =
            Some(temporary);
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The kernel's version of Landlock, where the session rests on it.
    pub(super) fn landlock_abi(&self) -> u32 {
        self.landlock_abi
    }

    /// Sends one command without waiting; `Ok(false)` when the socket is full at this moment.
    pub(super) fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<bool> {
        let control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let control = control.as_ref().ok_or(Errno::PIPE)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(control, &[IoSlice::new(body)], &mut ancillary, flags) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Brings what comes to the plan, and waits until init has taken it over.
    pub(super) fn add(&self, body: &[u8]) -> io::Result<()> {
        let additions = self.additions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let file = memory_file("session-additions", body, MemfdFlags::NOEXEC_SEAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let message = wire::VERSION.to_le_bytes();
        rustix::net::sendmsg(
            &*additions,
            &[IoSlice::new(&message)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        let timeout = Timespec { tv_sec: SETUP_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
        if poll(&mut [PollFd::new(&*additions, PollFlags::IN)], Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0; 4];
        let (received, _) = rustix::net::recv(&*additions, &mut answer, RecvFlags::empty())?;
        match (received, i32::from_le_bytes(answer)) {
            (4, 0) => Ok(()),
            (4, errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Closes the socket, which ends init and with it every process of the session, and waits for
    /// that.
    pub(super) async fn end(&self) {
        let kept = self.let_go();
        if let Ok(pidfd) = self.pidfd.try_clone() {
            let _ = tokio::task::spawn_blocking(move || wait_for(&pidfd, kept)).await;
        }
    }

    fn let_go(&self) -> Kept {
        self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        std::mem::take(&mut self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Drop for InitProcess {
    fn drop(&mut self) {
        let kept = self.let_go();
        // The kernel needs a moment for a session full of processes, so a thread waits; where none
        // can be had the exit status stays with the kernel until the host ends.
        if let Ok(pidfd) = self.pidfd.try_clone() {
            let thread =
                std::thread::Builder::new().name("session-end".to_owned()).stack_size(64 * 1024);
            let _ = thread.spawn(move || wait_for(&pidfd, kept));
        }
    }
}

/// Waits until init has ended and takes its exit status; somebody else may have been quicker.
/// Nobody uses what was kept any more then.
fn wait_for(pidfd: &OwnedFd, kept: Kept) {
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    drop(kept);
}

/// What init says during the setup.
enum Message {
    Init(Pid),
    /// With the version of Landlock.
    Ready(u32),
    Failed(OpenError),
}

/// Waits until init has been named and is ready. A setup that failed is ended and reaped, so that
/// nothing of it is left, not even an exit status.
fn hear_both(control: &OwnedFd) -> Result<(Pid, u32), OpenError> {
    let (mut pid, mut ready, mut failed) = (None, None, None);
    let failure = loop {
        match receive(control) {
            Ok(Message::Init(named)) => pid = Some(named),
            Ok(Message::Ready(abi)) => ready = Some(abi),
            Ok(Message::Failed(error)) => failed = Some(error),
            Err(error) => break failed.unwrap_or(error),
        }
        match (pid, ready, failed.take()) {
            (Some(pid), Some(abi), None) => return Ok((pid, abi)),
            (Some(_), _, Some(error)) => break error,
            (_, _, rest) => failed = rest,
        }
    };
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    }
    Err(failure)
}

fn receive(control: &OwnedFd) -> Result<Message, OpenError> {
    let host = |errno: Errno| OpenError::Host { operation: "hear from init", source: errno.into() };
    let timeout = Timespec { tv_sec: SETUP_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(host(Errno::TIMEDOUT)),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(host(errno)),
        }
    }
    let mut buffer = [0; 1024];
    let mut none = RecvAncillaryBuffer::default();
    let received = rustix::net::recvmsg(
        control,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut none,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(host)?;
    let message = &buffer[..received.bytes];
    let word = |at: usize| {
        message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    };
    match word(0) {
        Some(wire::MSG_READY) => word(4).map(Message::Ready).ok_or_else(broken),
        Some(wire::MSG_INIT) => {
            let pid = word(4).and_then(|pid| Pid::from_raw(pid.cast_signed()));
            pid.map(Message::Init).ok_or_else(broken)
        }
        Some(wire::MSG_FAILED) => {
            let (Some(step), Some(errno)) = (word(4), word(8)) else { return Err(broken()) };
            let source = io::Error::from_raw_os_error(errno.cast_signed());
            Ok(Message::Failed(probe::refusal(step, source, &message[12..])))
        }
        _ => Err(broken()),
    }
}

/// Init ended without a word: it was killed from outside.
fn broken() -> OpenError {
    OpenError::Host { operation: "hear from init", source: io::ErrorKind::UnexpectedEof.into() }
}

/// A connected pair that keeps messages whole.
fn socket_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// A file in memory with this content, sealed against every change.
pub(super) fn memory_file(
    name: &str,
    content: &[u8],
    kind: MemfdFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create(name, flags | kind) {
        // Before Linux 6.3 every such file is executable, and the flag is unknown.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    Ok(file)
}
