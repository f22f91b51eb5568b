//! Recognition of programs that fail because a sandbox has no root and no package manager.

/// The hint for the model.
const HINT: &str = "the sandbox has no root and no package manager: sudo, su, apt-get and ping \
                    cannot work, so use the programs that are installed";

/// Programs that need root, or the package database of the system.
const PROGRAMS: [&str; 14] = [
    "sudo", "su", "doas", "pkexec", "apt", "apt-get", "dpkg", "yum", "dnf", "rpm", "apk", "pacman",
    "zypper", "ping",
];
/// The number of lines that are searched, counted from the last one.
const MAX_LINES: usize = 200;

/// Returns a hint if standard error shows that such a program failed.
pub(crate) fn hint(stderr: &str) -> Option<String> {
    stderr.lines().rev().take(MAX_LINES).any(is_complaint).then(|| HINT.to_owned())
}

fn is_complaint(line: &str) -> bool {
    // The messages of APT begin without its name.
    let is_apt = (line.starts_with("E: ") || line.starts_with("W: "))
        && ["/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "locate package", "are you root"]
            .iter()
            .any(|part| line.contains(part));
    // `sudo: …`, `bash: line 1: sudo: command not found`, `/usr/bin/sudo: …`
    let named = line.split(": ").take(3).any(|part| {
        let name = part.rsplit('/').next().unwrap_or(part);
        PROGRAMS.contains(&name)
    });
    is_apt || named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_for_want_of_root_have_a_hint() {
        for line in [
            "sudo: The \"no new privileges\" flag is set, which prevents sudo",
            "bash: line 1: sudo: command not found",
            "su: cannot set groups: Operation not permitted",
            "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13)",
            "E: List directory /var/lib/apt/lists/partial is missing.",
            "W: Not using locking for read only lock file /var/lib/dpkg/lock-frontend",
            "E: Unable to locate package hello",
            "ping: socktype: SOCK_RAW",
            "/usr/bin/ping: Operation not permitted",
            "dpkg: error: requested operation requires superuser privilege",
        ] {
            assert!(hint(&format!("before\n{line}\nafter\n")).is_some(), "{line}");
        }
        for line in ["cat: sudoku: No such file", "E: 3 tests failed", "all is well", "suite: su x"]
        {
            assert_eq!(hint(line), None, "{line}");
        }
    }
}
