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
}
