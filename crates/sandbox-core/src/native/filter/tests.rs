//! Verdicts of the programs, for the tables of all architectures.

mod modes;
mod sockets;

use super::assembler::{AND, JUMP_ANY_BIT, JUMP_AT_LEAST, JUMP_EQUAL, LOAD, RETURN};
use super::table::{AddressArgument, CreatedKind, CreatedName, Creates};
use super::*;

/// Runs a program like the kernel, on one call.
fn run(program: &[u8], audit: u32, call: u32, arguments: &[u64]) -> u32 {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&call.to_ne_bytes());
    data[4..8].copy_from_slice(&audit.to_ne_bytes());
    for (at, argument) in arguments.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let raw = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([raw[0], raw[1]]);
        let value = u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]);
        at += 1;
        let mut jump = |condition| at += usize::from(if condition { raw[2] } else { raw[3] });
        match code {
            LOAD => {
                let offset = value as usize;
                accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            AND => accumulator &= value,
            JUMP_EQUAL => jump(accumulator == value),
            JUMP_AT_LEAST => jump(accumulator >= value),
            JUMP_ANY_BIT => jump(accumulator & value != 0),
            RETURN => return value,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// Returns the verdict of the strict session program and the worker program together.
fn verdict(architecture: &Architecture, call: u32, arguments: &[u64]) -> u32 {
    let session = session_program_for(architecture, UnixSockets::Denied, None);
    match run(&session, architecture.audit, call, arguments) {
        ALLOW => run(&worker_program_for(architecture), architecture.audit, call, arguments),
        stricter => stricter,
    }
}

/// Checks the verdict on a named call on each architecture that has it.
#[track_caller]
fn check(name: &str, arguments: &[u64], expected: u32) {
    check_with(verdict, name, arguments, expected);
}

#[track_caller]
fn check_with(
    verdict: impl Fn(&Architecture, u32, &[u64]) -> u32,
    name: &str,
    arguments: &[u64],
    expected: u32,
) {
    let mut found = 0;
    for architecture in ARCHITECTURES {
        let Some(call) = architecture.calls.iter().find(|call| call.name == name) else {
            continue;
        };
        found += 1;
        let verdict = verdict(architecture, call.number, arguments);
        assert_eq!(verdict, expected, "{name} on {}", architecture.name);
    }
    assert_ne!(found, 0, "no table has {name}");
}

fn row(architecture: &Architecture, name: &str) -> Call {
    *architecture.calls.iter().find(|call| call.name == name).unwrap()
}

/// Returns the names of the calls with a rule that `applies`, on any architecture.
fn names(applies: impl Fn(&Rule) -> bool) -> Vec<&'static str> {
    let calls = ARCHITECTURES.iter().flat_map(|architecture| architecture.calls);
    calls.filter(|call| call.rules.iter().any(&applies)).map(|call| call.name).collect()
}

#[test]
fn ordinary_calls_are_allowed() {
    for name in ["read", "write", "execve", "openat", "statx", "connect", "bind", "sendmsg"] {
        check(name, &[], ALLOW);
    }
    check("clone", &[17], ALLOW);
    check("clone", &[0x003d_0f00], ALLOW);
    check("unshare", &[0x400], ALLOW);
    // getrandom and faccessat2 have no rows.
    assert_eq!(verdict(&table::x86_64::ARCHITECTURE, 318, &[]), ALLOW);
    assert_eq!(verdict(&table::aarch64::ARCHITECTURE, 278, &[]), ALLOW);
    for architecture in ARCHITECTURES {
        assert_eq!(verdict(architecture, 439, &[]), ALLOW);
    }
}

#[test]
fn mounts_and_new_namespaces_are_denied() {
    let denied = names(|rule| matches!(rule, Rule::Denied | Rule::DeniedToCommands));
    assert!(["pivot_root", "setns", "bpf", "mount"].iter().all(|name| denied.contains(name)));
    for name in denied {
        check(name, &[], EPERM);
    }
    for flag in
        [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        check("clone", &[flag | 17], EPERM);
        check("unshare", &[flag], EPERM);
    }
    check("unshare", &[0x80], EPERM);
    check("clone3", &[], ENOSYS);
}

#[test]
fn without_namespaces_calls_that_they_would_isolate_are_denied() {
    let check_as = |attributes, name, arguments: &[u64], expected| {
        let verdict = |architecture: &Architecture, call, arguments: &[u64]| {
            let program = worker_program_without_namespaces_for(architecture, attributes);
            run(&program, architecture.audit, call, arguments)
        };
        check_with(verdict, name, arguments, expected);
    };
    let check = |name, arguments: &[u64], expected| {
        check_as(Attributes::Denied, name, arguments, expected);
    };
    let denied = names(|rule| {
        matches!(
            rule,
            Rule::DeniedToCommands | Rule::DeniedWithoutNamespaces | Rule::ChangesAttributes
        )
    });
    assert!(["socket", "mount", "chmod", "fchmodat"].iter().all(|name| denied.contains(name)));
    for name in denied {
        check(name, &[], EPERM);
    }
    for (name, process) in ARCHITECTURES
        .iter()
        .flat_map(|architecture| architecture.calls)
        .filter_map(|call| Some((call.name, affected_process(call)?)))
    {
        let on = |pid| if process == 0 { [pid, 0] } else { [1, pid] };
        check(name, &on(0), ALLOW);
        check(name, &on(77), EPERM);
    }
    // The first argument selects a process, a process group, or a user.
    for (name, process) in [("setpriority", 0), ("ioprio_set", 1)] {
        for which in 0..4 {
            let expected = if which == process { ALLOW } else { EPERM };
            check(name, &[which, 0], expected);
            check(name, &[which, 77], EPERM);
        }
    }
    check("socketpair", &[1, 1], ALLOW);
    check("clone", &[17], ALLOW);
    check("clone", &[0x1000_0011], EPERM);
    for request in ATTRIBUTE_IOCTLS {
        check("ioctl", &[3, request.into()], EPERM);
    }
    check("ioctl", &[3, 0x5401], ALLOW);
    check("utimensat", &[3, 0], ALLOW);
    check("utimensat", &[3, 0x1000], EPERM);
    check("utimensat", &[3, 1 << 32], EPERM);
    check_as(Attributes::Allowed, "fchmodat", &[], ALLOW);
    check_as(Attributes::Allowed, "utimensat", &[3, 1], ALLOW);
    check_as(Attributes::Allowed, "socket", &[2], EPERM);
}

#[test]
fn init_is_asked_about_calls_that_create_names_and_no_others() {
    let check = |name, arguments: &[u64], expected| {
        let verdict = |architecture: &Architecture, call, arguments: &[u64]| {
            let program = session_program_for(architecture, UnixSockets::Denied, Some(77));
            run(&program, architecture.audit, call, arguments)
        };
        check_with(verdict, name, arguments, expected);
    };
    check("open", &[1, 0o1101], NOTIFY);
    check("open", &[1, 0o1001], ALLOW);
    check("openat", &[3, 1, 0o101], NOTIFY);
    check("openat", &[0o100, 1, 0], ALLOW);
    for name in ["rename", "mkdir", "mkdirat", "linkat", "renameat2"] {
        check(name, &[], NOTIFY);
    }
    check("mkdirat", &[3, 1, 77 << 32 | 0o755], ALLOW);
    check("mkdirat", &[3, 1, 76 << 32], NOTIFY);
    for name in ["read", "write", "execve", "unlinkat"] {
        check(name, &[], ALLOW);
    }
}

#[test]
fn leases_are_denied_and_other_commands_of_fcntl_are_not() {
    for (command, expected) in [(1024, EPERM), (1040, EPERM), (1025, ALLOW), (4, ALLOW), (6, ALLOW)]
    {
        check("fcntl", &[3, command, 0], expected);
        check("fcntl", &[3, command | 1 << 32, 0], expected);
    }
}

#[test]
fn typing_into_a_terminal_is_denied_with_any_upper_half() {
    check("ioctl", &[0, 0x5401], ALLOW);
    check("ioctl", &[0, 0x5412], EPERM);
    check("ioctl", &[0, 0xffff_ffff_0000_5412], EPERM);
    check("ioctl", &[0, 0x541c], EPERM);
}

#[test]
fn other_abis_and_unknown_calls_are_denied() {
    for architecture in ARCHITECTURES {
        let session = session_program_for(architecture, UnixSockets::Denied, None);
        // The 32-bit ABIs of x86 and ARM.
        for audit in [0x4000_0003, 0x4000_0028] {
            assert_eq!(run(&session, audit, 21, &[]), KILL_PROCESS);
        }
        for other in ARCHITECTURES.iter().filter(|other| other.name != architecture.name) {
            assert_eq!(run(&session, other.audit, 21, &[]), KILL_PROCESS);
        }
        // x32 numbers have the bit 0x4000_0000.
        for call in [0x4000_0000 | 165, u32::MAX, architecture.last_reviewed + 1] {
            assert_eq!(verdict(architecture, call, &[]), ENOSYS, "{call}");
        }
    }
}

/// A rule that is decided by arguments needs a block in `filter.rs`.
#[test]
fn the_calls_that_are_decided_by_their_arguments_are_those_with_a_block() {
    let mut names = names(|rule| *rule == Rule::ByArguments);
    names.sort_unstable();
    names.dedup();
    let blocks =
        ["clone", "clone3", "fcntl", "ioctl", "socket", "socketpair", "unshare", "utimensat"];
    assert_eq!(names, blocks);
}

#[test]
fn a_table_is_sorted_and_names_each_call_once() {
    for architecture in ARCHITECTURES {
        let calls = architecture.calls;
        assert!(calls.windows(2).all(|pair| pair[0].number < pair[1].number));
        let mut names: Vec<_> = calls.iter().map(|call| call.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}", architecture.name);
        assert!(calls.iter().all(|call| call.number <= architecture.last_reviewed));
    }
}

#[test]
fn the_tables_differ_in_numbers_only() {
    let [one, other] = ARCHITECTURES;
    for call in one.calls {
        let Some(same) = other.calls.iter().find(|same| same.name == call.name) else {
            continue;
        };
        let expected = Call { number: same.number, ..*call };
        assert_eq!(*same, expected, "{}", call.name);
        // Numbers from 424 on are the same on all architectures.
        assert!(call.number < 424 || call.number == same.number, "{}", call.name);
    }
    let created = |call: &&Call| other.calls.iter().all(|same| same.name != call.name);
    let legacy: Vec<_> = one.calls.iter().filter(created).map(|call| call.name).collect();
    assert!(legacy.contains(&"open") && !legacy.contains(&"openat"), "{legacy:?}");
    assert!(other.calls.iter().all(|call| one.calls.iter().any(|same| same.name == call.name)));
}

#[test]
fn every_notified_call_has_a_row_that_says_which_names_it_creates() {
    for architecture in ARCHITECTURES {
        for call in architecture.calls {
            let creates = call.paths.iter().any(|path| path.creates != Creates::Nothing);
            assert_eq!(call.notified().is_some(), creates, "{}", call.name);
        }
        // Init searches these rows for every call that the program reports to it.
        let calls: Vec<Call> = match architecture.name {
            "x86_64" => table::x86_64::ARCHITECTURE.notified_calls::<14>().into(),
            _ => table::aarch64::ARCHITECTURE.notified_calls::<7>().into(),
        };
        assert_eq!(calls.len(), architecture.count_notified());
        let program = session_program_for(architecture, UnixSockets::Denied, Some(77));
        for number in 0..=architecture.last_reviewed {
            let arguments = [0o100; 6];
            if run(&program, architecture.audit, number, &arguments) == NOTIFY {
                let call = calls.iter().find(|call| call.number == number).expect("a row");
                assert_ne!(call.created_names(arguments).count(), 0, "{}", call.name);
            }
        }
    }
}

#[test]
fn an_exchange_creates_both_names() {
    for architecture in ARCHITECTURES {
        let call = row(architecture, "renameat2");
        let names = |flags| call.created_names([3, 10, u64::MAX, 20, flags, 0]).collect::<Vec<_>>();
        let new = CreatedName { directory: -1, path: 20, kind: CreatedKind::Any };
        let old = CreatedName { directory: 3, path: 10, kind: CreatedKind::Any };
        assert_eq!(names(0), [new]);
        assert_eq!(names(2), [old, new]);
        let call = row(architecture, "mkdirat");
        let directory = CreatedName { directory: 4, path: 30, kind: CreatedKind::Directory };
        assert_eq!(call.created_names([4, 30, 0, 0, 0, 0]).collect::<Vec<_>>(), [directory]);
    }
}

#[test]
fn calls_with_a_socket_address_say_where_it_is() {
    use AddressArgument::{Direct, InMessage, InMessages};
    for architecture in ARCHITECTURES {
        let address = |name| row(architecture, name).address;
        assert_eq!(address("connect"), Some(Direct { address: 1, length: 2 }));
        assert_eq!(address("bind"), Some(Direct { address: 1, length: 2 }));
        assert_eq!(address("sendto"), Some(Direct { address: 4, length: 5 }));
        assert_eq!(address("sendmsg"), Some(InMessage { message: 1 }));
        assert_eq!(address("sendmmsg"), Some(InMessages { messages: 1, count: 2 }));
        assert_eq!(address("socket"), None);
    }
}

/// The flags of the running architecture, against those of the library that the host uses.
#[test]
fn open_flags_are_those_of_the_running_architecture() {
    use rustix::fs::OFlags;
    let own = current();
    assert_eq!(own.name, std::env::consts::ARCH);
    assert_eq!(own.o_directory, OFlags::DIRECTORY.bits() as usize);
    assert_eq!(own.o_nofollow, OFlags::NOFOLLOW.bits() as usize);
    assert_eq!(O_CREAT, OFlags::CREATE.bits());
}
