//! Threads that move the content of files through pipes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::sandbox::ExecError;

/// Size of the buffer of a thread.
const BUFFER_BYTES: usize = 64 * 1024;

/// Standard input that a thread moves into a pipe. Dropping it ends the thread. No process of the
/// command may read any more.
#[derive(Debug)]
pub(super) struct Input {
    thread: Option<JoinHandle<()>>,
    /// Counter that ends the thread.
    stop: Arc<OwnedFd>,
    position: Option<ReadPosition>,
}

/// Position in a file up to which a command has read.
#[derive(Debug)]
struct ReadPosition {
    file: File,
    /// Offset at which the command has begun to read.
    start: u64,
    /// Bytes that are in the pipe or were read from it.
    sent: Arc<AtomicU64>,
    /// End of the pipe that the command reads from.
    reader: OwnedFd,
}

impl Input {
    /// Sends a file into a pipe. If it has an offset, that lies behind what the command has read
    /// when the input is dropped.
    pub(super) fn of(file: OwnedFd, reader: &OwnedFd, writer: OwnedFd) -> Result<Self, ExecError> {
        let Ok(start) = rustix::fs::tell(&file) else {
            return Self::start(None, move |stop| send(&file, &writer, stop));
        };
        let failed = |source| ExecError::Host { operation: "use a pipe", source };
        let file = File::from(file);
        let own = file.try_clone().map_err(failed)?;
        let reader = reader.try_clone().map_err(failed)?;
        // Only a write that does not wait tells how much of it is in the pipe.
        rustix::io::ioctl_fionbio(&writer, true).map_err(|errno| failed(errno.into()))?;
        let sent = Arc::new(AtomicU64::new(0));
        let position = ReadPosition { file, start, sent: Arc::clone(&sent), reader };
        Self::start(Some(position), move |stop| send_file(&own, start, &writer, &sent, stop))
    }

    /// Starts a thread, which ends when its counter can be read.
    pub(super) fn start_with(
        work: impl FnOnce(&OwnedFd) + Send + 'static,
    ) -> Result<Self, ExecError> {
        Self::start(None, work)
    }

    fn start(
        position: Option<ReadPosition>,
        work: impl FnOnce(&OwnedFd) + Send + 'static,
    ) -> Result<Self, ExecError> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| ExecError::Host {
            operation: "create an event counter",
            source: errno.into(),
        })?;
        let stop = Arc::new(stop);
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || work(&stopped))?;
        Ok(Self { thread: Some(thread), stop, position })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let is_stopped = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).is_ok();
        let Some(thread) = self.thread.take().filter(|_| is_stopped) else { return };
        if thread.join().is_err() {
            return;
        }
        let Some(ReadPosition { file, start, sent, reader }) = &self.position else { return };
        let Ok(unread) = rustix::io::ioctl_fionread(reader) else { return };
        let read = sent.load(Ordering::Acquire).saturating_sub(unread);
        let _ = rustix::fs::seek(file, rustix::fs::SeekFrom::Start(start + read));
    }
}

/// Moves a stream to another in a thread, until the first ends or the second is closed.
pub(super) fn pump(from: OwnedFd, to: OwnedFd) -> Result<JoinHandle<()>, ExecError> {
    spawn(move || {
        // `std::io::copy` would let the kernel move the data. It reads the offset of a file before
        // it waits for data, and so overwrites what other programs write meanwhile.
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(count) = read_some(&from, &mut buffer, None) {
            if !write_all(&buffer[..count], &to, |rest| rustix::io::write(&to, rest)) {
                return;
            }
        }
    })
}

/// Sends a stream into a pipe.
fn send(from: &OwnedFd, writer: &OwnedFd, stop: &OwnedFd) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while is_ready(from, PollFlags::IN, Some(stop)) {
        let Some(count) = read_some(from, &mut buffer, Some(stop)) else { return };
        if !write_all(&buffer[..count], writer, |rest| rustix::io::write(writer, rest)) {
            return;
        }
    }
}

/// Sends a file into a pipe, from `at`.
fn send_file(file: &File, mut at: u64, writer: &OwnedFd, sent: &AtomicU64, stop: &OwnedFd) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match file.read_at(&mut buffer, at) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match rustix::io::write(writer, rest) {
                Ok(count) => {
                    sent.fetch_add(count as u64, Ordering::Release);
                    rest = &rest[count..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !is_ready(writer, PollFlags::OUT, Some(stop)) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        at += count as u64;
    }
}

/// Waits until a descriptor is ready. Returns `false` after the end of the command, or if no
/// process has the other end of a pipe.
pub(super) fn is_ready(fd: &OwnedFd, wanted: PollFlags, stop: Option<&OwnedFd>) -> bool {
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(fd.as_fd(), wanted)];
        fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {
                let is_stopped = fds.get(1).is_some_and(|stop| !stop.revents().is_empty());
                let is_broken =
                    wanted == PollFlags::OUT && fds[0].revents().contains(PollFlags::ERR);
                return !is_stopped && !is_broken;
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Returns the number of bytes that were read, or `None` at the end.
fn read_some(from: &OwnedFd, buffer: &mut [u8], stop: Option<&OwnedFd>) -> Option<usize> {
    loop {
        match rustix::io::read(from, &mut *buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(Errno::INTR) => {}
            // Another program has made the stream non-blocking for everyone.
            Err(Errno::AGAIN) if is_ready(from, PollFlags::IN, stop) => {}
            Err(_) => return None,
        }
    }
}

/// Writes everything. Returns `false` if the other end is gone.
pub(super) fn write_all(
    mut rest: &[u8],
    to: &OwnedFd,
    mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>,
) -> bool {
    while !rest.is_empty() {
        match write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if is_ready(to, PollFlags::OUT, None) => {}
            Err(_) => return false,
        }
    }
    true
}

pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ExecError> {
    let thread = std::thread::Builder::new().name("sandbox-stdio".to_owned());
    let spawned = thread.stack_size(256 * 1024).spawn(work);
    spawned.map_err(|source| ExecError::Host { operation: "start a thread", source })
}
