//! The idle workers of a session: a count, and a flag for each worker, in memory that init and the
//! workers share.
//!
//! Each worker has a flag so that init can discount one that was killed while idle. Count and flag
//! change one after the other. A kill between the two changes makes the count too low, never too
//! high. So init may start one worker too many, and never one too few.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::{self, Result};

/// Maximum number of workers, and so of overlapping commands. Further commands wait until a worker
/// is idle.
const MAX_WORKERS: usize = 1024;

/// Index of a worker in the pool.
#[derive(Clone, Copy)]
pub struct WorkerIndex(usize);

impl WorkerIndex {
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

struct Shared {
    idle_count: AtomicI32,
    creations: AtomicU32,
    unroutable: AtomicU32,
    is_idle: [AtomicBool; MAX_WORKERS],
}

// SAFETY: zero bytes are counts of 0 and flags that are false.
unsafe impl sys::Zero for Shared {}

pub struct Pool(&'static Shared);

impl Pool {
    pub fn new() -> Result<Self> {
        sys::shared_memory::<Shared>().map(Self)
    }

    /// Counts a call that may create a name that the host watches for.
    pub fn note_creation(&self) {
        self.0.creations.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the number of counted calls.
    pub fn creations(&self) -> u32 {
        self.0.creations.load(Ordering::SeqCst)
    }

    /// Counts a connection that would need a network.
    pub fn note_unroutable(&self) {
        self.0.unroutable.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the number of counted connections.
    pub fn unroutable(&self) -> u32 {
        self.0.unroutable.load(Ordering::SeqCst)
    }

    pub fn has_idle(&self) -> bool {
        self.0.idle_count.load(Ordering::SeqCst) > 0
    }

    /// Counts a worker as idle: it is about to start, or has finished its command.
    pub fn add_idle(&self, WorkerIndex(index): WorkerIndex) {
        self.0.is_idle[index].store(true, Ordering::SeqCst);
        self.0.idle_count.fetch_add(1, Ordering::SeqCst);
    }

    /// Discounts a worker that takes a command or has exited. Returns whether it was the last idle
    /// one.
    pub fn remove_idle(&self, WorkerIndex(index): WorkerIndex) -> bool {
        if !self.0.is_idle[index].load(Ordering::SeqCst) {
            return false;
        }
        let before = self.0.idle_count.fetch_sub(1, Ordering::SeqCst);
        self.0.is_idle[index].store(false, Ordering::SeqCst);
        before <= 1
    }

    /// Discounts a worker that wants to exit, if another worker is idle. Returns whether it may
    /// exit.
    pub fn try_leave(&self, WorkerIndex(index): WorkerIndex) -> bool {
        let leave = |count| (count > 1).then_some(count - 1);
        let may = self.0.idle_count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, leave).is_ok();
        if may {
            self.0.is_idle[index].store(false, Ordering::SeqCst);
        }
        may
    }
}

// SAFETY: zero bytes are process ids of 0.
unsafe impl sys::Zero for [i32; MAX_WORKERS] {}

/// Process ids of the workers, in memory of init alone; 0 for a free index.
pub struct Started(&'static mut [i32; MAX_WORKERS]);

impl Started {
    pub fn new() -> Result<Self> {
        sys::zeroed::<[i32; MAX_WORKERS]>().map(Self)
    }

    pub fn free_index(&self) -> Option<WorkerIndex> {
        self.0.iter().position(|pid| *pid == 0).map(WorkerIndex)
    }

    pub fn put(&mut self, WorkerIndex(index): WorkerIndex, pid: i32) {
        self.0[index] = pid;
    }

    pub fn has(&self, pid: i32) -> bool {
        self.0.contains(&pid)
    }

    /// Frees the index of a worker that has exited.
    pub fn take(&mut self, pid: i32) -> Option<WorkerIndex> {
        let index = self.0.iter().position(|started| *started == pid)?;
        self.0[index] = 0;
        Some(WorkerIndex(index))
    }
}
