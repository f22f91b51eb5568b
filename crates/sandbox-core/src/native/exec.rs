//! One command: encoding it, sending it, gathering its output, and hearing its end.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, pipe};

use super::plan::Encoder;
use super::process::memory_file;
use super::{Inner, prestart, refresh, wire};
use crate::sandbox::streams::{Filled, feed, fill};
use crate::sandbox::{
    CapturedStream, CommandOutput, CommandSpec, CommandStatus, ExecError, Limit, Quarantined,
};

/// The kernel's limit for one argument or variable (`MAX_ARG_STRLEN`, `linux/binfmts.h`), without
/// its NUL.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;
/// The kernel's limit for all arguments and variables is a quarter of the stack limit, 2 MiB by
/// default.
const MAX_ENVIRONMENT_BYTES: usize = 1024 * 1024;
/// How large a pipe is made from which nothing is kept any more, and how much is moved at once.
const DRAIN_BYTES: usize = 1 << 20;
/// How long output gathers in such a pipe: less than the fastest commands need to fill it.
const GATHERING_PAUSE: Duration = Duration::from_micros(100);
/// How long a socket that is full is left alone.
const FULL_SOCKET_PAUSE: Duration = Duration::from_millis(1);

pub(super) async fn exec(
    sandbox: &Arc<Inner>,
    spec: CommandSpec,
) -> Result<CommandOutput, ExecError> {
    let (started, began) = (Instant::now(), SystemTime::now());
    let running = sandbox.waiting.begin();
    // Who drops this future does not hear the end.
    let unheard = CompletionGuard { sandbox, began: Some(began) };
    let host = |operation| move |source: io::Error| ExecError::Host { operation, source };
    let (lines, stdin) = match sandbox.waiting.give(&spec, &sandbox.session_dir) {
        Some(lines) => (lines, None),
        None => start(sandbox, &spec).await?,
    };
    let stdin = stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(host("use a pipe"))?;
    let stdout = pipe::Receiver::from_owned_fd(lines.stdout).map_err(host("use a pipe"))?;
    let stderr = pipe::Receiver::from_owned_fd(lines.stderr).map_err(host("use a pipe"))?;
    let channel = UnixStream::from_std(lines.channel).map_err(host("use a socket"))?;
    let (end, stdout, stderr, ()) = tokio::join!(
        hear_end(channel, spec.timeout),
        capture(stdout, spec.max_output_bytes, &sandbox.null),
        capture(stderr, spec.max_output_bytes, &sandbox.null),
        feed(stdin, &spec.stdin),
    );
    let end = end?;
    let limit = end.limit();
    let status = status(&end, &sandbox.shell, spec.cwd.as_deref().unwrap_or(&sandbox.session_dir))?;
    let quarantined = unheard.heard();
    refresh::after_command(sandbox, end.report.arrivals).await;
    let read = host("read the output");
    let output = CommandOutput {
        stdout: stdout.map_err(read)?,
        stderr: stderr.map_err(read)?,
        status,
        quarantined,
        limit,
        elapsed: started.elapsed(),
    };
    drop(running);
    prestart::wait_for_next(sandbox, spec);
    Ok(output)
}

/// A command whose end was not heard yet.
struct CompletionGuard<'s> {
    sandbox: &'s Inner,
    began: Option<SystemTime>,
}

impl CompletionGuard<'_> {
    /// Nothing of the command is alive: takes away what it has made where nothing may be made.
    fn heard(mut self) -> Vec<Quarantined> {
        let began = self.began.take();
        let mounts = self.sandbox.mounts();
        began
            .map(|began| {
                self.sandbox.unchecked.quarantine(&mounts.creation_rules.denied_paths, began)
            })
            .unwrap_or_default()
    }
}

impl Drop for CompletionGuard<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            self.sandbox.unchecked.begin(began);
        }
    }
}

/// The host's ends of a command's streams and of its channel.
pub(super) struct Lines {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Does not block.
    pub(super) channel: std::os::unix::net::UnixStream,
}

/// The command's ends. Once they are sent, the command's processes alone are to hold them.
pub(super) struct Ends {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) channel: OwnedFd,
}

pub(super) fn lines() -> Result<(Lines, Ends), ExecError> {
    let host = |operation| move |source: io::Error| ExecError::Host { operation, source };
    let (stdout, stdout_end) = pipe_pair()?;
    let (stderr, stderr_end) = pipe_pair()?;
    let (channel, channel_end) =
        std::os::unix::net::UnixStream::pair().map_err(host("make a socket"))?;
    channel.set_nonblocking(true).map_err(host("use a socket"))?;
    let ends = Ends { stdout: stdout_end, stderr: stderr_end, channel: channel_end.into() };
    Ok((Lines { stdout, stderr, channel }, ends))
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd), ExecError> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| ExecError::Host { operation: "make a pipe", source: errno.into() })
}

