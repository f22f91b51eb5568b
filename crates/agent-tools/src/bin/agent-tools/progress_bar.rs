//! Progress bars on the terminal while files are transferred, and for other long work.

use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_tools::{Direction, Progress, printable};
use indicatif::{ProgressBar, ProgressStyle};
use sandbox_core::internal::lock;
use tokio::time::timeout;

use crate::output::errln;

/// The time after which a transfer shows a bar.
const SHOW_AFTER: Duration = Duration::from_millis(500);
/// The time between two pictures of a bar that has no end.
const TICK: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "{msg} {bar:30} {pos}/{len} files";

/// Draws a bar on standard error if that is a terminal.
#[derive(Debug, Default)]
pub(crate) struct TerminalProgress {
    state: Mutex<Option<Transfer>>,
}

#[derive(Debug)]
struct Transfer {
    direction: Direction,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress for TerminalProgress {
    fn advanced(&self, direction: Direction, done: usize, total: usize) {
        let mut state = lock(&self.state);
        let transfer = match &mut *state {
            Some(transfer) if transfer.direction == direction => transfer,
            other => other.insert(Transfer { direction, started: Instant::now(), bar: None }),
        };
        if done == total {
            if let Some(bar) = transfer.bar.take() {
                bar.finish_and_clear();
            }
            *state = None;
        } else if transfer.started.elapsed() >= SHOW_AFTER {
            let bar = transfer.bar.get_or_insert_with(|| new_bar(direction));
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }

    fn waiting_for_owner(&self, url: Option<&str>) {
        let at = url.map(|url| format!(" ({})", printable(url))).unwrap_or_default();
        errln!("agent-tools: waiting for the machine that has the session open{at}");
    }
}

fn new_bar(direction: Direction) -> ProgressBar {
    let style =
        ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    let message = if direction == Direction::Upload { "uploading" } else { "restoring" };
    ProgressBar::no_length().with_style(style).with_message(message)
}

/// Shows on the terminal that work goes on, if it takes a while.
pub(crate) async fn shown<T>(message: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Ok(result) = timeout(SHOW_AFTER, &mut work).await {
        return result;
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(message);
    bar.enable_steady_tick(TICK);
    let result = work.await;
    bar.finish_and_clear();
    result
}
