//! The system call filter: a seccomp program for x86-64, as bytes.
//!
//! It refuses what a sandboxed command could use against the walls around it: new namespaces,
//! mounts, sockets that reach outside the network namespace, kernel interfaces with a long record
//! of escapes. Without namespaces it also refuses what they would keep apart, and what Landlock
//! does not look at: the attributes of files, other processes' priorities, memory shared by number.
//! All else is allowed; what the kernel learns in the future is not (`ENOSYS`), so a new way to
//! mount does not open by itself.

mod calls;

use calls::{
    CHANGES_ATTRIBUTES, MAKES_FILES, MAKES_NAMES, ON_PROCESSES, REFUSED, REFUSED_TO_COMMANDS,
    REFUSED_WITHOUT_NAMESPACES,
};

use crate::sandbox::Weakness;

/// The highest call number that was looked at (`file_setattr`, Linux 6.17).
const LAST_KNOWN_CALL: u32 = 469;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Numbers from here on belong to the x32 ABI, which would slip past every rule below.
const X32_CALLS: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_USER_NOTIF`
const ASK: u32 = 0x7fc0_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0000 | 1;
const ENOSYS: u32 = 0x0005_0000 | 38;
const EAFNOSUPPORT: u32 = 0x0005_0000 | 97;

/// `CLONE_NEW*` of `clone(2)`; `CLONE_NEWTIME` is in `unshare(2)` only, where its bit is not a
/// signal number.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
const CLONE_NEWTIME: u32 = 0x80;
const CLONE_NEWCGROUP: u32 = 0x200_0000;

const O_CREAT: u32 = 0o100;
const MKDIRAT: u32 = 258;
const UTIMENSAT: u32 = 280;
/// `FS_IOC_SETFLAGS`, `FS_IOC32_SETFLAGS` and `FS_IOC_FSSETXATTR` (`linux/fs.h`).
const ATTRIBUTE_IOCTLS: [u32; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];

const CLONE: u32 = 56;
const SOCKET: u32 = 41;
const SOCKETPAIR: u32 = 53;
const IOCTL: u32 = 16;
const UNSHARE: u32 = 272;
const CLONE3: u32 = 435;

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_SEQPACKET: u32 = 5;
/// `ioctl_tty(2)`: puts characters into a terminal's input, as if somebody had typed them.
const TIOCSTI: u32 = 0x5412;
/// `ioctl_console(2)`: the same by way of selection and paste.
const TIOCLINUX: u32 = 0x541c;

/// Whether Unix sockets may be made. They reach whatever socket the session can see in the file
/// system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnixSockets {
    /// Connected pairs only.
    Denied,
    Allowed,
}

/// The program that a session's init loads once, a row of `struct sock_filter` of 8 bytes each.
///
/// Where the policy has something to say about what comes into being, the kernel asks init about
/// every call that makes a name. Init itself is known by `mark`, in the upper half of a directory's
/// mode, where the kernel does not look.
pub(super) fn program(unix_sockets: UnixSockets, mark: Option<u32>) -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(4);
    filter.unless_equal(AUDIT_ARCH_X86_64, &[ret(KILL_PROCESS)]);
    filter.load(0);
    filter.if_at_least(X32_CALLS, &[ret(ENOSYS)]);
    filter.if_at_least(LAST_KNOWN_CALL + 1, &[ret(ENOSYS)]);
    let namespaces = NEW_NAMESPACES & !CLONE_NEWCGROUP | CLONE_NEWTIME;
    filter
        .if_equal(UNSHARE, &[argument(0), skip_unless_any(namespaces, 1), ret(EPERM), ret(ALLOW)]);
    // To the first verdict below, or to the second.
    let to_unix = if unix_sockets == UnixSockets::Allowed { 3 } else { 4 };
    filter.if_equal(
        SOCKET,
        &[
            argument(0),
            skip_if_equal(AF_INET, 5),
            skip_if_equal(AF_INET6, 4),
            skip_if_equal(AF_UNIX, to_unix),
            skip_unless_equal(AF_NETLINK, 4),
            argument(2),
            // NETLINK_ROUTE, which lists the interfaces of the namespace.
            skip_unless_equal(0, 1),
            ret(ALLOW),
            ret(EPERM),
            ret(EAFNOSUPPORT),
        ],
    );
    // A datagram socket of a pair could be pointed at any path.
    if unix_sockets == UnixSockets::Denied {
        filter.if_equal(
            SOCKETPAIR,
            &[
                argument(1),
                and(0xf),
                skip_if_equal(SOCK_STREAM, 1),
                skip_unless_equal(SOCK_SEQPACKET, 1),
                ret(ALLOW),
                ret(EPERM),
            ],
        );
    }
    filter.if_equal(
        IOCTL,
        &[
            argument(1),
            skip_if_equal(TIOCSTI, 1),
            skip_unless_equal(TIOCLINUX, 1),
            ret(EPERM),
            ret(ALLOW),
        ],
    );
    for call in REFUSED {
        filter.if_equal(*call, &[ret(EPERM)]);
    }
    if let Some(mark) = mark {
        filter
            .if_equal(MKDIRAT, &[upper_half(2), skip_unless_equal(mark, 1), ret(ALLOW), ret(ASK)]);
        for (call, flags) in MAKES_FILES {
            filter.if_equal(
                *call,
                &[argument(*flags), skip_unless_any(O_CREAT, 1), ret(ASK), ret(ALLOW)],
            );
        }
        for call in MAKES_NAMES {
            filter.if_equal(*call, &[ret(ASK)]);
        }
    }
    filter.finish()
}

/// The second program, which each slot loads over the first: the kernel runs both, and the stricter
/// verdict counts. Loading costs by length, for every command, so nearly everything is in the
/// first.
pub(super) fn program_of_slots() -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(0);
    filter.if_equal(
        CLONE,
        &[argument(0), skip_unless_any(NEW_NAMESPACES, 1), ret(EPERM), ret(ALLOW)],
    );
    for call in REFUSED_TO_COMMANDS {
        filter.if_equal(*call, &[ret(EPERM)]);
    }
    filter.refuse_what_groups_need();
    filter.finish()
}

/// Whether a file's attributes may be changed where only Landlock holds, which does not look at
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    /// Nobody's, but for the times of a file that is open.
    Denied,
    /// Those of every file of the same user.
    Allowed,
}

impl Attributes {
    pub(super) fn of(accepted: &[Weakness]) -> Self {
        if accepted.contains(&Weakness::Attributes) { Self::Allowed } else { Self::Denied }
    }
}

/// The second program where there are no namespaces.
pub(super) fn program_without_namespaces(attributes: Attributes) -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(0);
    filter.if_equal(
        CLONE,
        &[argument(0), skip_unless_any(NEW_NAMESPACES, 1), ret(EPERM), ret(ALLOW)],
    );
    for call in REFUSED_WITHOUT_NAMESPACES {
        filter.if_equal(*call, &[ret(EPERM)]);
    }
    filter.refuse_what_groups_need();
    for (call, process) in ON_PROCESSES {
        filter.if_equal(
            *call,
            &[argument(*process), skip_unless_equal(0, 1), ret(ALLOW), ret(EPERM)],
        );
    }
    if attributes == Attributes::Denied {
        for call in CHANGES_ATTRIBUTES {
            filter.if_equal(*call, &[ret(EPERM)]);
        }
        let [a, b, c] = ATTRIBUTE_IOCTLS;
        filter.if_equal(
            IOCTL,
            &[
                argument(1),
                skip_if_equal(a, 2),
                skip_if_equal(b, 1),
                skip_unless_equal(c, 1),
                ret(EPERM),
                ret(ALLOW),
            ],
        );
        // Without a path it is about an open file. The pointer is null when both of its halves are.
        filter.if_equal(
            UTIMENSAT,
            &[
                argument(1),
                skip_unless_equal(0, 3),
                upper_half(1),
                skip_unless_equal(0, 1),
                ret(ALLOW),
                ret(EPERM),
            ],
        );
    }
    filter.finish()
}

/// One `struct sock_filter` (`linux/filter.h`).
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Instruction {
    fn bytes(self) -> [u8; 8] {
        let (code, value) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [code[0], code[1], self.if_true, self.if_false, value[0], value[1], value[2], value[3]]
    }
}

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;

fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, value }
}

fn and(value: u32) -> Instruction {
    Instruction { code: AND, if_true: 0, if_false: 0, value }
}

/// Loads the low half of an argument: each one looked at here is an `int` or has its flags there.
fn argument(number: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, value: 16 + number * 8 }
}

/// Loads the high half of an argument.
fn upper_half(number: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, value: 20 + number * 8 }
}

fn skip_if_equal(value: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, if_true: count, if_false: 0, value }
}

fn skip_unless_equal(value: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, if_true: 0, if_false: count, value }
}

fn skip_unless_any(bits: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_ANY_BIT, if_true: 0, if_false: count, value: bits }
}

/// Blocks that are entered on a condition on the loaded call number, and that all end in a return.
#[derive(Debug, Default)]
struct Assembler(Vec<Instruction>);

impl Assembler {
    /// What no block has decided is allowed.
    fn finish(mut self) -> Vec<u8> {
        self.0.push(ret(ALLOW));
        self.0.iter().flat_map(|instruction| instruction.bytes()).collect()
    }

    /// What init and slots need where sessions have control groups, and a command must not have.
    fn refuse_what_groups_need(&mut self) {
        // With `clone3` the flags are in memory, out of a filter's sight. C libraries fall back to
        // `clone`.
        self.if_equal(CLONE3, &[ret(ENOSYS)]);
        self.if_equal(
            UNSHARE,
            &[argument(0), skip_unless_any(CLONE_NEWCGROUP, 1), ret(EPERM), ret(ALLOW)],
        );
    }

    fn load(&mut self, offset: u32) {
        self.0.push(Instruction { code: LOAD, if_true: 0, if_false: 0, value: offset });
    }

    fn block(&mut self, code: u16, value: u32, body: &[Instruction]) {
        let if_false = u8::try_from(body.len()).expect("blocks are short");
        self.0.push(Instruction { code, if_true: 0, if_false, value });
        self.0.extend_from_slice(body);
    }

    fn if_equal(&mut self, value: u32, body: &[Instruction]) {
        self.block(JUMP_EQUAL, value, body);
    }

    fn if_at_least(&mut self, value: u32, body: &[Instruction]) {
        self.block(JUMP_AT_LEAST, value, body);
    }

    fn unless_equal(&mut self, value: u32, body: &[Instruction]) {
        let if_true = u8::try_from(body.len()).expect("blocks are short");
        self.0.push(Instruction { code: JUMP_EQUAL, if_true, if_false: 0, value });
        self.0.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the strict program and that of slots as the kernel would on one call.
    fn verdict(arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
        match verdict_of(&program(UnixSockets::Denied, None), arch, call, arguments) {
            ALLOW => verdict_of(&program_of_slots(), arch, call, arguments),
            stricter => stricter,
        }
    }

    fn verdict_of(program: &[u8], arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&call.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
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

    #[track_caller]
    fn check(call: u32, arguments: &[u64], expected: u32) {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        assert_eq!(verdict(AUDIT_ARCH_X86_64, call, all), expected);
    }

    #[test]
    fn ordinary_calls_are_allowed() {
        for call in [0, 1, 59, 60, 257, 332, 439] {
            check(call, &[], ALLOW);
        }
        check(CLONE, &[17], ALLOW);
        check(CLONE, &[0x003d_0f00], ALLOW);
        check(UNSHARE, &[0x400], ALLOW);
    }

    #[test]
    fn mounts_and_new_namespaces_are_refused() {
        for call in REFUSED.iter().chain(REFUSED_TO_COMMANDS) {
            check(*call, &[], EPERM);
        }
        for flag in
            [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            check(CLONE, &[flag | 17], EPERM);
            check(UNSHARE, &[flag], EPERM);
        }
        check(UNSHARE, &[0x80], EPERM);
        check(CLONE3, &[], ENOSYS);
    }

    #[test]
    fn sockets_are_of_the_internet_or_of_a_connected_pair() {
        check(SOCKET, &[2, 1, 0], ALLOW);
        check(SOCKET, &[10, 2, 0], ALLOW);
        check(SOCKET, &[16, 3, 0], ALLOW);
        check(SOCKET, &[16, 3, 9], EPERM);
        check(SOCKET, &[1, 1, 0], EPERM);
        check(SOCKET, &[17, 3, 0], EAFNOSUPPORT);
        check(SOCKET, &[40, 1, 0], EAFNOSUPPORT);
        check(SOCKETPAIR, &[1, 1 | 0o2_000_000], ALLOW);
        check(SOCKETPAIR, &[1, 5], ALLOW);
        check(SOCKETPAIR, &[1, 2], EPERM);
    }

    #[test]
    fn allowing_unix_sockets_allows_nothing_else() {
        let lenient = program(UnixSockets::Allowed, None);
        let socket = |arguments: [u64; 3]| {
            let [a, b, c] = arguments;
            verdict_of(&lenient, AUDIT_ARCH_X86_64, SOCKET, [a, b, c, 0, 0, 0])
        };
        assert_eq!([[1, 1, 0], [1, 2, 0], [2, 1, 0], [16, 3, 0]].map(socket), [ALLOW; 4]);
        assert_eq!(
            [[16, 3, 9], [17, 3, 0], [40, 1, 0]].map(socket),
            [EPERM, EAFNOSUPPORT, EAFNOSUPPORT]
        );
        assert_eq!(verdict_of(&lenient, AUDIT_ARCH_X86_64, SOCKETPAIR, [1, 2, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict_of(&lenient, AUDIT_ARCH_X86_64, 425, [0; 6]), EPERM);
    }

    #[test]
    fn without_namespaces_what_they_would_keep_apart_is_refused() {
        let verdict = |attributes, call, arguments: &[u64]| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            verdict_of(&program_without_namespaces(attributes), AUDIT_ARCH_X86_64, call, all)
        };
        let strict = |call, arguments: &[u64]| verdict(Attributes::Denied, call, arguments);
        for call in REFUSED_WITHOUT_NAMESPACES.iter().chain(CHANGES_ATTRIBUTES) {
            assert_eq!(strict(*call, &[]), EPERM, "{call}");
        }
        for (call, process) in ON_PROCESSES {
            let on = |pid| if *process == 0 { vec![pid, 0] } else { vec![1, pid] };
            assert_eq!([strict(*call, &on(0)), strict(*call, &on(77))], [ALLOW, EPERM], "{call}");
        }
        assert_eq!(strict(SOCKETPAIR, &[1, 1]), ALLOW);
        assert_eq!([strict(CLONE, &[17]), strict(CLONE, &[0x1000_0011])], [ALLOW, EPERM]);
        assert_eq!(ATTRIBUTE_IOCTLS.map(|request| strict(IOCTL, &[3, request.into()])), [EPERM; 3]);
        assert_eq!(strict(IOCTL, &[3, 0x5401]), ALLOW);
        let times = [&[3, 0][..], &[3, 0x1000], &[3, 1 << 32]]
            .map(|arguments| strict(UTIMENSAT, arguments));
        assert_eq!(times, [ALLOW, EPERM, EPERM]);
        let lenient = |call, arguments: &[u64]| verdict(Attributes::Allowed, call, arguments);
        assert_eq!(
            [lenient(90, &[]), lenient(UTIMENSAT, &[3, 1]), lenient(41, &[2])],
            [ALLOW, ALLOW, EPERM]
        );
    }

    #[test]
    fn what_makes_a_name_is_asked_about_and_nothing_else() {
        let verdict = |call, arguments: &[u64]| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            verdict_of(&program(UnixSockets::Denied, Some(77)), AUDIT_ARCH_X86_64, call, all)
        };
        assert_eq!([verdict(2, &[1, 0o1101]), verdict(2, &[1, 0o1001])], [ASK, ALLOW]);
        assert_eq!([verdict(257, &[3, 1, 0o101]), verdict(257, &[0o100, 1, 0])], [ASK, ALLOW]);
        assert_eq!([82, 83, 258, 265, 316, 437].map(|call| verdict(call, &[])), [ASK; 6]);
        assert_eq!(
            [verdict(258, &[3, 1, 77 << 32 | 0o755]), verdict(258, &[3, 1, 76 << 32])],
            [ALLOW, ASK]
        );
        assert_eq!([0, 1, 59, 87, 263].map(|call| verdict(call, &[])), [ALLOW; 5]);
    }

    #[test]
    fn typing_into_a_terminal_is_refused_with_any_upper_half() {
        check(IOCTL, &[0, 0x5401], ALLOW);
        check(IOCTL, &[0, 0x5412], EPERM);
        check(IOCTL, &[0, 0xffff_ffff_0000_5412], EPERM);
        check(IOCTL, &[0, 0x541c], EPERM);
    }

    #[test]
    fn other_abis_and_unknown_calls_are_no_way_around() {
        assert_eq!(verdict(0x4000_0003, 21, [0; 6]), KILL_PROCESS);
        check(X32_CALLS | 165, &[], ENOSYS);
        check(u32::MAX, &[], ENOSYS);
        check(LAST_KNOWN_CALL + 1, &[], ENOSYS);
    }
}
