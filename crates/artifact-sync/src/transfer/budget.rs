//! Memory for file content that uploads may hold at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most file content that all uploads hold in memory.
const BUDGET_BYTES: u64 = 40 << 20;

/// Shared limit on the memory of uploads.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    /// Free memory, in kibibytes.
    free: Arc<Semaphore>,
}

/// Part of the budget, which returns to it when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    _permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// Waits until memory is free. More than the whole budget counts as the whole budget.
    pub(crate) async fn reserve(&self, bytes: u64) -> Reserved {
        let kibibytes = bytes.div_ceil(1024).clamp(1, BUDGET_BYTES / 1024) as u32;
        let permit = Arc::clone(&self.free).acquire_many_owned(kibibytes).await;
        Reserved { _permit: permit.expect("the budget is never closed") }
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new((BUDGET_BYTES / 1024) as usize)) }
    }
}
