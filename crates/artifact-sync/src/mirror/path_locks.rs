//! Locks of single paths.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sandbox_core::internal::lock;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks of the paths that are in use.
#[derive(Debug, Default)]
pub(super) struct PathLocks(Mutex<HashMap<String, Arc<AsyncMutex<()>>>>);

/// Use of a path, until this value is dropped.
#[derive(Debug)]
pub(super) struct PathGuard<'l> {
    locks: &'l PathLocks,
    path: &'l str,
    held: Option<OwnedMutexGuard<()>>,
}

impl PathLocks {
    /// Waits until no one else uses the path.
    pub(super) async fn lock<'l>(&'l self, path: &'l str) -> PathGuard<'l> {
        let mutex = Arc::clone(lock(&self.0).entry(path.to_owned()).or_default());
        // The entry is removed also if the wait is cancelled.
        let mut guard = PathGuard { locks: self, path, held: None };
        guard.held = Some(mutex.lock_owned().await);
        guard
    }
}

impl Drop for PathGuard<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = lock(&self.locks.0);
        if locks.get(self.path).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            locks.remove(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_path_has_one_user_and_leaves_nothing() {
        let locks = PathLocks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").now_or_never();
        assert!(other.is_some());
        // A cancelled wait does not count.
        assert!(locks.lock("a").now_or_never().is_none());
        let waiting = locks.lock("a");
        drop(first);
        drop((waiting.await, other));
        assert!(lock(&locks.0).is_empty());
    }
}
