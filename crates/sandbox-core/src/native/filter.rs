//! The system-call filter: seccomp programs as bytes, built from the system-call tables.
//!
//! It denies calls that a command could use against the boundaries of its session: new namespaces,
//! mounts, sockets that reach outside the network namespace, and kernel interfaces with a long
//! record of escapes. In a session without namespaces it also denies calls that namespaces would
//! isolate, and calls that Landlock does not control: attributes of files, priorities of other
//! processes, and memory shared by number. All other reviewed calls are allowed. A call that is
//! newer than the table gets `ENOSYS`, so a new way to mount does not open silently.
//!
//! The filter does not restrict the `prctl(2)` operations for pointer authentication and memory
//! tagging on AArch64. They affect only the calling thread, and C libraries use them.

mod assembler;
mod modes;
mod sockets;
#[path = "../../init/arch/table.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "only init uses the positions of arguments"))]
#[expect(unreachable_pub, reason = "the file is compiled into the init program too")]
mod table;

use assembler::{
    Assembler, Instruction, argument, ret, skip_if_equal, skip_unless_any, skip_unless_equal,
    upper_half,
};
use modes::SetGroupId;
pub(super) use sockets::UnixSockets;
use table::{Architecture, Call, Condition, O_CREAT, Rule};

use crate::sandbox::Weakness;