/// Starts a fresh shell with the command; gives the writing end of its input, where it has some.
async fn start(sandbox: &Inner, spec: &CommandSpec) -> Result<(Lines, Option<OwnedFd>), ExecError> {
    let body = encode(sandbox, spec, wire::COMMAND_NOW)?;
    let (lines, ends) = lines()?;
    let (stdin_end, stdin) = match spec.stdin.is_empty() {
        true => (None, None),
        false => pipe_pair().map(|(end, writer)| (Some(end), Some(writer)))?,
    };
    let fds =
        [stdin_end.as_ref().unwrap_or(&sandbox.null), &ends.stdout, &ends.stderr, &ends.channel];
    send(sandbox, &body, fds.map(AsFd::as_fd)).await?;
    Ok((lines, stdin))
}

/// The body of a request; a command that comes later leaves its text out.
pub(super) fn encode(sandbox: &Inner, spec: &CommandSpec, when: u32) -> Result<Vec<u8>, ExecError> {
    let cwd = spec.cwd.as_deref().unwrap_or(&sandbox.session_dir);
    let checked = |what: &'static str, text: &OsStr, limit: usize| {
        let bytes = text.as_bytes();
        if bytes.contains(&0) {
            return Err(ExecError::Nul { what });
        }
        if bytes.len() > limit {
            return Err(ExecError::TooLarge {
                what: what.to_owned(),
                size: bytes.len(),
                unit: "bytes",
                limit,
            });
        }
        Ok(())
    };
    checked("command", OsStr::new(&spec.command), MAX_ARGUMENT_BYTES)?;
    checked("working directory", cwd.as_os_str(), 4095)?;
    let count = spec.env.len();
    if count > wire::MAX_VARIABLES {
        let (what, limit) = ("environment".to_owned(), wire::MAX_VARIABLES);
        return Err(ExecError::TooLarge { what, size: count, unit: "variables", limit });
    }
    let mut body = Encoder::default();
    body.u32(wire::VERSION);
    body.u32(when);
    body.text(sandbox.shell.as_os_str().as_bytes());
    body.text(cwd.as_os_str().as_bytes());
    body.text(if when == wire::COMMAND_NOW { spec.command.as_bytes() } else { b"" });
    body.count(count);
    let before = body.0.len();
    for (name, value) in &spec.env {
        let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
        if variable.contains(&0) {
            return Err(ExecError::Nul { what: "environment" });
        }
        if variable.len() > MAX_ARGUMENT_BYTES {
            let what = format!("variable {}", name.to_string_lossy());
            return Err(ExecError::TooLarge {
                what,
                size: variable.len(),
                unit: "bytes",
                limit: MAX_ARGUMENT_BYTES,
            });
        }
        body.text(&variable);
    }
    let size = body.0.len() - before;
    if size > MAX_ENVIRONMENT_BYTES {
        let what = "environment".to_owned();
        return Err(ExecError::TooLarge {
            what,
            size,
            unit: "bytes",
            limit: MAX_ENVIRONMENT_BYTES,
        });
    }
    Ok(body.0)
}

