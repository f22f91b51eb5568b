//! The pipes and the channel of a command, and the capture of its output.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::internal::{blocking, lock};
use crate::sandbox::streams::{Filled, fill};
use crate::sandbox::{CapturedStream, ExecError};

/// Time for a process to exit after it has closed its output.
const EXIT_TIME: Duration = Duration::from_millis(20);

/// A function that gets each piece of a command's output.
pub(super) type OutputWatch<'w> = dyn Fn(&[u8]) + Sync + 'w;

/// Output of a command, as a sign that processes that outlived its shell are at work.
pub(super) struct Activity<'w> {
    watch: &'w OutputWatch<'w>,
    open_streams: AtomicUsize,
    /// Set once the engine keeps no more of a stream.
    is_cut: AtomicBool,
    last: Mutex<Instant>,
    ended: Notify,
}

impl<'w> Activity<'w> {
    /// Creates the activity of a command with two streams.
    pub(super) fn new(watch: &'w OutputWatch<'w>) -> Self {
        Self {
            watch,
            open_streams: AtomicUsize::new(2),
            is_cut: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
            ended: Notify::new(),
        }
    }

    /// Waits until both streams are at their end, until one has reached its limit, or until no
    /// output has arrived for `silence` since this call.
    pub(super) async fn wait_for_silence(&self, silence: Duration) {
        let begun = Instant::now();
        loop {
            let is_over = self.open_streams.load(Ordering::SeqCst) == 0;
            let due = begun.max(*lock(&self.last)) + silence;
            if is_over {
                tokio::time::sleep(EXIT_TIME.min(silence)).await;
                return;
            }
            if self.is_cut.load(Ordering::SeqCst) || due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = self.ended.notified() => {}
            }
        }
    }

    fn note_output(&self, output: &[u8]) {
        *lock(&self.last) = Instant::now();
        (self.watch)(output);
    }

    fn note_limit(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.ended.notify_one();
    }

    fn note_end(&self) {
        self.open_streams.fetch_sub(1, Ordering::SeqCst);
        self.ended.notify_one();
    }
}

/// A pipe that notes its output.
struct Watched<'a> {
    pipe: pipe::Receiver,
    activity: &'a Activity<'a>,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.pipe).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.note_output(&buffer.filled()[before..]);
        }
        polled
    }
}

/// Size of a pipe whose content is dropped, and of one move out of it.
const DRAIN_BYTES: usize = 1 << 20;
/// Pause in which output accumulates in such a pipe. The fastest commands need longer to fill it.
const GATHERING_PAUSE: Duration = Duration::from_micros(100);

/// The host's ends of a command's output streams and of its channel.
#[derive(Debug)]
pub(super) struct CommandPipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Non-blocking.
    pub(super) channel: UnixStream,
}

/// The command's ends. The host closes its copies after sending them, so that the streams end with
/// the command.
#[derive(Debug)]
pub(super) struct ChildEnds {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) channel: OwnedFd,
}

/// Creates the output pipes and the channel of one command.
pub(super) fn command_pipes() -> Result<(CommandPipes, ChildEnds), ExecError> {
    let host = |operation| move |source: io::Error| ExecError::Host { operation, source };
    let (stdout, stdout_end) = pipe_pair()?;
    let (stderr, stderr_end) = pipe_pair()?;
    let (channel, channel_end) = UnixStream::pair().map_err(host("create a socket"))?;
    channel.set_nonblocking(true).map_err(host("use a socket"))?;
    let ends = ChildEnds { stdout: stdout_end, stderr: stderr_end, channel: channel_end.into() };
    Ok((CommandPipes { stdout, stderr, channel }, ends))
}

/// Creates a pipe; returns its reading and its writing end.
pub(super) fn pipe_pair() -> Result<(OwnedFd, OwnedFd), ExecError> {
    pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| ExecError::Host { operation: "create a pipe", source: errno.into() })
}

/// Reads a stream to its end, keeps its first `max_bytes`, and counts the rest.
pub(super) async fn capture(
    pipe: pipe::Receiver,
    max_bytes: usize,
    null: &OwnedFd,
    activity: &Activity<'_>,
) -> io::Result<CapturedStream> {
    let mut stream = CapturedStream::default();
    let mut watched = Watched { pipe, activity };
    let filled = fill(&mut watched, max_bytes, &mut stream).await;
    if !matches!(filled, Ok(Filled::ToTheLimit)) {
        activity.note_end();
        return filled.map(|_| stream);
    }
    activity.note_limit();
    let pipe = watched.pipe;
    let (pipe, null) = (pipe.into_blocking_fd()?, null.try_clone()?);
    // The thread ends with the command, even if this future is dropped.
    let drained = blocking(move || drain(&pipe, &null)).await?;
    stream.dropped_bytes += drained;
    Ok(stream)
}

/// Moves the rest of a stream to `/dev/null` inside the kernel, without a copy, and counts it.
fn drain(pipe: &OwnedFd, null: &OwnedFd) -> io::Result<u64> {
    // Large pipes count against a limit of the user (`pipe(7)`), so this may fail.
    let _ = fcntl_setpipe_size(pipe, DRAIN_BYTES);
    let mut dropped = 0;
    loop {
        match splice(pipe, None, null, None, DRAIN_BYTES, SpliceFlags::empty()) {
            Ok(0) => return Ok(dropped),
            Ok(moved) => {
                dropped += moved as u64;
                // A wake-up for each write of the command costs both processes more than the move.
                if moved < DRAIN_BYTES / 4 {
                    std::thread::sleep(GATHERING_PAUSE);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
