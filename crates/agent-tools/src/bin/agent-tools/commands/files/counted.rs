//! A stream that shows its progress on the terminal, if it takes longer than a second.

use std::io::{IsTerminal, Read, Result, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The time after which a copy shows its progress.
const SHOW_AFTER: Duration = Duration::from_secs(1);
const TEMPLATE: &str = "{msg} {bytes} ({bytes_per_sec})";

/// A stream whose bytes are counted.
pub(super) struct Counted<S> {
    stream: S,
    bytes: u64,
    begun: Instant,
    /// True if standard error is a terminal.
    is_shown: bool,
    bar: Option<ProgressBar>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        Self { stream, bytes: 0, begun: Instant::now(), is_shown, bar: None }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.is_shown && self.begun.elapsed() >= SHOW_AFTER {
            self.bar.get_or_insert_with(new_bar).set_position(self.bytes);
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::no_length().with_style(style).with_message("copying")
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.stream.read(buffer)?;
        self.count(read);
        Ok(read)
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let written = self.stream.write(buffer)?;
        self.count(written);
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
