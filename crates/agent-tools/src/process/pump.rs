//! Output on its way from a process to its reader: values are replaced, and its end is kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox_core::PseudoTerminal;
use sandbox_core::internal::{is_readable_within, lock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::redaction::OutputRedaction;

/// The size of the end of standard error in which denials are searched.
const TAIL_BYTES: usize = 64 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// Pause after which the reader gets a short end of the output although it may begin a value.
const SILENCE: Duration = Duration::from_millis(200);
/// Shortest time between two notifications of a stream. One wakes another thread, which costs as
/// much as a piece.
const NOTIFICATION_PAUSE: Duration = Duration::from_millis(2);
/// The size of the stack of a thread.
const STACK_BYTES: usize = 256 * 1024;
/// `EIO`: no process has the inner end of a terminal open (`errno(3)`).
const TERMINAL_ENDED: i32 = 5;

/// The end of standard error, as the process has written it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, output: &[u8]) {
        let mut bytes = lock(&self.0);
        bytes.extend(&output[output.len().saturating_sub(TAIL_BYTES)..]);
        let excess = bytes.len().saturating_sub(TAIL_BYTES);
        bytes.drain(..excess);
    }

    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = lock(&self.0).iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The changes to output on its way.
#[derive(Debug)]
pub(super) struct Filter {
    redaction: Option<OutputRedaction>,
    tail: Option<Tail>,
    activity: Arc<Notify>,
    /// The time of the last notification.
    notified: Option<Instant>,
}

impl Filter {
    /// Creates the filter of a new stream, which notifies `activity` while output comes.
    pub(super) fn new(
        redaction: Option<OutputRedaction>,
        tail: Option<Tail>,
        activity: Arc<Notify>,
    ) -> Self {
        Self { redaction, tail, activity, notified: None }
    }

    /// Returns the output that can be passed on after this piece.
    fn pass<'o>(&mut self, piece: &'o [u8], redacted: &'o mut Vec<u8>) -> &'o [u8] {
        self.notify();
        if let Some(tail) = &self.tail {
            tail.push(piece);
        }
        let Some(redaction) = &mut self.redaction else { return piece };
        redacted.clear();
        redaction.push(piece, redacted);
        redacted
    }

    /// Returns whether output waits for more.
    fn is_holding(&self) -> bool {
        self.redaction.as_ref().is_some_and(OutputRedaction::is_holding)
    }

    /// Returns the output that can be passed on after a pause.
    fn after_silence<'o>(&mut self, shown: &'o mut Vec<u8>) -> &'o [u8] {
        shown.clear();
        if let Some(redaction) = &mut self.redaction {
            redaction.show_held(shown);
        }
        shown
    }

    fn notify(&mut self) {
        let now = Instant::now();
        if self.notified.is_none_or(|last| now.duration_since(last) >= NOTIFICATION_PAUSE) {
            self.activity.notify_one();
            self.notified = Some(now);
        }
    }

    /// Returns the rest of the output.
    fn finish(self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Some(redaction) = self.redaction {
            redaction.finish(&mut rest);
        }
        rest
    }
}

/// The end of one stream: its last byte was passed on, or could not be.
pub(super) type Pumped = oneshot::Receiver<io::Result<()>>;

/// Passes on a pipe in a thread, which ends with the process.
pub(super) fn pump(from: OwnedFd, to: OwnedFd, mut filter: Filter) -> io::Result<Pumped> {
    let (sender, pumped) = oneshot::channel();
    let (mut from, mut to) = (File::from(from), File::from(to));
    let work = move || -> io::Result<()> {
        let (mut buffer, mut redacted) = (vec![0; BUFFER_BYTES], Vec::new());
        loop {
            if filter.is_holding() && !is_readable_within(from.as_fd(), SILENCE)? {
                to.write_all(filter.after_silence(&mut redacted))?;
            }
            match from.read(&mut buffer) {
                Ok(0) => return to.write_all(&filter.finish()),
                Ok(count) => to.write_all(filter.pass(&buffer[..count], &mut redacted))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    let thread = std::thread::Builder::new().name("process-output".to_owned());
    thread.stack_size(STACK_BYTES).spawn(move || {
        let _ = sender.send(unless_unread(work()));
    })?;
    Ok(pumped)
}

/// Passes on what a terminal shows, to a pipe of this program.
pub(super) fn pump_terminal(
    terminal: &PseudoTerminal,
    to: OwnedFd,
    mut filter: Filter,
) -> io::Result<Pumped> {
    let (sender, pumped) = oneshot::channel();
    // A terminal is read like a pipe.
    let copy = terminal.as_fd().try_clone_to_owned()?;
    let mut from = pipe::Receiver::from_owned_fd_unchecked(copy)?;
    let mut to = pipe::Sender::from_owned_fd(to)?;
    let work = async move {
        let (mut buffer, mut redacted) = (vec![0; BUFFER_BYTES], Vec::new());
        loop {
            let mut reading = pin!(from.read(&mut buffer));
            let read = match filter.is_holding() {
                true => match timeout(SILENCE, &mut reading).await {
                    Ok(read) => read,
                    Err(_) => {
                        to.write_all(filter.after_silence(&mut redacted)).await?;
                        reading.await
                    }
                },
                false => reading.await,
            };
            match read {
                Err(error) if error.raw_os_error() == Some(TERMINAL_ENDED) => break,
                Ok(0) => break,
                read => to.write_all(filter.pass(&buffer[..read?], &mut redacted)).await?,
            }
        }
        to.write_all(&filter.finish()).await
    };
    tokio::spawn(async move {
        let _ = sender.send(unless_unread(work.await));
    });
    Ok(pumped)
}

/// A reader that closes a pipe wants no more output, which is no failure.
fn unless_unread(pumped: io::Result<()>) -> io::Result<()> {
    match pumped {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        pumped => pumped,
    }
}
