//! The threads that move bytes between a pseudo-terminal and the terminal of the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};

use crate::sandbox::ExecError;

/// Size of one read.
const CHUNK_BYTES: usize = 4096;

/// Both directions of one pseudo-terminal. Dropping it stops the reading of the caller's terminal.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
    printing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The outer end of the pseudo-terminal.
    master: OwnedFd,
    is_reading: AtomicBool,
    is_over: AtomicBool,
    /// Wakes the thread that reads.
    wake: OwnedFd,
}

impl Relay {
    /// Starts to print what the command writes. Nothing is read yet.
    pub(super) fn start(
        master: OwnedFd,
        typed: OwnedFd,
        printed: OwnedFd,
    ) -> Result<Self, ExecError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| {
            ExecError::Host { operation: "create an event counter", source: errno.into() }
        })?;
        let (is_reading, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { master, is_reading, is_over, wake });
        let (prints, reads) = (Arc::clone(&shared), Arc::clone(&shared));
        let printing = spawn(move || prints.print(&printed))?;
        let relay = Self { shared, printing: Some(printing) };
        spawn(move || reads.forward(&typed))?;
        Ok(relay)
    }

    pub(super) fn master(&self) -> BorrowedFd<'_> {
        self.shared.master.as_fd()
    }

    /// Begins to read the caller's terminal.
    pub(super) fn read(&self) {
        self.shared.set(&self.shared.is_reading, true);
    }

    /// Stops reading. A read that has begun returns what is there.
    pub(super) fn pause(&self) {
        self.shared.set(&self.shared.is_reading, false);
    }

    /// Returns a function that waits until all output is printed. The inner end must be closed, or
    /// be closed soon.
    pub(super) fn finish(&mut self) -> impl FnOnce() + Send + 'static {
        let printing = self.printing.take();
        move || {
            if let Some(printing) = printing {
                // A thread that panicked has nothing to wait for.
                let _ = printing.join();
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.set(&self.shared.is_over, true);
    }
}

impl Shared {
    fn set(&self, state: &AtomicBool, value: bool) {
        state.store(value, Ordering::SeqCst);
        let _ = write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Moves output until no process has the inner end open.
    fn print(&self, printed: &OwnedFd) {
        let mut buffer = [0; CHUNK_BYTES];
        while let Some(count) = read_some(&self.master, &mut buffer) {
            write_all(printed, &buffer[..count]);
        }
    }

    /// Moves input while it is wanted, until the end of the command or of the caller's terminal.
    fn forward(&self, typed: &OwnedFd) {
        let mut buffer = [0; CHUNK_BYTES];
        while !self.is_over.load(Ordering::SeqCst) {
            let wake = PollFd::new(&self.wake, PollFlags::IN);
            let mut fds = vec![wake];
            if self.is_reading.load(Ordering::SeqCst) {
                fds.push(PollFd::new(typed, PollFlags::IN));
            }
            let _ = poll(&mut fds, None);
            let is_awake = !fds[0].revents().is_empty();
            let found = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
            if is_awake {
                let _ = read(&self.wake, &mut [0; 8]);
            }
            // The caller may have restored the modes in the meantime, in which a read can wait.
            if !self.is_reading.load(Ordering::SeqCst) || found.is_empty() {
                continue;
            }
            match read(typed, &mut buffer) {
                Ok(count) if count > 0 => write_all(&self.master, &buffer[..count]),
                Ok(_) if found.contains(PollFlags::HUP) => return,
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads at least one byte. Returns `None` at the end: the kernel reports `EIO` when no process has
/// the other end open.
fn read_some(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match read(fd, &mut *buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Writes everything, unless the other end is gone.
fn write_all(fd: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Another program has made the terminal non-blocking for everyone.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ExecError> {
    let thread = std::thread::Builder::new().name("sandbox-terminal".to_owned());
    thread
        .stack_size(256 * 1024)
        .spawn(run)
        .map_err(|source| ExecError::Host { operation: "start a thread", source })
}
