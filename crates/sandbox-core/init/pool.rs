//! Which slots wait for a command: a count and a mark for each, in memory that init and its slots
//! share.
//!
//! A mark is there so that init can take a slot out of the count that was killed while it waited.
//! Count and mark change one after the other, in an order in which a kill between the two makes the
//! count too low: then a slot more is made than is needed, and never one less.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::{self, Result};

/// The most slots, and so the most commands that overlap; later ones wait for one of these to end.
const MAX_SLOTS: usize = 1024;

/// Where a slot stands in the pool.
#[derive(Clone, Copy)]
pub struct Place(usize);

impl Place {
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

struct Shared {
    waiting: AtomicI32,
    arrivals: AtomicU32,
    waits: [AtomicBool; MAX_SLOTS],
}

// SAFETY: counts of 0, and no marks.
unsafe impl sys::Zero for Shared {}

pub struct Pool(&'static Shared);

impl Pool {
    pub fn new() -> Result<Self> {
        sys::shared_memory::<Shared>().map(Self)
    }

    /// Something was made, or may be, under a name that the host wants to hear of.
    pub fn note_arrival(&self) {
        self.0.arrivals.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was.
    pub fn arrivals(&self) -> u32 {
        self.0.arrivals.load(Ordering::SeqCst)
    }

    pub fn has_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// A slot is being made, or has ended its command: it counts as waiting.
    pub fn expect(&self, Place(place): Place) {
        self.0.waits[place].store(true, Ordering::SeqCst);
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// A slot takes a command, or does not exist any more. Gives whether it was the last that
    /// waited.
    pub fn forget(&self, Place(place): Place) -> bool {
        if !self.0.waits[place].load(Ordering::SeqCst) {
            return false;
        }
        let before = self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.waits[place].store(false, Ordering::SeqCst);
        before <= 1
    }

    /// A slot goes if others wait. Gives whether it may.
    pub fn leave_to_others(&self, Place(place): Place) -> bool {
        let leave = |waiting| (waiting > 1).then_some(waiting - 1);
        let may = self.0.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, leave).is_ok();
        if may {
            self.0.waits[place].store(false, Ordering::SeqCst);
        }
        may
    }
}

// SAFETY: no process.
unsafe impl sys::Zero for [i32; MAX_SLOTS] {}

/// The process of each place, for init alone.
pub struct Started(&'static mut [i32; MAX_SLOTS]);

impl Started {
    pub fn new() -> Result<Self> {
        sys::zeroed::<[i32; MAX_SLOTS]>().map(Self)
    }

    pub fn free_place(&self) -> Option<Place> {
        self.0.iter().position(|pid| *pid == 0).map(Place)
    }

    pub fn put(&mut self, Place(place): Place, pid: i32) {
        self.0[place] = pid;
    }

    pub fn has(&self, pid: i32) -> bool {
        self.0.contains(&pid)
    }

    /// Frees the place of a process that has ended.
    pub fn take(&mut self, pid: i32) -> Option<Place> {
        let place = self.0.iter().position(|started| *started == pid)?;
        self.0[place] = 0;
        Some(Place(place))
    }
}
