//! Reasons for failures that no rule of the policy explains: the sandbox has no root, no
//! privileges, no network, or is weaker.

mod limits;

use sandbox_core::{Tier, Weakness};

use crate::printable::printable;

pub(crate) use self::limits::{exhausted, full};

const NO_ROOT: &str = "the sandbox has no root and no package manager: sudo, su, apt-get and ping \
                       cannot work, so use the programs that are installed";
const NO_PROC: &str = "the engine `landlock` closes /proc, so ps and other programs that read it \
                       cannot work";
const NO_ATTRIBUTES: &str = "the engine `landlock` denies changes of permissions and times; use \
                             --accept attributes to allow them";

/// Texts about what that engine closes, in lower case.
const CLOSED: [(&str, &str); 7] = [
    ("pseudo-terminal", NO_TERMINALS),
    ("open_pty", NO_TERMINALS),
    ("openpty", NO_TERMINALS),
    ("/tmp/tmux-", NO_TERMINALS),
    ("multiprocessing/", NO_MULTIPROCESSING),
    ("_socket.socket.__init__", NO_SOCKETS),
    ("socket: operation not permitted", NO_SOCKETS),
];
const NO_TERMINALS: &str = "the engine `landlock` has no pseudo-terminals and no sockets, so \
                            script and tmux cannot work";
const NO_SOCKETS: &str = "the engine `landlock` denies new sockets, except connected pairs";
const NO_MULTIPROCESSING: &str = "the engine `landlock` denies sockets and /dev/shm, which \
                                  multiprocessing needs; use threads, or separate processes";

/// Programs that need root, or the package database of the system.
const OF_ROOT: [&str; 14] = [
    "sudo", "su", "doas", "pkexec", "apt", "apt-get", "dpkg", "yum", "dnf", "rpm", "apk", "pacman",
    "zypper", "ping",
];
/// Programs in front of the one that failed, in messages.
const SHELLS: [&str; 4] = ["bash", "sh", "dash", "zsh"];
const STARTERS: [&str; 5] = ["env", "exec", "xargs", "nohup", "nice"];
const ABSENT: &str = "No such file or directory";
/// Programs that need other privileges, or services of the host.
const PRIVILEGED: [&str; 33] = [
    "bwrap",
    "chgrp",
    "chown",
    "chroot",
    "dmesg",
    "docker",
    "fusermount",
    "fusermount3",
    "groupadd",
    "insmod",
    "ip",
    "iptables",
    "journalctl",
    "losetup",
    "mknod",
    "modprobe",
    "mount",
    "nft",
    "nsenter",
    "podman",
    "reboot",
    "service",
    "setcap",
    "shutdown",
    "swapon",
    "sysctl",
    "systemctl",
    "tcpdump",
    "traceroute",
    "umount",
    "unshare",
    "useradd",
    "usermod",
];
/// Texts of such programs in lower case, if they lack a privilege.
const UNPRIVILEGED: [&str; 8] = [
    "operation not permitted",
    "permission denied",
    "must be superuser",
    "only root",
    "must be root",
    "are you root",
    "invalid argument",
    "no permissions to create",
];
/// Texts about services of the host, with the program.
const SERVICES: [(&str, &str); 3] = [
    ("not been booted with systemd", "systemctl"),
    ("docker daemon", "docker"),
    ("failed to connect to bus", "systemctl"),
];
/// Texts about a network, in lower case.
const NETWORK: [&str; 8] = [
    "temporary failure in name resolution",
    "network is unreachable",
    "name or service not known",
    "could not resolve",
    "failed to establish a new connection",
    "no matching distribution found",
    "couldn't connect to server",
    "dial tcp",
];
/// The number of lines that are searched, counted from the last one.
const MAX_LINES: usize = 200;

/// Connections of a command that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// The result explains them, or they have another cause than the sandbox.
    Explained,
    /// Only messages may tell of them.
    Unexplained,
    /// The engine knows of connections that had no route.
    Unroutable,
}

