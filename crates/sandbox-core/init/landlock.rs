//! Landlock rules of a session without namespaces (`landlock(7)`). Init creates them once, and the
//! shell of each command enters them.

use crate::mounts::Failure;
use crate::reader::Reader;
use crate::sys::{self, CStr, Errno, Fd, Result, c};
use crate::wire;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// All rights that version 3 of Landlock can restrict. Version 5 adds `IOCTL_DEV`.
const SINCE_3: u64 = (1 << 15) - 1;
/// Rights that apply to a file.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Connecting and binding over TCP, since version 4.
const NETWORK: u64 = 3;
/// Abstract Unix sockets and signals, since version 6. They stay inside the command.
const SCOPES: u64 = 3;

/// The rules of a session.
pub struct Rules {
    pub ruleset: Fd,
    pub abi: u32,
}

/// Creates the rules from the operations of the plan.
pub fn build<'a>(operations: &mut Reader<'a>) -> core::result::Result<Rules, Failure<'a>> {
    let at = |step, path: &'a [u8]| move |errno| Failure { step, errno, path };
    let abi = sys::landlock_abi().map_err(at(wire::STEP_LANDLOCK, b""))?;
    if abi < wire::MIN_LANDLOCK_ABI {
        return Err(Failure { step: wire::STEP_LANDLOCK, errno: Errno(0), path: b"" });
    }
    let files = if abi >= 5 { SINCE_3 | IOCTL_DEV } else { SINCE_3 };
    let network = if abi >= 4 { NETWORK } else { 0 };
    let scopes = if abi >= 6 { SCOPES } else { 0 };
    let ruleset = sys::landlock_ruleset(&[files, network, scopes], abi)
        .map_err(at(wire::STEP_LANDLOCK, b""))?;
    let root =
        sys::open(sys::AT_FDCWD, c(b"/\0"), sys::O_PATH, 0).map_err(at(wire::STEP_ALLOW, b"/"))?;
    let count = operations.u32().map_err(at(wire::STEP_PLAN, b""))?;
    for _ in 0..count {
        let mut read = || Ok((operations.u32()?, operations.u32()?, operations.text()?));
        let (operation, argument, path) = read().map_err(at(wire::STEP_PLAN, b""))?;
        let done = match operation {
            wire::OP_ALLOW => allow(ruleset, root, path, rights(argument) & files),
            _ => Err(Errno::INVAL),
        };
        done.map_err(at(wire::STEP_ALLOW, path.bytes()))?;
    }
    sys::close(root);
    Ok(Rules { ruleset, abi })
}

fn rights(argument: u32) -> u64 {
    match argument {
        wire::READ_WRITE => (SINCE_3 | IOCTL_DEV) & !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV),
        wire::DEVICE => READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV,
        _ => EXECUTE | READ_FILE | READ_DIR,
    }
}

fn allow(ruleset: Fd, root: Fd, path: CStr<'_>, rights: u64) -> Result<()> {
    let target = match sys::open_plain(root, path.below_root()) {
        // It was deleted in the meantime.
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let rights = if sys::is_directory(target)? { rights } else { rights & OF_FILES };
    let allowed = sys::landlock_allow(ruleset, target, rights);
    sys::close(target);
    allowed
}
