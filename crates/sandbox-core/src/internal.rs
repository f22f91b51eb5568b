//! Helpers that the crates of this workspace share. Not covered by semantic versioning.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::files::{
    ReadableDirectory, is_opened_by_grant, is_own_staged_name, is_staged_name, read_open, real_path,
};
pub use crate::id::check_id;

/// Locks a mutex. Ignores poisoning: its data must be valid after a panic at any point.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work in a thread of the tokio runtime and resumes its panic in the caller.
///
/// # Cancel safety
/// The work continues if the caller drops the future.
#[cfg(feature = "_blocking")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
