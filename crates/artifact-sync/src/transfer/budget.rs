//! Memory for file content that uploads may hold at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use sandbox_core::internal::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most file content that all uploads hold in memory.
const BUDGET_BYTES: u64 = 40 << 20;

/// Shared limit on the memory of uploads.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    /// Free memory, in kibibytes.
    free: Arc<Semaphore>,
    /// Buffers of parts that were sent. An allocator would return few of them to the system.
    spare: Arc<Mutex<Vec<BytesMut>>>,
    reservations: Arc<AtomicU64>,
}

/// Part of the budget, which returns to it when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: MemoryBudget,
    permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// Waits until memory is free. More than the whole budget counts as the whole budget.
    pub(crate) async fn reserve(&self, bytes: u64) -> Reserved {
        let kibibytes = bytes.div_ceil(1024).clamp(1, BUDGET_BYTES / 1024) as u32;
        let permit = Arc::clone(&self.free).acquire_many_owned(kibibytes).await;
        self.reservations.fetch_add(1, Ordering::Relaxed);
        Reserved { budget: self.clone(), permit: permit.expect("the budget is never closed") }
    }

    /// Returns the number of reservations so far, which grows while uploads make progress.
    pub(crate) fn reservations(&self) -> u64 {
        self.reservations.load(Ordering::Relaxed)
    }

    /// Returns a buffer of this length with any content.
    pub(crate) fn buffer(&self, length: usize) -> BytesMut {
        let mut buffer = lock(&self.spare).pop().unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes a buffer back that nothing else uses any more.
    pub(crate) fn recycle(&self, part: Bytes) {
        if let Ok(buffer) = part.try_into_mut() {
            lock(&self.spare).push(buffer);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let free = self.budget.free.available_permits() + self.permit.num_permits();
        if free as u64 == BUDGET_BYTES / 1024 {
            // Nothing is being uploaded.
            lock(&self.budget.spare).clear();
        }
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        let free = Arc::new(Semaphore::new((BUDGET_BYTES / 1024) as usize));
        Self { free, spare: Arc::default(), reservations: Arc::default() }
    }
}
