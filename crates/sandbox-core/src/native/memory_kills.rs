//! The count of processes of a session that the kernel has killed for their memory.
//!
//! A worker reports such a kill with the end of its command. If the kernel has killed the worker
//! itself, only the count of the session's group shows that. A command that ends without a failure
//! does not read it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cgroup::SessionGroup;
use super::wire;

/// The count, as far as the host knows it.
#[derive(Debug)]
pub(super) struct MemoryKills {
    /// `memory.events` of the session's group, which has the kills in removed groups too
    /// (`cgroups(7)`). `None` without a group.
    events: Option<PathBuf>,
    known: AtomicU64,
    /// A command has ended without its report, which may have been about a kill.
    is_uncertain: AtomicBool,
}

/// The kills while one command runs. Dropping it means that its report was not received.
#[derive(Debug)]
pub(super) struct KillWatch {
    kills: Arc<MemoryKills>,
    before: u64,
    is_settled: bool,
}

impl MemoryKills {
    /// Returns the count of a new group.
    pub(super) fn of(group: Option<&SessionGroup>) -> Arc<Self> {
        Self::in_file(group.map(|group| group.path().join("memory.events")))
    }

    fn in_file(events: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { events, known: AtomicU64::new(0), is_uncertain: AtomicBool::new(false) })
    }

    /// Watches the kills while a command runs. The caller has not sent the command yet.
    pub(super) fn watch(self: &Arc<Self>) -> KillWatch {
        let before = match self.is_uncertain.swap(false, Ordering::Relaxed) {
            true => self.read(),
            false => self.known.load(Ordering::Relaxed),
        };
        KillWatch { kills: Arc::clone(self), before, is_settled: self.events.is_none() }
    }

    fn read(&self) -> u64 {
        let Some(events) = &self.events else { return 0 };
        let events = std::fs::read_to_string(events).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
        self.known.fetch_max(count, Ordering::Relaxed).max(count)
    }
}

impl KillWatch {
    /// Takes note of the command's report, with its `LIMIT_…`.
    pub(super) fn settle(&mut self, limit: u32) {
        if limit == wire::LIMIT_MEMORY && !self.is_settled {
            self.kills.read();
        }
        self.is_settled = true;
    }

    /// Returns whether a process was killed since the command began. The caller knows that its
    /// worker has ended without a report.
    pub(super) fn has_seen_kill(&mut self) -> bool {
        self.is_settled = true;
        self.kills.read() > self.before
    }
}

impl Drop for KillWatch {
    fn drop(&mut self) {
        if !self.is_settled {
            self.kills.is_uncertain.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kill_belongs_to_the_command_during_which_it_happened() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("memory.events");
        let happen = |count: u32| {
            fs::write(&events, format!("low 0\noom 9\noom_kill {count}\noom_group_kill 0\n"))
                .unwrap();
        };
        happen(0);
        let kills = MemoryKills::in_file(Some(events.clone()));
        assert!(!kills.watch().has_seen_kill());
        // Another command has reported its kill.
        let (mut first, mut second) = (kills.watch(), kills.watch());
        happen(1);
        first.settle(wire::LIMIT_MEMORY);
        assert!(second.has_seen_kill(), "it may be the one of its worker");
        assert!(!kills.watch().has_seen_kill());
        // The report of a dropped command is lost.
        drop(kills.watch());
        happen(2);
        assert!(!kills.watch().has_seen_kill());
        let mut last = kills.watch();
        happen(3);
        assert!(last.has_seen_kill());
    }

    #[test]
    fn a_command_that_reports_its_end_does_not_read_the_count() {
        // Reading the file would find a kill.
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("memory.events");
        fs::write(&events, "oom_kill 7\n").unwrap();
        let kills = MemoryKills::in_file(Some(events));
        kills.watch().settle(wire::LIMIT_NONE);
        kills.watch().settle(wire::LIMIT_PROCESSES);
        assert_eq!(kills.known.load(Ordering::Relaxed), 0);
        assert!(!MemoryKills::in_file(None).watch().has_seen_kill());
    }
}
