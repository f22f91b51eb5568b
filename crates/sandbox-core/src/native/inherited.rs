//! Descriptors that the parent of this process has left open for it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Returns a copy of a readable descriptor that this process has inherited. Its number stays open.
///
/// # Errors
/// Returns the error of the system call, `NotFound` for a number that was not inherited, or
/// `InvalidInput` for a descriptor that cannot be read.
pub fn inherited_descriptor(number: u32) -> io::Result<OwnedFd> {
    let absent = || io::Error::new(io::ErrorKind::NotFound, "it is not open");
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))
        .map_err(|error| if error.kind() == io::ErrorKind::NotFound { absent() } else { error })?;
    // The flags of `open(2)` in octal (`proc_pid_fdinfo(5)`).
    let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    let flags = flags.ok_or_else(|| io::Error::other("its flags are unknown"))?;
    // An inherited descriptor lacks the flag, and all that this process has opened have it.
    if flags & rustix::fs::OFlags::CLOEXEC.bits() != 0 {
        return Err(absent());
    }
    let access = flags & rustix::fs::OFlags::RWMODE.bits();
    let is_path = flags & rustix::fs::OFlags::PATH.bits() != 0;
    if is_path || access == rustix::fs::OFlags::WRONLY.bits() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not open for reading"));
    }
    let number = i32::try_from(number).map_err(|_| absent())?;
    let copied = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()));
    let copy = match copied {
        Ok(copy) => copy,
        // Some containers deny the call. A pipe can be opened again.
        Err(errno) => {
            let path = format!("/proc/self/fd/{number}");
            fs::File::open(path).map_err(|_| io::Error::from(errno))?.into()
        }
    };
    if fs::File::from(copy.try_clone()?).metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    Ok(copy)
}

/// Waits until a descriptor has something to read, or has ended.
///
/// # Errors
/// Returns the error of the system call.
pub fn wait_until_readable(descriptor: impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
