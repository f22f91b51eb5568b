//! How much a command may use, and which limit it ran into.

use std::time::Duration;

use super::{CommandOutput, CommandStatus};

/// How much the commands of one sandbox may use. Wall time and kept output are set for each command, by [`CommandSpec`](super::CommandSpec).
///
/// The kernel enforces these for each process, or for each command where that is said; a limit of the host's own that is lower wins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Processes and threads of one command; 4096, and never below 320, of which the kernel keeps 300 for itself. For root from Linux 6.14 on.
    pub processes: u32,
    /// Open files of one process; 4096.
    pub open_files: u64,
    /// The size of one file, in bytes; 16 GiB.
    pub file_bytes: u64,
    /// The private memory of one process that can be written to, in bytes; 8 GiB. What exceeds it is refused to the process, as when memory is
    /// short (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// The processor time of one process, in whole seconds; none, because wall time bounds it.
    pub cpu_time: Option<Duration>,
    /// What the private `/tmp` holds, and `/var/tmp`, each in MiB; 512.
    pub tmp_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 4096,
            open_files: 4096,
            file_bytes: 16 << 30,
            memory_bytes: 8 << 30,
            cpu_time: None,
            tmp_mib: 512,
        }
    }
}

/// A limit that a command ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The time was up.
    WallTime,
    /// The shell, or the last program that it waited for, used up its processor time.
    CpuTime,
    /// The same, of a file that grew too large.
    FileSize,
    /// More was written than is kept.
    Output,
}

/// `SIGXCPU` and `SIGXFSZ` (`signal(7)`).
const CPU_TIME_SIGNAL: i32 = 24;
const FILE_SIZE_SIGNAL: i32 = 25;

impl CommandOutput {
    /// The limit that the command ran into, as far as its end shows it. A program that is refused memory, a process or an open file is told so
    /// by the kernel, and ends in its own way.
    pub fn limit_reached(&self) -> Option<Limit> {
        // A shell gives 128 and the signal's number for a program that was killed.
        let signal = match self.status {
            CommandStatus::TimedOut => return Some(Limit::WallTime),
            CommandStatus::Signaled(signal) => signal,
            CommandStatus::Exited(code) => code - 128,
        };
        match signal {
            CPU_TIME_SIGNAL => Some(Limit::CpuTime),
            FILE_SIZE_SIGNAL => Some(Limit::FileSize),
            _ => (self.stdout.dropped_bytes + self.stderr.dropped_bytes > 0).then_some(Limit::Output),
        }
    }
}
