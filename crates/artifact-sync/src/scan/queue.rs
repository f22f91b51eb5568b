//! Stack of directories that the threads of a walk share.

use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sandbox_core::internal::{ReadableDirectory, lock};

/// Directory to list.
pub(super) struct Job {
    pub(super) parent: Arc<ReadableDirectory>,
    /// Name in the parent; `None` for the parent itself.
    pub(super) name: Option<Box<CStr>>,
    /// Path with a closing slash; empty for the root.
    pub(super) prefix: String,
    pub(super) depth: usize,
}

/// Stack of directories to list. Taking the newest first keeps few descriptors open.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    jobs: Vec<Job>,
    /// Number of jobs that are queued or running.
    unfinished: usize,
}

impl Job {
    /// Creates the job of an open directory, whose entries get this prefix.
    pub(super) fn of(parent: Arc<ReadableDirectory>, prefix: String) -> Self {
        let depth = prefix.matches('/').count();
        Self { parent, name: None, prefix, depth }
    }

    /// Returns the path without a closing slash.
    pub(super) fn path(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }
}

impl Queue {
    pub(super) fn new(jobs: Vec<Job>) -> Self {
        let unfinished = jobs.len();
        Self { state: Mutex::new(QueueState { jobs, unfinished }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// Waits for the next job. Returns `None` after the last one has finished.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                return Some(job);
            }
            if state.unfinished == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Finishes a job and adds the jobs that it found.
    pub(super) fn done(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        state.unfinished += jobs.len();
        state.unfinished -= 1;
        let must_wake = !jobs.is_empty() || state.unfinished == 0;
        state.jobs.extend(jobs);
        drop(state);
        if must_wake {
            self.changed.notify_all();
        }
    }
}
