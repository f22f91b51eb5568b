//! A bar on the terminal while files are on their way.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_tools::{Direction, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use sandbox_core::internal::lock;

/// What is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
const TEMPLATE: &str = "{msg} {bar:30} {pos}/{len} files";

/// Draws on standard error, where that is a terminal.
#[derive(Debug, Default)]
pub(crate) struct Bar {
    state: Mutex<Option<Transfer>>,
}

#[derive(Debug)]
struct Transfer {
    direction: Direction,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress for Bar {
    fn advanced(&self, direction: Direction, done: usize, total: usize) {
        let mut state = lock(&self.state);
        let transfer = match &mut *state {
            Some(transfer) if transfer.direction == direction => transfer,
            other => other.insert(Transfer { direction, begun: Instant::now(), bar: None }),
        };
        if done == total {
            if let Some(bar) = transfer.bar.take() {
                bar.finish_and_clear();
            }
            *state = None;
        } else if transfer.begun.elapsed() >= PATIENCE {
            let bar = transfer.bar.get_or_insert_with(|| begin(direction));
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }
}

fn begin(direction: Direction) -> ProgressBar {
    let style =
        ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    let what = if direction == Direction::Upload { "uploading" } else { "restoring" };
    ProgressBar::no_length().with_style(style).with_message(what)
}
