//! Modes.

use super::super::sockets::Secret;
use super::*;

/// The verdict in a session without namespaces whose user accepts changes of attributes.
fn landlock(architecture: &Architecture, call: u32, arguments: &[u64]) -> u32 {
    let program = worker_program_without_namespaces_for(architecture, Attributes::Allowed);
    run(&program, architecture.audit, call, arguments)
}

const SECRET: [u64; 2] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];

/// The stricter of the two verdicts in a session with namespaces.
fn namespaces(architecture: &Architecture, call: u32, arguments: &[u64]) -> u32 {
    let programs = [
        session_program_for(architecture, UnixSockets::Own(Secret(SECRET)), None),
        worker_program_for(architecture),
    ];
    let verdicts = programs.map(|it| run(&it, architecture.audit, call, arguments));
    verdicts.into_iter().min().unwrap()
}

#[test]
fn no_mode_of_a_file_has_the_set_user_id_or_set_group_id_bit() {
    let check = |name, arguments: &[u64], in_namespaces, elsewhere| {
        check_with(namespaces, name, arguments, in_namespaces);
        check_with(landlock, name, arguments, elsewhere);
    };
    for (bits, expected) in [(0, ALLOW), (0o1000, ALLOW), (0o2000, EPERM), (0o4000, EPERM)] {
        let mode = bits | 0o755;
        // Init knows whether it is the mode of a directory.
        let of_existing = if bits == 0o2000 { NOTIFY } else { expected };
        for name in ["chmod", "fchmod"] {
            check(name, &[1, mode], of_existing, expected);
        }
        for name in ["fchmodat", "fchmodat2"] {
            check(name, &[3, 1, mode], of_existing, expected);
        }
        for name in ["creat", "mknod"] {
            check(name, &[1, mode], expected, expected);
        }
        check("mknodat", &[3, 1, mode], expected, expected);
        for flags in [0o100, 0o1101, 0o20_200_002] {
            check("open", &[1, flags, mode], expected, expected);
            check("openat", &[3, 1, flags, mode], expected, expected);
        }
        // The argument has any value without such a flag.
        check("open", &[1, 0o2, mode], ALLOW, ALLOW);
        check("openat", &[3, 1, 0o200_000, mode], ALLOW, ALLOW);
    }
    check("fchmodat", &[3, 1, 0o6755], EPERM, EPERM);
    check_with(verdict, "openat2", &[], ENOSYS);
}

#[test]
fn only_init_sets_the_set_group_id_bit() {
    let [first, second] = SECRET;
    check_with(namespaces, "fchmodat", &[3, 1, 0o2755, first, second], ALLOW);
    for name in ["fchmod", "fchmodat2"] {
        check_with(namespaces, name, &[3, 0o2755, 0o2755, first, second], NOTIFY);
    }
    for bit in 0..64 {
        for [first, second] in [[first ^ (1 << bit), second], [first, second ^ (1 << bit)]] {
            check_with(namespaces, "fchmodat", &[3, 1, 0o2755, first, second], NOTIFY);
        }
    }
}
