//! The session's init as a process of the host: start, setup messages, and exit.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid};

use super::cgroup::SessionGroup;
use super::error::{OpenError, host_error};
use super::memory_file::memory_file;
use super::memory_kills::{KillWatch, MemoryKills};
use super::temporary::TemporaryDir;
use super::{remedy, wire};
use crate::internal::lock;

/// The init program; see `build.rs`. Empty on unsupported targets.
#[cfg(native_init)]
pub(super) const PROGRAM: &[u8] = include_bytes!(env!("SESSION_INIT"));
#[cfg(not(native_init))]
pub(super) const PROGRAM: &[u8] = &[];

/// Maximum duration of a session's setup.
pub(super) const SETUP_TIMEOUT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// An init that accepts commands, with the host's ends of its sockets.
#[derive(Debug)]
pub(super) struct StartedInit {
    /// Carries commands. Init exits when the host closes it.
    pub(super) control: OwnedFd,
    /// Carries updates of the mounts.
    pub(super) updates: OwnedFd,
    pub(super) process: InitProcess,
    pub(super) setup: Setup,
    /// The root of the session's own `/tmp`, if it has one.
    pub(super) tmp: Option<OwnedFd>,
}

/// Facts about the kernel that init has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// The kernel's version of Landlock; 0 if the session does not use it.
    pub(super) landlock_abi: u32,
    /// `BOUND_…` flags of the objects that the kernel does not limit for this user.
    pub(super) unbounded: u32,
}

/// The process of a session's init. Dropping it releases the session's resources after init has
/// exited.
#[derive(Debug)]
pub(super) struct InitProcess {
    pid: Pid,
    /// Becomes readable when init has exited.
    pidfd: OwnedFd,
    memory_kills: Arc<MemoryKills>,
    kept: Mutex<KeptResources>,
    /// Set in a child of the process that started init.
    is_disowned: bool,
}

/// Resources released after the last process exits; the cgroup first, because removing it kills
/// stragglers.
#[derive(Debug, Default)]
struct KeptResources {
    _group: Option<SessionGroup>,
    temporary: Option<TemporaryDir>,
}

/// Starts init with a plan and waits until it accepts commands. Keeps `group`, which the plan
/// names, until init has exited.
pub(super) fn start(
    plan: &[u8],
    mut group: Option<SessionGroup>,
) -> Result<StartedInit, OpenError> {
    if PROGRAM.is_empty() {
        return Err(OpenError::Unsupported);
    }
    let program = memory_file("session-init", PROGRAM, MemfdFlags::EXEC)
        .map_err(|errno| remedy::program_error(errno.into()))?;
    let plan = memory_file("session-plan", plan, MemfdFlags::NOEXEC_SEAL)
        .map_err(host_error("create a file in memory"))?;
    let (control, init_control) = socket_pair().map_err(host_error("create a socket"))?;
    let (updates, init_updates) = socket_pair().map_err(host_error("create a socket"))?;
    send_host(&updates).map_err(host_error("send a descriptor of this process"))?;

    // The standard library uses `posix_spawn` here because no `pre_exec` hook is set.
    let mut launcher = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0("session-init")
        .env_clear()
        .stdin(Stdio::from(init_control))
        .stdout(Stdio::from(plan))
        .stderr(Stdio::from(init_updates))
        .spawn()
        .map_err(host_error("start init"))?;
    // The launcher creates the namespaces, forks init as its sibling, reports init's id, and exits.
    // Init may report first that it is ready.
    let ready = wait_ready(&control);
    let _ = launcher.wait();
    let Ready { pid, setup, tmp } = ready?;
    let pidfd =
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(host_error("watch init"))?;
    if let Some(group) = &mut group {
        group.unlock();
    }
    let memory_kills = MemoryKills::of(group.as_ref());
    let kept = Mutex::new(KeptResources { _group: group, temporary: None });
    let process = InitProcess { pid, pidfd, memory_kills, kept, is_disowned: false };
    Ok(StartedInit { control, updates, process, setup, tmp })
}