/// Returns the reasons that standard error and the connections show, at most two. `no_network`
/// renders that of connections.
pub(crate) fn find(
    stderr: &str,
    tier: &Tier,
    connections: Connections,
    no_network: impl FnOnce() -> String,
) -> Vec<String> {
    let is_remote = |line: &str| {
        let line = line.to_ascii_lowercase();
        NETWORK.iter().any(|text| line.contains(text))
            && !["localhost", "127.0.0.1", "::1"].iter().any(|own| line.contains(own))
    };
    let reason = of_programs(stderr, tier);
    let is_network = match connections {
        Connections::Explained => false,
        Connections::Unroutable => true,
        Connections::Unexplained => {
            reason.is_none() && stderr.lines().rev().take(MAX_LINES).any(is_remote)
        }
    };
    reason.into_iter().chain(is_network.then(no_network)).collect()
}

/// Returns a hint if standard error shows that a program lacks something else than a network.
fn of_programs(stderr: &str, tier: &Tier) -> Option<String> {
    let lines = || stderr.lines().rev().take(MAX_LINES);
    if lines().any(lacks_root) {
        return Some(NO_ROOT.to_owned());
    }
    if let Some(program) = lines().find_map(unprivileged_program) {
        let program = printable(program);
        return Some(format!("the sandbox has no privileges, so {program} cannot do this"));
    }
    if let Tier::Landlock { accepted } = tier {
        if lines().any(|line| line.contains("mount -t proc")) {
            return Some(NO_PROC.to_owned());
        }
        let closed = |line: &str| {
            let line = line.to_ascii_lowercase();
            CLOSED.iter().find(|(text, _)| line.contains(text)).map(|(_, hint)| *hint)
        };
        if let Some(hint) = lines().find_map(closed) {
            return Some(hint.to_owned());
        }
        if !accepted.contains(&Weakness::Attributes) && lines().any(changes_attributes) {
            return Some(NO_ATTRIBUTES.to_owned());
        }
    }
    None
}

