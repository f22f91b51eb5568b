//! Progress of transfers.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// From the directory to the store.
    Upload,
    /// From the store to the directory.
    Download,
}

/// Receiver of transfer progress.
pub trait Progress: fmt::Debug + Send + Sync {
    /// Reports that `done` of `total` files are finished. The mirror calls this often and from any
    /// thread, so it must not block.
    fn advanced(&self, direction: Direction, done: usize, total: usize);

    /// Reports that opening waits until the home that owns the session releases it or counts as
    /// dead. `url` is the address of that home, if it has one. By default, does nothing.
    fn waiting_for_owner(&self, _url: Option<&str>) {}
}

/// Counter of the finished files of one transfer.
pub(crate) struct ProgressCounter<'p> {
    progress: Option<&'p dyn Progress>,
    direction: Direction,
    done: AtomicUsize,
    total: usize,
}

impl<'p> ProgressCounter<'p> {
    pub(crate) fn new(
        progress: Option<&'p dyn Progress>,
        direction: Direction,
        total: usize,
    ) -> Self {
        Self { progress, direction, done: AtomicUsize::new(0), total }
    }

    pub(crate) fn increment(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(progress) = self.progress {
            progress.advanced(self.direction, done, self.total);
        }
    }
}
