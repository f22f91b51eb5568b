//! The limits of sessions, for the subcommand `doctor`.

use agent_tools::{Limits, MAX_QUEUED_BYTES, Tier};
use sandbox_core::CommandSpec;
use serde::Serialize;

/// One limit.
#[derive(Serialize)]
pub(super) struct LimitLine {
    pub(super) name: &'static str,
    pub(super) limit: String,
}

/// Returns the limits of the sessions of this program, which are the defaults of the library, as
/// far as a tier enforces them.
pub(super) fn of_sessions(tier: &Tier) -> Vec<LimitLine> {
    let (limits, command) = (Limits::default(), CommandSpec::new(""));
    let Limits { processes, open_files, tmp_files, session_files, cpu_time, .. } = limits;
    let Limits { shared_memory_mib, inotify_instances, inotify_watches, .. } = limits;
    let milliseconds = command.linger.as_millis();
    let line = |name, limit| LimitLine { name, limit };
    let has_namespaces = *tier == Tier::Namespaces;
    let unless_landlock = |limit: String, otherwise: &str| {
        if has_namespaces { limit } else { otherwise.to_owned() }
    };
    let of_user = if has_namespaces {
        ""
    } else {
        ", together with all others of the user, and not for root"
    };
    vec![
        line("wall time", format!("{} s", command.timeout.as_secs())),
        line("linger", format!("{milliseconds} ms for processes that outlive the shell")),
        line("CPU time", cpu_time.map_or("none".to_owned(), |time| format!("{time:?}"))),
        line("output", format!("{} kept of each stream", size(command.max_output_bytes as u64))),
        line("processes", format!("{processes} of a command{of_user}")),
        line("open files", format!("{open_files} of a process")),
        line("file size", size(limits.file_bytes)),
        line("memory", format!("{} of a process", size(limits.memory_bytes))),
        line(
            "with a group",
            format!("{} of memory of a command", size(limits.command_memory_bytes)),
        ),
        line(
            "/tmp",
            unless_landlock(
                format!("{} and {tmp_files} files", mib(limits.tmp_mib)),
                "not limited; $TMPDIR is a directory of the host",
            ),
        ),
        line(
            "/dev/shm",
            unless_landlock(format!("{} and 16384 files", mib(64)), "none; it is closed"),
        ),
        line(
            "shared memory",
            unless_landlock(
                format!("{} of System V segments", mib(shared_memory_mib)),
                "none; System V memory is denied",
            ),
        ),
        line(
            "inotify",
            unless_landlock(
                format!("{inotify_instances} instances and {inotify_watches} watches"),
                "those of the user, together with its other programs",
            ),
        ),
        line(
            "semaphores",
            unless_landlock("128 sets, 32000 in all".to_owned(), "none; System V IPC is denied"),
        ),
        line(
            "messages",
            unless_landlock(
                "32 System V and 32 POSIX queues".to_owned(),
                "none; message queues are denied",
            ),
        ),
        line("refused", "leases of files, io_setup and io_uring".to_owned()),
        line("session", format!("{} and {session_files} files", size(limits.session_bytes))),
        line("upload queue", format!("{} of files", size(MAX_QUEUED_BYTES))),
    ]
}

fn mib(number: u32) -> String {
    size(u64::from(number) << 20)
}

/// Returns a size in the largest unit that it is a multiple of.
fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_the_largest_exact_unit() {
        for (bytes, expected) in
            [(10 << 30, "10 GiB"), (512 << 20, "512 MiB"), ((1 << 20) + 1, "1048577 bytes")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
