//! The pipes and the channel of a command, and the capture of its output.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::unix::pipe;

use crate::internal::blocking;
use crate::sandbox::streams::{Filled, fill};
use crate::sandbox::{CapturedStream, ExecError};

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
    mut pipe: pipe::Receiver,
    max_bytes: usize,
    null: &OwnedFd,
) -> io::Result<CapturedStream> {
    let mut stream = CapturedStream::default();
    if fill(&mut pipe, max_bytes, &mut stream).await? == Filled::ToTheEnd {
        return Ok(stream);
    }
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
