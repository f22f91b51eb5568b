//! A stream that shows its progress on the terminal.

use std::io::{Read, Result, Write};

use crate::progress_bar::{Bars, StreamProgress};

/// A stream whose bytes are counted.
pub(super) struct Counted<S> {
    stream: S,
    progress: StreamProgress,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, bars: Bars) -> Self {
        Self { stream, progress: bars.of_stream("copying") }
    }
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.stream.read(buffer)?;
        self.progress.advance(read);
        Ok(read)
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let written = self.stream.write(buffer)?;
        self.progress.advance(written);
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}
