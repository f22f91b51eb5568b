//! Progress on the terminal, while files are transferred and during other long work.

use std::pin::pin;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use agent_tools::{Direction, Progress, printable};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sandbox_core::internal::lock;
use tokio::time::timeout;

use crate::output::errln;

/// The time after which work shows its progress.
const SHOW_AFTER: Duration = Duration::from_millis(500);
/// The time between two pictures of a bar that has no end.
const TICK: Duration = Duration::from_millis(100);

/// All bars of this process, one a line. They are drawn on standard error if that is a terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The display of progress on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bars {
    Shown,
    Hidden,
}

impl Bars {
    /// Creates a bar, or one that is never drawn.
    fn add(self, template: &str, message: &'static str) -> ProgressBar {
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = match self {
            Self::Shown => BARS.add(ProgressBar::no_length()),
            Self::Hidden => ProgressBar::hidden(),
        };
        bar.with_style(style).with_message(message)
    }

    /// Shows that work goes on, if it takes a while.
    pub(crate) async fn during<T>(self, message: &'static str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(result) = timeout(SHOW_AFTER, &mut work).await {
            return result;
        }
        let bar = self.add("{spinner} {msg} {elapsed}", message);
        // A signal drops the future, and must leave no bar behind.
        let cleared = Cleared(bar);
        cleared.0.enable_steady_tick(TICK);
        work.await
    }

    /// Returns the progress of a stream of bytes.
    pub(crate) fn of_stream(self, message: &'static str) -> StreamProgress {
        StreamProgress { bars: self, message, bytes: 0, begun: Instant::now(), bar: None }
    }
}

/// A bar that is removed when this is dropped.
#[derive(Debug)]
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The progress of a stream of bytes whose length is unknown.
#[derive(Debug)]
pub(crate) struct StreamProgress {
    bars: Bars,
    message: &'static str,
    bytes: u64,
    begun: Instant,
    bar: Option<Cleared>,
}

impl StreamProgress {
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.begun.elapsed() >= SHOW_AFTER {
            let (bars, message) = (self.bars, self.message);
            let new = || Cleared(bars.add("{msg} {bytes} ({bytes_per_sec})", message));
            self.bar.get_or_insert_with(new).0.set_position(self.bytes);
        }
    }
}

/// Shows the progress of restores and uploads.
#[derive(Debug)]
pub(crate) struct TransferProgress {
    bars: Bars,
    state: Mutex<Option<Transfer>>,
}

#[derive(Debug)]
struct Transfer {
    direction: Direction,
    started: Instant,
    bar: Option<Cleared>,
}

impl TransferProgress {
    pub(crate) fn new(bars: Bars) -> Self {
        Self { bars, state: Mutex::default() }
    }
}

impl Progress for TransferProgress {
    fn advanced(&self, direction: Direction, done: usize, total: usize) {
        let mut state = lock(&self.state);
        let transfer = match &mut *state {
            Some(transfer) if transfer.direction == direction => transfer,
            other => other.insert(Transfer { direction, started: Instant::now(), bar: None }),
        };
        if done == total {
            *state = None;
        } else if transfer.started.elapsed() >= SHOW_AFTER {
            let message = if direction == Direction::Upload { "uploading" } else { "restoring" };
            let new = || Cleared(self.bars.add("{msg} {bar:30} {pos}/{len} files", message));
            let Cleared(bar) = transfer.bar.get_or_insert_with(new);
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }

    fn waiting_for_owner(&self, url: Option<&str>) {
        let at = url.map(|url| format!(" ({})", printable(url))).unwrap_or_default();
        errln!("agent-tools: waiting for the machine that has the session open{at}");
    }
}