fn lacks_root(line: &str) -> bool {
    // The messages of APT begin without its name.
    let is_apt = (line.starts_with("E: ") || line.starts_with("W: "))
        && ["/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "locate package", "are you root"]
            .iter()
            .any(|part| line.contains(part));
    is_apt || program(line).is_some_and(|name| OF_ROOT.contains(&name))
}

/// Returns the program that reports on this line that it lacks a privilege.
pub(crate) fn unprivileged_program(line: &str) -> Option<&str> {
    let lower = line.to_ascii_lowercase();
    if let Some((_, program)) = SERVICES.iter().find(|(text, _)| lower.contains(text)) {
        return Some(program);
    }
    let is_denied = UNPRIVILEGED.iter().any(|text| lower.contains(text));
    program(line).filter(|name| is_denied && PRIVILEGED.contains(name))
}

/// Returns the program that a line is a message of: `sudo: …`, `bash: line 1: sudo: …`, `bash: line
/// 1: exec: sudo: …`, `/usr/bin/sudo: …`, and `env: 'sudo': …`. Later parts are its arguments.
fn program(line: &str) -> Option<&str> {
    let mut is_of_shell = false;
    for part in line.split(": ").take(4) {
        let path = part.trim_matches(['\'', '"', '‘', '’']);
        let name = path.rsplit('/').next().unwrap_or(path);
        let number = name.strip_prefix("line ").unwrap_or(name);
        if SHELLS.contains(&name) {
            is_of_shell = true;
        } else if !STARTERS.contains(&name) && number.parse::<u32>().is_err() {
            // A shell says so of a file that it should open.
            let is_file = is_of_shell && !path.contains('/') && line.ends_with(ABSENT);
            return (!is_file).then_some(name);
        }
    }
    None
}

fn changes_attributes(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains("operation not permitted")
        && ["chmod", "changing permissions", "setting times", "preserving"]
            .iter()
            .any(|text| lower.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_NETWORK: &str = "no network";

    fn found(stderr: &str, tier: &Tier, connections: Connections) -> Vec<String> {
        find(stderr, tier, connections, || NO_NETWORK.to_owned())
    }

    #[track_caller]
    fn check(line: &str, tier: &Tier, expected: Option<&str>) {
        let found = found(&format!("before\n{line}\nafter\n"), tier, Connections::Unexplained);
        assert_eq!(found, Vec::from_iter(expected), "{line}");
    }

    #[test]
    fn failures_for_want_of_root_have_a_hint() {
        for line in [
            "sudo: The \"no new privileges\" flag is set, which prevents sudo",
            "bash: line 1: sudo: command not found",
            "bash: line 1: exec: sudo: not found",
            "bash: line 1: /usr/bin/sudo: No such file or directory",
            "env: 'sudo': No such file or directory",
            "env: ‘sudo’: No such file or directory",
            "su: cannot set groups: Operation not permitted",
            "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13)",
            "E: List directory /var/lib/apt/lists/partial is missing.",
            "W: Not using locking for read only lock file /var/lib/dpkg/lock-frontend",
            "E: Unable to locate package hello",
            "ping: socktype: SOCK_RAW",
            "/usr/bin/ping: Operation not permitted",
            "dpkg: error: requested operation requires superuser privilege",
        ] {
            check(line, &Tier::Namespaces, Some(NO_ROOT));
        }
        for line in [
            "cat: sudoku: No such file",
            "cat: su: No such file or directory",
            "bash: line 1: su: No such file or directory",
            "grep: apt: Permission denied",
            "E: 3 tests failed",
            "all is well",
            "suite: su x",
        ] {
            check(line, &Tier::Namespaces, None);
        }
    }

    #[test]
    fn failures_for_want_of_a_privilege_name_the_program() {
        for (line, program) in [
            ("mount: /mnt: permission denied.", "mount"),
            ("mount: /mnt: must be superuser to use mount.", "mount"),
            ("chroot: cannot change root directory to '/': Operation not permitted", "chroot"),
            ("unshare: unshare failed: Operation not permitted", "unshare"),
            ("chown: changing ownership of '.': Invalid argument", "chown"),
            ("System has not been booted with systemd as init system (PID 1).", "systemctl"),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "docker"),
        ] {
            let expected = format!("the sandbox has no privileges, so {program} cannot do this");
            check(line, &Tier::Namespaces, Some(&expected));
        }
        check("chown: changing ownership of '/usr': Read-only file system", &Tier::default(), None);
        check("mount: bad usage", &Tier::Namespaces, None);
    }

    #[test]
    fn failures_of_the_network_have_a_hint_unless_a_denial_explains_them() {
        let line = "curl: (7) Failed to connect to 1.1.1.1 port 443: Couldn't connect to server";
        check(line, &Tier::Namespaces, Some(NO_NETWORK));
        check("ERROR: No matching distribution found for x", &Tier::default(), Some(NO_NETWORK));
        check(&line.replace("1.1.1.1", "localhost"), &Tier::Namespaces, None);
        assert!(found(line, &Tier::Namespaces, Connections::Explained).is_empty());
        let both = found("sudo: not found", &Tier::Namespaces, Connections::Unroutable);
        assert_eq!(both, [NO_ROOT, NO_NETWORK]);
        assert_eq!(found("", &Tier::Namespaces, Connections::Unroutable), [NO_NETWORK]);
    }

    #[test]
    fn the_gaps_of_the_landlock_tier_have_a_hint_there() {
        let landlock = |accepted: &[Weakness]| Tier::Landlock { accepted: accepted.to_vec() };
        let ps = "Error, do this: mount -t proc proc /proc";
        check(ps, &landlock(&[]), Some(NO_PROC));
        check(ps, &Tier::Namespaces, None);
        for (line, hint) in [
            ("script: failed to create pseudo-terminal: Permission denied", NO_TERMINALS),
            ("couldn't create directory /tmp/tmux-0 (Permission denied)", NO_TERMINALS),
            ("    _socket.socket.__init__(self, family, type, proto, fileno)", NO_SOCKETS),
            ("  File \"/usr/lib/python3.11/multiprocessing/pool.py\"", NO_MULTIPROCESSING),
        ] {
            check(line, &landlock(&[]), Some(hint));
            check(line, &Tier::Namespaces, None);
        }
        let chmod = "chmod: changing permissions of 'f': Operation not permitted";
        check(chmod, &landlock(&[]), Some(NO_ATTRIBUTES));
        check(chmod, &landlock(&[Weakness::Attributes]), None);
        check(chmod, &Tier::Namespaces, None);
    }
}
