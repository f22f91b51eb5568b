//! Which workers wait for a command: a count and a mark for each, in memory that init and its workers
//! share.
//!
//! A mark is there so that init can take a worker out of the count that was killed while it waited.
//! Count and mark change one after the other, in an order in which a kill between the two makes the
//! count too low: then a worker more is made than is needed, and never one less.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::{self, Result};

/// The most workers, and so the most commands that overlap; later ones wait for one of these to end.
const MAX_WORKERS: usize = 1024;

/// Where a worker stands in the pool.
#[derive(Clone, Copy)]
pub struct WorkerIndex(usize);

impl WorkerIndex {
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

struct Shared {
    waiting: AtomicI32,
    creations: AtomicU32,
    waits: [AtomicBool; MAX_WORKERS],
}

// SAFETY: counts of 0, and no marks.
unsafe impl sys::Zero for Shared {}

pub struct Pool(&'static Shared);

impl Pool {
    pub fn new() -> Result<Self> {
        sys::shared_memory::<Shared>().map(Self)
    }

    /// Something was made, or may be, under a name that the host wants to hear of.
    pub fn note_creation(&self) {
        self.0.creations.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was.
    pub fn creations(&self) -> u32 {
        self.0.creations.load(Ordering::SeqCst)
    }

    pub fn has_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// A worker is being made, or has ended its command: it counts as waiting.
    pub fn expect(&self, WorkerIndex(index): WorkerIndex) {
        self.0.waits[index].store(true, Ordering::SeqCst);
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker takes a command, or does not exist any more. Gives whether it was the last that
    /// waited.
    pub fn forget(&self, WorkerIndex(index): WorkerIndex) -> bool {
        if !self.0.waits[index].load(Ordering::SeqCst) {
            return false;
        }
        let before = self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.waits[index].store(false, Ordering::SeqCst);
        before <= 1
    }

    /// A worker goes if others wait. Gives whether it may.
    pub fn leave_to_others(&self, WorkerIndex(index): WorkerIndex) -> bool {
        let leave = |waiting| (waiting > 1).then_some(waiting - 1);
        let may = self.0.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, leave).is_ok();
        if may {
            self.0.waits[index].store(false, Ordering::SeqCst);
        }
        may
    }
}

// SAFETY: no process.
unsafe impl sys::Zero for [i32; MAX_WORKERS] {}

/// The process of each index, for init alone.
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

    /// Frees the index of a process that has ended.
    pub fn take(&mut self, pid: i32) -> Option<WorkerIndex> {
        let index = self.0.iter().position(|started| *started == pid)?;
        self.0[index] = 0;
        Some(WorkerIndex(index))
    }
}
