//! How much a command may use, and which limit it ran into.

use std::path::PathBuf;
use std::time::Duration;

use super::{CommandOutput, CommandStatus};

/// How much the commands of one sandbox may use. Wall time and kept output are set for each
/// command, by [`CommandSpec`](super::CommandSpec).
///
/// The kernel enforces these for each process, or for each command where that is said; a limit of
/// the host's own that is lower wins. Commands as a whole are limited where the session has a
/// control group, which [`EngineReport::resources`](super::EngineReport) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Processes and threads of one command; 4096. Without a control group never below 320, of
    /// which the kernel keeps 300 for itself, and for root from Linux 6.14 on only.
    pub processes: u32,
    /// Open files of one process; 4096.
    pub open_files: u64,
    /// The size of one file, in bytes; 16 GiB.
    pub file_bytes: u64,
    /// The private memory of one process that can be written to, in bytes; 8 GiB. What exceeds it
    /// is refused to the process, as when memory is short (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// The memory of one command as a whole, in bytes; 8 GiB. It counts what the kernel holds for
    /// the command too, such as files in `/tmp`, and none of it is swapped out. A command that
    /// needs more is killed whole. With a control group only.
    pub command_memory_bytes: u64,
    /// The processor time of one command as a whole, to a tenth of a second or so, and of one
    /// process, in whole seconds; none, because wall time bounds it. Without a control group of one
    /// process only.
    pub cpu_time: Option<Duration>,
    /// What the private `/tmp` holds, and `/var/tmp`, each in MiB; 512.
    pub tmp_mib: u32,
    /// Where the session's control group is made.
    pub cgroups: Cgroups,
}

/// Where control groups of sessions are made (`cgroups(7)`, version 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cgroups {
    /// Below this process's own group or beside it, where that was delegated to this user; nowhere
    /// otherwise, and the report says why. Under systemd, `Delegate=memory pids` and
    /// `DelegateSubgroup=` in the unit do that.
    #[default]
    Automatic,
    /// Below this group. A sandbox does not open where the kernel or the permissions refuse that.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 4096,
            open_files: 4096,
            file_bytes: 16 << 30,
            memory_bytes: 8 << 30,
            command_memory_bytes: 8 << 30,
            cpu_time: None,
            tmp_mib: 512,
            cgroups: Cgroups::Automatic,
        }
    }
}

/// A limit that a command ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The time was up.
    WallTime,
    /// The command, or the shell, or the last program that it waited for, used up its processor
    /// time.
    CpuTime,
    /// The command as a whole needed more memory than it may have, or the machine had no more to
    /// give; it was killed whole.
    Memory,
    /// The command as a whole was refused a process; it may have gone on without.
    Processes,
    /// The shell, or the last program that it waited for, was killed because a file grew too large.
    FileSize,
    /// More was written than is kept.
    Output,
}

/// `SIGXCPU` and `SIGXFSZ` (`signal(7)`).
const CPU_TIME_SIGNAL: i32 = 24;
const FILE_SIZE_SIGNAL: i32 = 25;

impl CommandOutput {
    /// The limit that the command ran into, as far as the kernel tells and its end shows. A program
    /// that is refused memory or an open file for itself is told so by the kernel, and ends in its
    /// own way.
    pub fn limit_reached(&self) -> Option<Limit> {
        // What kept a command from its end says more than that the time was up, which the status
        // says too.
        if self.limit.is_some() {
            return self.limit;
        }
        // A shell gives 128 and the signal's number for a program that was killed.
        let signal = match self.status {
            CommandStatus::TimedOut => return Some(Limit::WallTime),
            CommandStatus::Signaled(signal) => signal,
            CommandStatus::Exited(code) => code - 128,
        };
        match signal {
            CPU_TIME_SIGNAL => Some(Limit::CpuTime),
            FILE_SIZE_SIGNAL => Some(Limit::FileSize),
            _ => {
                (self.stdout.dropped_bytes + self.stderr.dropped_bytes > 0).then_some(Limit::Output)
            }
        }
    }
}
