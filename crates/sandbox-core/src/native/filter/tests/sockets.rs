//! Sockets.

use super::super::sockets::{EAFNOSUPPORT, Secret};
use super::*;

#[test]
fn sockets_are_of_the_internet_or_of_a_connected_pair() {
    check("socket", &[2, 1, 0], ALLOW);
    check("socket", &[10, 2, 0], ALLOW);
    check("socket", &[16, 3, 0], ALLOW);
    check("socket", &[16, 3, 9], EPERM);
    check("socket", &[1, 1, 0], EPERM);
    check("socket", &[17, 3, 0], EAFNOSUPPORT);
    check("socket", &[40, 1, 0], EAFNOSUPPORT);
    check("socketpair", &[1, 1 | 0o2_000_000], ALLOW);
    check("socketpair", &[1, 5], ALLOW);
    check("socketpair", &[1, 2], EPERM);
}

#[test]
fn allowing_unix_sockets_allows_nothing_else() {
    let check = |name, arguments: &[u64], expected| {
        let lenient = |architecture: &Architecture, call, arguments: &[u64]| {
            let program =
                session_program_for(architecture, UnixSockets::Allowed(Secret([1, 2])), None);
            run(&program, architecture.audit, call, arguments)
        };
        check_with(lenient, name, arguments, expected);
    };
    for arguments in [[1, 1, 0], [1, 2, 0], [2, 1, 0], [16, 3, 0]] {
        check("socket", &arguments, ALLOW);
    }
    check("socket", &[16, 3, 9], EPERM);
    check("socket", &[17, 3, 0], EAFNOSUPPORT);
    check("socket", &[40, 1, 0], EAFNOSUPPORT);
    check("socketpair", &[1, 2], ALLOW);
    check("io_uring_setup", &[], EPERM);
}

#[test]
fn own_unix_sockets_are_streams_and_packets_that_init_connects() {
    const SECRET: [u64; 2] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];
    let check = |name, arguments: &[u64], expected| {
        let own = |architecture: &Architecture, call, arguments: &[u64]| {
            let sockets = UnixSockets::Own(Secret(SECRET));
            let program = session_program_for(architecture, sockets, None);
            run(&program, architecture.audit, call, arguments)
        };
        check_with(own, name, arguments, expected);
    };
    for (kind, expected) in [(1, ALLOW), (5, ALLOW), (2, EPERM), (3, EPERM), (0, EPERM)] {
        // SOCK_CLOEXEC and SOCK_NONBLOCK are in the same argument.
        for flags in [0, 0o2_004_000, 1 << 32] {
            check("socket", &[1, kind | flags, 0], expected);
            check("socketpair", &[1, kind | flags, 0], expected);
        }
    }
    check("socket", &[2, 2, 0], ALLOW);
    check("socket", &[16, 3, 9], EPERM);
    check("socket", &[17, 3, 0], EAFNOSUPPORT);
    for name in ["connect", "listen"] {
        check(name, &[3, 4, 5, SECRET[0], SECRET[1], 0], ALLOW);
        check(name, &[3, 4, 5, 0, 0, 0], NOTIFY);
        for bit in 0..64 {
            check(name, &[3, 4, 5, SECRET[0] ^ (1 << bit), SECRET[1], 0], NOTIFY);
            check(name, &[3, 4, 5, SECRET[0], SECRET[1] ^ (1 << bit), 0], NOTIFY);
        }
    }
    check("bind", &[], ALLOW);
    check("sendmsg", &[], ALLOW);
    assert_ne!(UnixSockets::own().unwrap(), UnixSockets::own().unwrap());
    assert_eq!(format!("{:?}", UnixSockets::Own(Secret(SECRET))), "Own(Secret)");
}