/// Hands the command over; a long body travels in a file in memory.
pub(super) async fn send(
    sandbox: &Inner,
    body: &[u8],
    ends: [BorrowedFd<'_>; 4],
) -> Result<(), ExecError> {
    while !send_once(sandbox, body, ends)? {
        tokio::time::sleep(FULL_SOCKET_PAUSE).await;
    }
    Ok(())
}

/// The same for a thread, which does not wait for ever.
pub(super) fn send_blocking(
    sandbox: &Inner,
    body: &[u8],
    ends: [BorrowedFd<'_>; 4],
    patience: Duration,
) -> Result<(), ExecError> {
    let started = Instant::now();
    while !send_once(sandbox, body, ends)? {
        if started.elapsed() > patience {
            return Err(ExecError::Host {
                operation: "send the request",
                source: io::ErrorKind::TimedOut.into(),
            });
        }
        std::thread::sleep(FULL_SOCKET_PAUSE);
    }
    Ok(())
}

/// `Ok(false)` when the socket is full at this moment.
fn send_once(sandbox: &Inner, body: &[u8], ends: [BorrowedFd<'_>; 4]) -> Result<bool, ExecError> {
    let host = |operation| move |errno: Errno| ExecError::Host { operation, source: errno.into() };
    let file = if body.len() > wire::MAX_MESSAGE_BYTES {
        Some(
            memory_file("command", body, MemfdFlags::NOEXEC_SEAL)
                .map_err(host("make a file in memory"))?,
        )
    } else {
        None
    };
    let message = if file.is_some() { &wire::VERSION.to_le_bytes()[..] } else { body };
    let fds: Vec<_> = ends.into_iter().chain(file.as_ref().map(AsFd::as_fd)).collect();
    sandbox.init.send(message, &fds).map_err(|errno| match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => {
            ExecError::Ended { reason: "it was closed, or its init process was killed" }
        }
        errno => host("send the request")(errno),
    })
}

/// What a slot reports; see `wire`.
pub(super) struct Report {
    kind: u32,
    value: u32,
    limit: u32,
    /// How often something was made in the session that may concern the policy.
    pub(super) arrivals: u32,
}

/// How a command ended, and whether its time was up.
pub(super) struct End {
    pub(super) report: Report,
    pub(super) timed_out: bool,
}

impl End {
    fn limit(&self) -> Option<Limit> {
        match self.report.limit {
            wire::LIMIT_MEMORY => Some(Limit::Memory),
            wire::LIMIT_PROCESSES => Some(Limit::Processes),
            wire::LIMIT_PROCESSOR_TIME => Some(Limit::CpuTime),
            _ => None,
        }
    }
}

/// Waits for the report; when the time is up, closes the channel's sending side, on which the slot
/// kills everything and reports.
async fn hear_end(channel: UnixStream, timeout: Duration) -> Result<End, ExecError> {
    let (mut receiver, sender) = channel.into_split();
    let mut report = pin!(hear_report(&mut receiver));
    let in_time = tokio::time::timeout(timeout, &mut report).await;
    drop(sender);
    let timed_out = in_time.is_err();
    let report = match in_time {
        Ok(report) => report?,
        // A slot that had not begun with the command when it was told goes without a word, and
        // whatever becomes of others, nothing of it is alive.
        Err(_) => report.await.unwrap_or(Report {
            kind: wire::RESULT_SIGNALED,
            value: 9,
            limit: wire::LIMIT_NONE,
            arrivals: 0,
        }),
    };
    Ok(End { report, timed_out })
}

pub(super) async fn hear_report(channel: &mut OwnedReadHalf) -> Result<Report, ExecError> {
    let mut report = [0; wire::REPORT_BYTES];
    let read = channel.read_exact(&mut report).await;
    read.map_err(|_| ExecError::Ended { reason: "the command's supervising process was killed" })?;
    let mut words =
        report.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let [kind, value, limit, arrivals] = std::array::from_fn(|_| words.next().unwrap_or_default());
    Ok(Report { kind, value, limit, arrivals })
}

pub(super) fn status(end: &End, shell: &Path, cwd: &Path) -> Result<CommandStatus, ExecError> {
    let value = end.report.value.cast_signed();
    let source = io::Error::from_raw_os_error(value);
    match end.report.kind {
        wire::RESULT_EXITED | wire::RESULT_SIGNALED if end.timed_out => Ok(CommandStatus::TimedOut),
        wire::RESULT_EXITED => Ok(CommandStatus::Exited(value)),
        wire::RESULT_SIGNALED => Ok(CommandStatus::Signaled(value)),
        wire::RESULT_NO_DIRECTORY => {
            Err(ExecError::WorkingDirectory { path: cwd.to_owned(), source })
        }
        wire::RESULT_NO_SHELL => Err(ExecError::Shell { path: shell.to_owned(), source }),
        _ => Err(ExecError::Host { operation: "start a process", source }),
    }
}

/// Reads a stream to its end, keeps its head, and counts the rest.
async fn capture(
    mut pipe: pipe::Receiver,
    max_bytes: usize,
    null: &OwnedFd,
) -> io::Result<CapturedStream> {
    let mut stream = CapturedStream::default();
    if fill(&mut pipe, max_bytes, &mut stream).await? == Filled::ToTheEnd {
        return Ok(stream);
    }
    let (pipe, null) = (pipe.into_blocking_fd()?, null.try_clone()?);
    // It ends with the command, also when nobody waits for it any more.
    let drained = tokio::task::spawn_blocking(move || drain(&pipe, &null)).await;
    stream.dropped_bytes +=
        drained.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    Ok(stream)
}

/// Has the kernel move the rest of a stream to nowhere, without a copy, and counts it.
fn drain(pipe: &OwnedFd, null: &OwnedFd) -> io::Result<u64> {
    // Large pipes count against a limit of the user (`pipe(7)`), so it may stay as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, DRAIN_BYTES);
    let mut dropped = 0;
    loop {
        match rustix::pipe::splice(pipe, None, null, None, DRAIN_BYTES, SpliceFlags::empty()) {
            Ok(0) => return Ok(dropped),
            Ok(moved) => {
                dropped += moved as u64;
                // Being woken for each write of the command costs both more than the moving.
                if moved < DRAIN_BYTES / 4 {
                    std::thread::sleep(GATHERING_PAUSE);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