/// Sends init a descriptor of this process. A child of this process that inherits the control
/// socket keeps it open, so init cannot rely on the socket alone.
fn send_host(updates: &OwnedFd) -> rustix::io::Result<()> {
    let host = rustix::process::pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [host.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let message = [0; 4];
    let message = [IoSlice::new(&message)];
    rustix::net::sendmsg(updates, &message, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

impl InitProcess {
    /// Keeps a directory for temporary files until init has exited.
    pub(super) fn keep(&self, temporary: TemporaryDir) {
        lock(&self.kept).temporary = Some(temporary);
    }

    /// Watches the processes of the session that are killed for their memory while a command runs.
    pub(super) fn watch_memory_kills(&self) -> KillWatch {
        self.memory_kills.watch()
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until init has exited, then releases the session's resources.
    pub(super) async fn wait(&self) {
        let kept = self.take_kept();
        if let Ok(pidfd) = self.pidfd.try_clone() {
            let _ = tokio::task::spawn_blocking(move || reap(&pidfd, kept)).await;
        }
    }

    /// Like [`InitProcess::wait`], for a thread.
    pub(super) fn wait_blocking(&self) {
        reap(&self.pidfd, self.take_kept());
    }

    fn take_kept(&self) -> KeptResources {
        std::mem::take(&mut lock(&self.kept))
    }

    /// Forgets the resources of the session, which belong to the parent of this process.
    pub(super) fn disown(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(std::mem::take(kept));
        self.is_disowned = true;
    }
}

impl Drop for InitProcess {
    fn drop(&mut self) {
        if self.is_disowned {
            return;
        }
        let kept = self.take_kept();
        // The kernel needs a moment to end a session full of processes, so a thread waits. If no
        // thread can be started, init stays a zombie until the host exits.
        if let Ok(pidfd) = self.pidfd.try_clone() {
            let thread =
                std::thread::Builder::new().name("session-end".to_owned()).stack_size(64 * 1024);
            let _ = thread.spawn(move || reap(&pidfd, kept));
        }
    }
}

/// Waits until init has exited and collects its exit status, unless another thread did. Then
/// releases the resources, which no process uses any more.
fn reap(pidfd: &OwnedFd, kept: KeptResources) {
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    drop(kept);
}

/// A message of the launcher or of init during the setup.
enum SetupMessage {
    Init(Pid),
    Tmp(OwnedFd),
    Ready(Setup),
    Failed(OpenError),
}

/// The reports of the launcher and of init.
struct Ready {
    pid: Pid,
    setup: Setup,
    tmp: Option<OwnedFd>,
}

/// Waits until the launcher has reported init's process id and init is ready.
///
/// Kills and reaps init if the setup failed.
fn wait_ready(control: &OwnedFd) -> Result<Ready, OpenError> {
    let (mut pid, mut ready, mut failed) = (None, None, None);
    let mut tmp = None;
    let failure = loop {
        match receive(control) {
            Ok(SetupMessage::Init(reported)) => pid = Some(reported),
            Ok(SetupMessage::Tmp(directory)) => tmp = Some(directory),
            Ok(SetupMessage::Ready(setup)) => ready = Some(setup),
            Ok(SetupMessage::Failed(error)) => failed = Some(error),
            Err(error) => break failed.unwrap_or(error),
        }
        match (pid, ready, failed.take()) {
            (Some(pid), Some(setup), None) => {
                return Ok(Ready { pid, setup, tmp });
            }
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

fn receive(control: &OwnedFd) -> Result<SetupMessage, OpenError> {
    let failed = host_error::<Errno>("receive the report of init");
    loop {
        match poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&SETUP_TIMEOUT)) {
            Ok(0) => return Err(failed(Errno::TIMEDOUT)),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    let mut buffer = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        control,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(failed)?;
    let mut fds = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    parse(&buffer[..received.bytes], fds.next())
}

fn parse(message: &[u8], fd: Option<OwnedFd>) -> Result<SetupMessage, OpenError> {
    let word = |at: usize| {
        message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    };
    match word(0) {
        Some(wire::MSG_READY) => {
            let (Some(landlock_abi), Some(unbounded)) = (word(4), word(8)) else {
                return Err(killed());
            };
            Ok(SetupMessage::Ready(Setup { landlock_abi, unbounded }))
        }
        Some(wire::MSG_TMP) => fd.map(SetupMessage::Tmp).ok_or_else(killed),
        Some(wire::MSG_INIT) => {
            let pid = word(4).and_then(|pid| Pid::from_raw(pid.cast_signed()));
            pid.map(SetupMessage::Init).ok_or_else(killed)
        }
        Some(wire::MSG_FAILED) => {
            let (Some(step), Some(errno)) = (word(4), word(8)) else { return Err(killed()) };
            let source = io::Error::from_raw_os_error(errno.cast_signed());
            Ok(SetupMessage::Failed(remedy::setup_error(step, source, &message[12..])))
        }
        _ => Err(killed()),
    }
}

/// Returns the error for an init that was killed from outside before it could report.
fn killed() -> OpenError {
    host_error("receive the report of init")(io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// Creates a connected pair of sockets that preserves message boundaries.
fn socket_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}
