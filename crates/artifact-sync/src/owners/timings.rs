//! Intervals of ownership.

use std::time::Duration;

/// Intervals of heartbeats, takeovers and leases. All homes of a store must use the same ones.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Time between two beats, and between two reads of another home's heartbeat.
    pub beat: Duration,
    /// Time of ownership before the first beat.
    pub first_beat: Duration,
    /// Longest time between two reads that count as consecutive.
    pub longest_gap: Duration,
    /// Time after a read or an append of the log in which calls are answered from memory.
    pub lease: Duration,
    /// Time after the last call after which an application releases the session.
    pub idle: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(10),
            first_beat: Duration::from_secs(5),
            longest_gap: Duration::from_secs(15),
            lease: Duration::from_secs(20),
            idle: Duration::from_secs(30),
        }
    }
}
