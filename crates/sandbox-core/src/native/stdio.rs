//! The standard streams that a caller hands to a command.
//!
//! A descriptor is more than its stream. A directory leads to its parents, a socket to others, and
//! the file behind a stream can be opened again through `/proc/self/fd`. So a directory is refused,
//! and a file that the policy does not open for the command goes through a pipe. So does a FIFO
//! with a name, and a socket (`socket`).
//!
//! Other programs may share the offset of a file with the command, such as a shell that runs one
//! command after another. Output is written at the shared offset. After the command, input that it
//! has not read lies behind the shared offset again.

mod pump;
mod socket;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use policy::{Access, MountOp, MountPlan};
use rustix::fs::FileType;

use super::streams::pipe_pair;
use crate::files::by_descriptor;
use crate::sandbox::ExecError;
use pump::{Input, pump};

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

/// Threads that move the content of files and sockets through pipes. Each ends with its command.
#[derive(Debug, Default)]
pub(super) struct Pumps {
    outputs: Vec<JoinHandle<()>>,
    input: Option<Input>,
}

/// Way of a stream to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The descriptor itself.
    Direct,
    /// Through a pipe.
    Pipe,
    /// Through a pipe, from a socket.
    Socket,
}

impl Stdio {
    /// Returns streams that give the command no more access than the plan does. Those in `piped` go
    /// through a pipe in any case.
    ///
    /// # Errors
    /// Returns [`ExecError::Stream`] for a descriptor that is no stream, and [`ExecError::Host`] if
    /// the host is short of descriptors or threads.
    pub(super) fn of(
        given: [BorrowedFd<'_>; 3],
        piped: [bool; 3],
        plan: &MountPlan,
    ) -> Result<Self, ExecError> {
        let mut pumps = Pumps::default();
        let mut streams: Vec<OwnedFd> = Vec::with_capacity(given.len());
        let mut piped_output = None;
        for (number, fd) in given.into_iter().enumerate() {
            let stat = rustix::fs::fstat(fd).map_err(failed)?;
            let way = way(fd, &stat, plan)
                .map_err(|what| ExecError::Stream { which: NAMES[number], what })?;
            let own = rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(failed)?;
            if !piped[number] && way == Way::Direct {
                streams.push(own);
                continue;
            }
            let id = (stat.st_dev, stat.st_ino);
            if number == 0 {
                let (reader, writer) = pipe_pair()?;
                pumps.input = Some(match way {
                    Way::Socket => socket::feed(own, &reader, writer)?,
                    Way::Direct | Way::Pipe => Input::of(own, &reader, writer)?,
                });
                streams.push(reader);
            } else if let Some((_, writer)) =
                piped_output.as_ref().filter(|(known, _)| *known == id)
            {
                // Both outputs go to one file, so their order is kept.
                streams.push(rustix::io::fcntl_dupfd_cloexec(writer, 0).map_err(failed)?);
            } else {
                let (reader, writer) = pipe_pair()?;
                pumps.outputs.push(match way {
                    Way::Socket => socket::send(reader, own)?,
                    Way::Direct | Way::Pipe => pump(reader, own)?,
                });
                let copy = rustix::io::fcntl_dupfd_cloexec(&writer, 0).map_err(failed)?;
                streams.push(writer);
                piped_output = Some((id, copy));
            }
        }
        let streams = streams.try_into().map_err(|_| failed(rustix::io::Errno::INVAL))?;
        Ok(Self { streams, pumps })
    }
}

fn failed(errno: rustix::io::Errno) -> ExecError {
    ExecError::Host { operation: "inspect the standard streams", source: errno.into() }
}

/// Returns the way of a stream, or a phrase that names what cannot be one.
fn way(fd: BorrowedFd<'_>, stat: &rustix::fs::Stat, plan: &MountPlan) -> Result<Way, &'static str> {
    let is_file = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err("a directory"),
        FileType::Socket => return socket::check(fd).map(|()| Way::Socket),
        FileType::RegularFile | FileType::BlockDevice => true,
        FileType::Fifo => has_name(fd),
        // The worker replaces those that every session has. A terminal stays one.
        FileType::CharacterDevice => {
            let number = rustix::fs::minor(stat.st_rdev);
            let is_own = rustix::fs::major(stat.st_rdev) == 1 && OWN.contains(&number);
            !is_own && !rustix::termios::isatty(fd)
        }
        // Such as a descriptor of a process (`pidfd_open(2)`), to which a command could send
        // signals.
        FileType::Symlink | FileType::Unknown => return Err("a descriptor without data"),
    };
    Ok(if is_file && !is_open(fd, plan) { Way::Pipe } else { Way::Direct })
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