const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_USER_NOTIF`
const NOTIFY: u32 = 0x7fc0_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0000 | 1;
const ENOSYS: u32 = 0x0005_0000 | 38;

/// Offsets in `struct seccomp_data`.
const CALL_NUMBER: u32 = 0;
const AUDIT_ARCHITECTURE: u32 = 4;

/// `CLONE_NEW*` of `clone(2)`; `CLONE_NEWTIME` is in `unshare(2)` only, where its bit is not a
/// signal number.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
const CLONE_NEWTIME: u32 = 0x80;
const CLONE_NEWCGROUP: u32 = 0x200_0000;

/// `F_SETLEASE` and `F_SETDELEG` (`fcntl(2)`), with which a reader delays the writers of a file.
const LEASES: [u32; 2] = [1024, 1040];

/// `FS_IOC_SETFLAGS`, `FS_IOC32_SETFLAGS` and `FS_IOC_FSSETXATTR` (`linux/fs.h`).
const ATTRIBUTE_IOCTLS: [u32; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];

/// `ioctl_tty(2)`: puts characters into the input of a terminal.
const TIOCSTI: u32 = 0x5412;
/// `ioctl_console(2)`: does the same through selection and paste.
const TIOCLINUX: u32 = 0x541c;

/// The architectures with a system-call table.
const ARCHITECTURES: [&Architecture; 2] =
    [&table::x86_64::ARCHITECTURE, &table::aarch64::ARCHITECTURE];

/// Policy for changes of file attributes in a session without namespaces, because Landlock does not
/// control them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    /// None may be changed, except the times of an open file.
    Denied,
    /// Those of each file that belongs to the user may be changed.
    Allowed,
}

impl Attributes {
    pub(super) fn of(accepted: &[Weakness]) -> Self {
        if accepted.contains(&Weakness::Attributes) { Self::Allowed } else { Self::Denied }
    }
}

/// Returns the program that a session's init loads, in units of `struct sock_filter`.
///
/// With a `bypass_tag` the kernel asks init about every call that creates a name, except for
/// `mkdirat` calls with the tag in the upper half of the mode, which the kernel ignores.
pub(super) fn session_program(unix_sockets: UnixSockets, bypass_tag: Option<u32>) -> Vec<u8> {
    session_program_for(current(), unix_sockets, bypass_tag)
}

/// Returns the second program, which each worker loads over the first.
///
/// The kernel runs both, and the stricter verdict counts. Every worker pays for the length of this
/// program, so nearly everything is in the first.
pub(super) fn worker_program() -> Vec<u8> {
    worker_program_for(current())
}

/// Returns the second program of a session without namespaces.
pub(super) fn worker_program_without_namespaces(attributes: Attributes) -> Vec<u8> {
    worker_program_without_namespaces_for(current(), attributes)
}

/// Returns the architecture that this program was compiled for.
///
/// An architecture without a table has no init, so the fallback never reaches a kernel.
fn current() -> &'static Architecture {
    let own = |architecture: &&&Architecture| architecture.name == std::env::consts::ARCH;
    ARCHITECTURES.iter().find(own).unwrap_or(&ARCHITECTURES[0])
}

fn session_program_for(
    architecture: &Architecture,
    unix_sockets: UnixSockets,
    bypass_tag: Option<u32>,
) -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(AUDIT_ARCHITECTURE);
    filter.unless_equal(architecture.audit, &[ret(KILL_PROCESS)]);
    filter.load(CALL_NUMBER);
    // On x86-64 this includes all numbers of the x32 ABI.
    filter.if_at_least(architecture.last_reviewed + 1, &[ret(ENOSYS)]);
    let namespaces = NEW_NAMESPACES & !CLONE_NEWCGROUP | CLONE_NEWTIME;
    filter.if_equal(architecture.number("unshare"), &deny_flags(namespaces));
    filter.restrict_sockets(architecture, unix_sockets);
    filter.ask_about_set_group_id(architecture, unix_sockets.secret());
    filter.if_equal(
        architecture.number("ioctl"),
        &[
            argument(1),
            skip_if_equal(TIOCSTI, 1),
            skip_unless_equal(TIOCLINUX, 1),
            ret(EPERM),
            ret(ALLOW),
        ],
    );
    let [lease, delegation] = LEASES;
    filter.if_equal(
        architecture.number("fcntl"),
        &[
            argument(1),
            skip_if_equal(lease, 1),
            skip_unless_equal(delegation, 1),
            ret(EPERM),
            ret(ALLOW),
        ],
    );
    filter.deny(architecture, |rule| *rule == Rule::Denied);
    for call in architecture.calls.iter().filter(|call| call.rules.contains(&Rule::Absent)) {
        filter.if_equal(call.number, &[ret(ENOSYS)]);
    }
    if let Some(bypass_tag) = bypass_tag {
        for call in architecture.calls {
            if let Some(condition) = call.notified() {
                filter.if_equal(call.number, &notify(condition, bypass_tag));
            }
        }
    }
    filter.finish(ret(ALLOW))
}

/// Returns the block for a call about which the kernel asks init.
fn notify(condition: Condition, bypass_tag: u32) -> Vec<Instruction> {
    match condition {
        Condition::Always => vec![ret(NOTIFY)],
        Condition::CreateFlag { flags } => {
            vec![argument(flags), skip_unless_any(O_CREAT, 1), ret(NOTIFY), ret(ALLOW)]
        }
        Condition::Untagged { mode } => {
            vec![upper_half(mode), skip_unless_equal(bypass_tag, 1), ret(ALLOW), ret(NOTIFY)]
        }
    }
}

fn worker_program_for(architecture: &Architecture) -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(CALL_NUMBER);
    filter.deny_new_groups_and_namespaces(architecture);
    filter.deny(architecture, |rule| *rule == Rule::DeniedToCommands);
    filter.deny_special_modes(architecture, SetGroupId::AnsweredByInit);
    filter.finish(ret(ALLOW))
}

fn worker_program_without_namespaces_for(
    architecture: &Architecture,
    attributes: Attributes,
) -> Vec<u8> {
    let mut filter = Assembler::default();
    filter.load(CALL_NUMBER);
    filter.deny_new_groups_and_namespaces(architecture);
    filter.deny(architecture, |rule| {
        matches!(rule, Rule::DeniedToCommands | Rule::DeniedWithoutNamespaces)
    });
    if attributes == Attributes::Denied {
        filter.deny(architecture, |rule| *rule == Rule::ChangesAttributes);
    }
    filter.deny_special_modes(architecture, SetGroupId::Denied);
    for call in architecture.calls {
        if let Some(process) = affected_process(call) {
            let own_only = [argument(process), skip_unless_equal(0, 1), ret(ALLOW), ret(EPERM)];
            filter.if_equal(call.number, &own_only);
        }
        for rule in call.rules {
            if let Rule::AffectsSelected { which, process } = *rule {
                filter.if_equal(
                    call.number,
                    &[
                        argument(0),
                        skip_unless_equal(which, 3),
                        argument(process),
                        skip_unless_equal(0, 1),
                        ret(ALLOW),
                        ret(EPERM),
                    ],
                );
            }
        }
    }
    if attributes == Attributes::Denied {
        let [a, b, c] = ATTRIBUTE_IOCTLS;
        filter.if_equal(
            architecture.number("ioctl"),
            &[
                argument(1),
                skip_if_equal(a, 2),
                skip_if_equal(b, 1),
                skip_unless_equal(c, 1),
                ret(EPERM),
                ret(ALLOW),
            ],
        );
        // Without a path the call is about an open file. A null pointer has two halves of 0.
        filter.if_equal(
            architecture.number("utimensat"),
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
    filter.finish(ret(ALLOW))
}

fn affected_process(call: &Call) -> Option<u8> {
    call.rules.iter().find_map(|rule| match rule {
        Rule::AffectsProcess { process } => Some(*process),
        _ => None,
    })
}

/// Returns the block that denies a call with any of `flags` in its first argument.
fn deny_flags(flags: u32) -> [Instruction; 4] {
    [argument(0), skip_unless_any(flags, 1), ret(EPERM), ret(ALLOW)]
}

impl Assembler {
    /// Denies every call with a rule that `applies`.
    fn deny(&mut self, architecture: &Architecture, applies: impl Fn(&Rule) -> bool) {
        for call in architecture.calls {
            if call.rules.iter().any(&applies) {
                self.if_equal(call.number, &[ret(EPERM)]);
            }
        }
    }

    /// Denies what workers need to start, and commands must not have.
    fn deny_new_groups_and_namespaces(&mut self, architecture: &Architecture) {
        self.if_equal(architecture.number("clone"), &deny_flags(NEW_NAMESPACES));
        // With `clone3` the flags are in memory, where a filter cannot read them. C libraries fall
        // back to `clone`.
        self.if_equal(architecture.number("clone3"), &[ret(ENOSYS)]);
        self.if_equal(architecture.number("unshare"), &deny_flags(CLONE_NEWCGROUP));
    }
}

/// Changes an encoded session program so that init is asked about the call `number` instead of the
/// named one.
#[cfg(test)]
pub(super) fn notify_instead_of(program: &mut [u8], name: &str, number: u32) {
    let block = |number| {
        let mut filter = Assembler::default();
        filter.if_equal(number, &[ret(NOTIFY)]);
        let mut bytes = filter.finish(ret(ALLOW));
        bytes.truncate(16);
        bytes
    };
    let (from, to) = (block(current().number(name)), block(number));
    let at = program.windows(from.len()).position(|window| window == from);
    let at = at.expect("the program notifies about the call");
    program[at..at + to.len()].copy_from_slice(&to);
}

#[cfg(test)]
mod tests;
