//! The standard streams that a caller hands to a command.
//!
//! A descriptor is more than its stream. A directory leads to its parents, and the file behind a
//! stream can be opened again through `/proc/self/fd`. So a directory is refused, and a file that
//! the policy does not open for the command goes through a pipe. So does a FIFO with a name.
//!
//! Other programs may share the offset of a file with the command, such as a shell that runs one
//! command after another. Output is written at the shared offset. After the command, input that it
//! has not read lies behind the shared offset again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use policy::{Access, MountOp, MountPlan};
use rustix::fs::FileType;

use super::streams::pipe_pair;
use crate::files::by_descriptor;
use crate::sandbox::ExecError;

/// Size of the buffer of a thread.
const BUFFER_BYTES: usize = 64 * 1024;

/// Names of the standard streams.
const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Minor numbers of the devices with the major number 1 that a session has its own mounts of; see
/// `init/devices.rs`.
const OWN: [u32; 5] = [3, 5, 7, 8, 9];

/// The standard streams of one command.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) streams: [OwnedFd; 3],
    pub(super) pumps: Pumps,
}

/// Threads that move the content of files through pipes. Each ends with its command.
#[derive(Debug, Default)]
pub(super) struct Pumps {
    outputs: Vec<JoinHandle<()>>,
    input: Option<Input>,
}

/// Standard input that comes from a file with an offset.
#[derive(Debug)]
struct Input {
    file: File,
    /// Offset at which the command has begun to read.
    start: u64,
    /// Bytes that are in the pipe or were read from it.
    sent: Arc<AtomicU64>,
    /// End of the pipe that the command reads from.
    reader: OwnedFd,
    thread: Option<JoinHandle<()>>,
    /// Counter that ends the thread.
    stop: Arc<OwnedFd>,
}

impl Stdio {
    /// Returns streams that give the command no more access than the plan does. Those in `piped` go
    /// through a pipe in any case.
    ///
    /// # Errors
    /// Returns [`ExecError::Stream`] for a directory, and [`ExecError::Host`] if the host is short
    /// of descriptors or threads.
    pub(super) fn of(
        given: [BorrowedFd<'_>; 3],
        piped: [bool; 3],
        plan: &MountPlan,
    ) -> Result<Self, ExecError> {
        let failed = |errno: rustix::io::Errno| ExecError::Host {
            operation: "inspect the standard streams",
            source: errno.into(),
        };
        let mut pumps = Pumps::default();
        let mut streams: Vec<OwnedFd> = Vec::with_capacity(given.len());
        let mut piped_output = None;
        for (number, fd) in given.into_iter().enumerate() {
            let stat = rustix::fs::fstat(fd).map_err(failed)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                return Err(ExecError::Stream { which: NAMES[number] });
            }
            let is_file = match kind {
                FileType::RegularFile | FileType::BlockDevice => true,
                FileType::Fifo => has_name(fd),
                // The worker replaces those that every session has. A terminal stays one.
                FileType::CharacterDevice => {
                    let number = rustix::fs::minor(stat.st_rdev);
                    let is_own = rustix::fs::major(stat.st_rdev) == 1 && OWN.contains(&number);
                    !is_own && !rustix::termios::isatty(fd)
                }
                _ => false,
            };
            let own = fd.try_clone_to_owned().map_err(|source| ExecError::Host {
                operation: "inspect the standard streams",
                source,
            })?;
            if !piped[number] && (!is_file || is_open(fd, plan)) {
                streams.push(own);
                continue;
            }
            let id = (stat.st_dev, stat.st_ino);
            if number == 0 {
                let (reader, writer) = pipe_pair()?;
                pumps.input = feed(own, &reader, writer)?;
                streams.push(reader);
            } else if let Some((_, writer)) =
                piped_output.as_ref().filter(|(known, _)| *known == id)
            {
                // Both outputs go to one file, so their order is kept.
                streams.push(rustix::io::fcntl_dupfd_cloexec(writer, 0).map_err(failed)?);
            } else {
                let (reader, writer) = pipe_pair()?;
                pumps.outputs.push(pump(reader, own)?);
                let copy = rustix::io::fcntl_dupfd_cloexec(&writer, 0).map_err(failed)?;
                streams.push(writer);
                piped_output = Some((id, copy));
            }
        }
        let streams = streams.try_into().map_err(|_| failed(rustix::io::Errno::INVAL))?;
        Ok(Self { streams, pumps })
    }
}

impl Pumps {
    /// Waits until the output of an exited command is in its files.
    pub(super) fn finish(self) {
        for output in self.outputs {
            // A thread that panicked has nothing to wait for.
            let _ = output.join();
        }
        drop(self.input);
    }

