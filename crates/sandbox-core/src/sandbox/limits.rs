//! Resource limits of commands, and the kinds of limits that a command can reach.

use std::path::PathBuf;
use std::time::Duration;

/// Resource limits of the commands of one sandbox. [`CommandSpec`](super::CommandSpec) sets wall
/// time and kept output for each command.
///
/// The kernel enforces a limit for each process, unless its documentation names the command as a
/// whole. A lower limit of the host takes precedence. Limits of a whole command need a control
/// group for the session; [`EngineReport::resources`](super::EngineReport) reports whether it has
/// one.
///
/// Without a control group, these have no limit: shared anonymous memory (`MAP_SHARED`), files in
/// memory (`memfd_create(2)`), buffers of Unix and network sockets, and memory of the kernel such
/// as page tables and cached names. Buffers of pipes have one limit for all processes of the user
/// (`pipe(7)`). With or without a group, a command can lock a file that it can read (`flock(2)`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum processes and threads per command (4096). Without a control group: at least 320, of
    /// which the kernel reserves 300, and enforced for root only on Linux 6.14+.
    pub processes: u32,
    /// Maximum open files per process (4096).
    pub open_files: u64,
    /// Maximum size of one file in bytes (16 GiB).
    pub file_bytes: u64,
    /// Maximum private writable memory per process in bytes (8 GiB). Above it, the kernel denies
    /// the process further memory (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// Maximum memory of one command as a whole in bytes (8 GiB). Needs a control group.
    ///
    /// It includes kernel memory of the command, such as files in `/tmp`. The memory is never
    /// swapped out. If a command needs more, all its processes are killed.
    pub command_memory_bytes: u64,
    /// Maximum processor time of one command as a whole, with a precision of about 0.1 s, and of
    /// one process, in whole seconds. Without a control group only the latter is enforced. No limit
    /// by default, because wall time bounds it.
    pub cpu_time: Option<Duration>,
    /// Maximum size of the private `/tmp`, and of `/var/tmp`, in MiB (512 each).
    pub tmp_mib: u32,
    /// Maximum number of files and directories in the private `/tmp`, and in `/var/tmp` (131,072
    /// each). An empty file takes nothing of `tmp_mib`, but about 800 bytes of kernel memory.
    /// `/dev/shm` has room for 64 MiB and 16,384 files.
    pub tmp_files: u32,
    /// Maximum number of bytes that the files of the session directory take on the disk (10 GiB).
    /// Holes of sparse files take none. `u64::MAX` for both this and `session_files` turns the
    /// limits off.
    ///
    /// The directory is counted every two seconds while a command runs, or less often if it has
    /// very many files. If it is above a limit and has grown during the command by more than 1 MiB
    /// or 16 files, all processes of the command are killed. So a command can delete files. The
    /// limits are also checked after each command. Files that a command has open and has deleted do
    /// not count; they end with it.
    pub session_bytes: u64,
    /// Maximum number of files and directories in the session directory (1,000,000).
    pub session_files: u64,
    /// Maximum size of the segments of System V shared memory in a session, in MiB (512).
    /// Semaphores and message queues are bounded too, to a few MiB.
    ///
    /// The kernel removes a segment when its last process has exited. A semaphore or a queue stays
    /// until the session is closed. The Landlock tier denies all of these objects.
    pub shared_memory_mib: u32,
    /// Maximum number of inotify instances of a session (32). The user has 128 by default, for all
    /// sessions and other programs together. Not enforced on the Landlock tier.
    pub inotify_instances: u32,
    /// Maximum number of inotify watches of a session (16,384). Each takes about 1 KiB of kernel
    /// memory. Not enforced on the Landlock tier.
    pub inotify_watches: u32,
    /// Location of the session's control group.
    pub cgroups: Cgroups,
}

/// Location of the control groups of sessions (`cgroups(7)`, version 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cgroups {
    /// Below the group of this process or beside it, if that group was delegated to this user.
    /// Otherwise no group is used, and the report contains the reason. Under systemd,
    /// `Delegate=memory pids` and `DelegateSubgroup=` in the unit delegate a group.
    #[default]
    Automatic,
    /// Below this group. A sandbox does not open if the kernel or the permissions deny that.
    At(PathBuf),
    /// No control groups.
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
            tmp_files: 128 << 10,
            session_bytes: 10 << 30,
            session_files: 1_000_000,
            shared_memory_mib: 512,
            inotify_instances: 32,
            inotify_watches: 16 << 10,
            cgroups: Cgroups::Automatic,
        }
    }
}

/// A limit that a command reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The timeout of the command.
    WallTime,
    /// Processor time of the command, of the shell, or of the last program that the shell waited
    /// for.
    CpuTime,
    /// Memory of the command as a whole, or of the machine. All processes of the command were
    /// killed.
    Memory,
    /// Processes of the command as a whole. The command may have continued without another one.
    Processes,
    /// File size. The kernel killed the shell, or the last program that the shell waited for.
    FileSize,
    /// Output. The command wrote more than the engine keeps.
    Output,
    /// Bytes or files of the session directory. The command was killed, or had exited already and
    /// the directory is above the limit.
    SessionSize,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 7] = [
        Self::WallTime,
        Self::CpuTime,
        Self::Memory,
        Self::Processes,
        Self::FileSize,
        Self::Output,
        Self::SessionSize,
    ];

    /// Returns the name for programs, such as `cpuTime`.
    pub fn key(self) -> &'static str {
        match self {
            Self::WallTime => "wallTime",
            Self::CpuTime => "cpuTime",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::FileSize => "fileSize",
            Self::Output => "output",
            Self::SessionSize => "sessionSize",
        }
    }

    /// Returns the name for people, such as `CPU time`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WallTime => "wall time",
            Self::CpuTime => "CPU time",
            Self::Memory => "memory",
            Self::Processes => "number of processes",
            Self::FileSize => "file size",
            Self::Output => "output",
            Self::SessionSize => "size of the session directory",
        }
    }
}
