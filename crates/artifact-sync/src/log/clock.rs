//! Time that also passes while the machine sleeps.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Moment on two clocks: the time since boot, which counts sleep, and the wall clock. A virtual
/// machine that was paused may find that only one of them moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    since_boot: Duration,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Self { since_boot: Duration::new(seconds, nanoseconds), wall: SystemTime::now() }
    }

    /// Returns the time since this moment, by the clock that moved more.
    pub(crate) fn elapsed(&self) -> Duration {
        let now = Self::now();
        let wall = now.wall.duration_since(self.wall).unwrap_or_default();
        now.since_boot.saturating_sub(self.since_boot).max(wall)
    }
}

/// Returns the wall clock in seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