    pub(super) fn are_none(&self) -> bool {
        self.outputs.is_empty() && self.input.is_none()
    }
}

impl Drop for Input {
    /// Ends the thread, and sets the offset of the file behind what the command has read. No
    /// process of the command reads any more.
    fn drop(&mut self) {
        let is_stopped = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).is_ok();
        let Some(thread) = self.thread.take().filter(|_| is_stopped) else { return };
        if thread.join().is_err() {
            return;
        }
        let Ok(unread) = rustix::io::ioctl_fionread(&self.reader) else { return };
        let read = self.sent.load(Ordering::Acquire).saturating_sub(unread);
        let _ = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(self.start + read));
    }
}

/// Returns whether a FIFO has a name in a file system, under which others can open it.
fn has_name(fd: BorrowedFd<'_>) -> bool {
    std::fs::read_link(by_descriptor(&fd)).is_ok_and(|path| path.is_absolute())
}

/// Returns whether the plan lets commands write to the file behind a descriptor. A command can open
/// the file of any descriptor for writing, also if the descriptor was opened for reading.
fn is_open(fd: BorrowedFd<'_>, plan: &MountPlan) -> bool {
    let Ok(path) = std::fs::read_link(by_descriptor(&fd)) else { return false };
    // A removed file has no path, and this text may be that of another file.
    let is_linked = rustix::fs::fstat(fd).is_ok_and(|own| {
        rustix::fs::lstat(&path)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
    });
    // A private directory covers the host's.
    let covers = |op: &&MountOp| op.path().is_none_or(|point| path.starts_with(point));
    let is_covered =
        matches!(plan.ops.iter().rev().find(covers), Some(MountOp::Private { .. }) | None);
    is_linked && !is_covered && plan.allows(&path, Access::Write)
}

/// Moves a stream to another in a thread, until the first ends or the second is closed.
fn pump(from: OwnedFd, to: OwnedFd) -> Result<JoinHandle<()>, ExecError> {
    spawn(move || {
        // `std::io::copy` would let the kernel move the data. It reads the offset of a file before
        // it waits for data, and so overwrites what other programs write meanwhile.
        let (mut from, mut to) = (File::from(from), File::from(to));
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(count) = read_some(|| from.read(&mut buffer)) {
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Sends a file into a pipe in a thread. Returns the input if the file has an offset.
fn feed(file: OwnedFd, reader: &OwnedFd, writer: OwnedFd) -> Result<Option<Input>, ExecError> {
    let Ok(start) = rustix::fs::tell(&file) else {
        pump(file, writer)?;
        return Ok(None);
    };
    let failed = |source| ExecError::Host { operation: "use a pipe", source };
    let file = File::from(file);
    let own = file.try_clone().map_err(failed)?;
    let reader = reader.try_clone().map_err(failed)?;
    // Only a write that does not wait tells how much of it is in the pipe.
    rustix::io::ioctl_fionbio(&writer, true).map_err(|errno| failed(errno.into()))?;
    let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
    let stop = Arc::new(stop.map_err(|errno| failed(errno.into()))?);
    let sent = Arc::new(AtomicU64::new(0));
    let (counter, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
    let thread = spawn(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut writer = File::from(writer);
        let mut at = start;
        while let Some(count) = read_some(|| own.read_at(&mut buffer, at)) {
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                match writer.write(rest) {
                    Ok(count) => {
                        counter.fetch_add(count as u64, Ordering::Release);
                        rest = &rest[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if !has_room(&writer, &stopped) {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
            at += count as u64;
        }
    })?;
    Ok(Some(Input { file, start, sent, reader, thread: Some(thread), stop }))
}

/// Waits until a pipe has room. Returns `false` if no process reads from it any more, or after the
/// end of the command.
fn has_room(writer: &File, stop: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags};

    let mut ready = [
        PollFd::from_borrowed_fd(writer.as_fd(), PollFlags::OUT),
        PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
    ];
    match rustix::event::poll(&mut ready, None) {
        Ok(_) => {
            let [writer, stop] = ready.map(|fd| fd.revents());
            stop.is_empty() && !writer.contains(PollFlags::ERR)
        }
        Err(errno) => errno == rustix::io::Errno::INTR,
    }
}

/// Returns the number of bytes that were read, or `None` at the end.
fn read_some(mut read: impl FnMut() -> io::Result<usize>) -> Option<usize> {
    loop {
        match read() {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ExecError> {
    let thread = std::thread::Builder::new().name("sandbox-stdio".to_owned());
    let spawned = thread.stack_size(256 * 1024).spawn(work);
    spawned.map_err(|source| ExecError::Host { operation: "start a thread", source })
}
