//! Limits whose end only the program itself learns of, from its failing calls.

use sandbox_core::Limits;

/// Texts about memory, in lower case.
const MEMORY: [&str; 4] =
    ["memoryerror", "cannot allocate memory", "std::bad_alloc", "memory allocation of "];
/// Texts about processes and threads.
const PROCESSES: [&str; 4] = [
    "fork: resource temporarily unavailable",
    "fork: retry: resource temporarily unavailable",
    "can't start new thread",
    "pthread_create failed",
];
/// Texts about open files.
const FILES: [&str; 2] = ["too many open files", "emfile"];
/// Texts about room for files.
const ROOM: [&str; 2] = ["no space left on device", "enospc"];
/// Texts about standard output.
const OUTPUT: [&str; 3] = ["write error", "standard output", "stdout"];
/// The number of lines that are searched, counted from the last one.
const MAX_LINES: usize = 200;

/// Names the limit that standard error tells of. The kernel does not report it to the engine.
pub(crate) fn exhausted(stderr: &str, limits: &Limits) -> Option<String> {
    stderr.lines().rev().take(MAX_LINES).find_map(|line| {
        let line = line.to_ascii_lowercase();
        let has = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
        if has(&MEMORY) {
            return Some(format!("a process gets {} of memory at most", size(limits.memory_bytes)));
        }
        if has(&PROCESSES) {
            let processes = limits.processes;
            return Some(format!("a command gets {processes} processes and threads at most"));
        }
        has(&FILES).then(|| format!("a process gets {} open files at most", limits.open_files))
    })
}

/// Names the room of a private `/tmp` if standard error tells that a file found none. The message
/// seldom has the path, and the disk of the host may be full too. Standard output is the caller's
/// unless the command redirects it.
pub(crate) fn full(stderr: &str, command: &str, limits: &Limits) -> Option<String> {
    let mut lines = stderr.lines().rev().take(MAX_LINES).map(str::to_ascii_lowercase);
    let has = |line: &str, texts: &[&str]| texts.iter().any(|text| line.contains(text));
    let is_redirected = command.contains('>');
    let is_of_tmp = |line: String| has(&line, &ROOM) && (is_redirected || !has(&line, &OUTPUT));
    lines.any(is_of_tmp).then(|| {
        let (size, files) = (size(u64::from(limits.tmp_mib) << 20), limits.tmp_files);
        format!(
            "/tmp has room for {size} and {files} files at most, and /dev/shm for 64 MiB; the \
             session directory has that of its disk"
        )
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_names_its_limit() {
        let limits = Limits::default();
        for (line, expected) in [
            ("MemoryError", Some("a process gets 8 GiB of memory at most")),
            ("sort: Cannot allocate memory", Some("a process gets 8 GiB of memory at most")),
            (
                "bash: fork: retry: Resource temporarily unavailable",
                Some("a command gets 4096 processes and threads at most"),
            ),
            (
                "OSError: [Errno 24] Too many open files: 'f'",
                Some("a process gets 4096 open files at most"),
            ),
            ("read: Resource temporarily unavailable", None),
        ] {
            assert_eq!(exhausted(&format!("x\n{line}\ny\n"), &limits).as_deref(), expected);
        }
    }

    #[test]
    fn a_file_without_room_names_that_of_tmp() {
        let expected = "/tmp has room for 512 MiB and 131072 files at most, and /dev/shm for 64 \
                        MiB; the session directory has that of its disk";
        for line in [
            "head: error writing 'standard output': No space left on device",
            "npm error code ENOSPC",
        ] {
            let found = full(&format!("x\n{line}\n"), "x > /tmp/x", &Limits::default());
            assert_eq!(found.as_deref(), Some(expected));
        }
        for line in ["x", "bash: line 1: echo: write error: No space left on device"] {
            assert_eq!(full(line, "echo", &Limits::default()), None);
        }
    }
}
