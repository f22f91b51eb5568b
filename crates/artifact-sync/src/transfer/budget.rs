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
    sent: Arc<AtomicU64>,
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
        Reserved { budget: self.clone(), permit: permit.expect("the budget is never closed") }
    }

    /// Counts a content, or a part of one, that the store has accepted.
    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of contents and parts that the store has accepted. It grows while uploads
    /// make progress, and not while requests fail.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
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
        Self { free, spare: Arc::default(), sent: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_accepted_contents_are_progress() {
        let budget = MemoryBudget::default();
        for _ in 0..3 {
            drop(budget.reserve(1 << 20).await);
        }
        assert_eq!(budget.sent(), 0);
        budget.count_sent();
        assert_eq!(budget.sent(), 1);
    }
}
