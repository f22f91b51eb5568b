//! The namespaces of a session, and the ids in its user namespace.

use crate::mounts::Failure;
use crate::sys::{self, Result, c};
use crate::{tier, wire};

const CLONE_NEWUTS: usize = 0x400_0000;
const CLONE_NEWIPC: usize = 0x800_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;

/// Moves this process and its future children into new namespaces.
pub fn make(has_group: bool) -> core::result::Result<(), Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    let (user, group) = sys::user_and_group();
    let enter = |inside, outside| {
        sys::unshare(CLONE_NEWUSER).map_err(at(wire::STEP_USER_NAMESPACE))?;
        map_ids(inside, outside).map_err(at(wire::STEP_ID_MAP))
    };
    // The limits of an IPC namespace belong to user 0 of the user namespace that owns it. So that
    // of another user is created in a user namespace around the session's own.
    let around = if user == 0 { (user, group) } else { (0, 0) };
    enter(around, (user, group))?;
    sys::unshare(CLONE_NEWIPC).map_err(at(wire::STEP_NAMESPACES))?;
    if user != 0 {
        enter((user, group), around)?;
    }
    let others = tier::CLONE_NEWNS | tier::CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS;
    // A namespace of control groups gives access only to groups below its root. So if the session
    // has a group, each worker creates a namespace for its own.
    let groups = if has_group { 0 } else { tier::CLONE_NEWCGROUP };
    sys::unshare(others | groups).map_err(at(wire::STEP_NAMESPACES))
}

/// Maps one user and group of the new user namespace to those of the caller, and no others
/// (`user_namespaces(7)`).
fn map_ids(inside: (u32, u32), outside: (u32, u32)) -> Result<()> {
    let write = |path, text: &[u8]| {
        let file = sys::open(sys::AT_FDCWD, path, sys::O_WRONLY, 0)?;
        let written = sys::write(file, text);
        sys::close(file);
        written.map(drop)
    };
    write(c(b"/proc/self/setgroups\0"), b"deny")?;
    let mut line = [0; 32];
    write(c(b"/proc/self/uid_map\0"), map_line(&mut line, inside.0, outside.0))?;
    write(c(b"/proc/self/gid_map\0"), map_line(&mut line, inside.1, outside.1))
}

/// `<id inside> <id outside> 1`.
fn map_line(line: &mut [u8; 32], inside: u32, outside: u32) -> &[u8] {
    let (mut digits, mut more_digits) = ([0; 10], [0; 10]);
    let inside = sys::decimal(&mut digits, inside);
    let outside = sys::decimal(&mut more_digits, outside);
    let mut at = 0;
    for part in [inside, b" ", outside, b" 1"] {
        line[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    &line[..at]
}
