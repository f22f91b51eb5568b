//! Devices of the host among the standard streams of a command.
//!
//! A descriptor leads to the file behind it, on the mount through which it was opened. The owner of
//! that file changes its mode by the descriptor (`fchmod(2)`), also in a sandbox. If the host runs
//! as root, a command could so close `/dev/null` to every user of the machine. The session mounts
//! its devices read-only, which has no effect on reading and writing them.

use crate::sys::{self, CStr, Fd, Result, c};

/// Minor numbers of the stateless devices with the major number 1 (`mem(4)`, `null(4)`,
/// `full(4)`, `random(4)`).
const DEVICES: [(u32, CStr<'static>); 5] = [
    (3, c(b"/dev/null\0")),
    (5, c(b"/dev/zero\0")),
    (7, c(b"/dev/full\0")),
    (8, c(b"/dev/random\0")),
    (9, c(b"/dev/urandom\0")),
];

/// Opens the session's own device of the same kind, with the same access. Returns `None` if the
/// descriptor is not one of these devices.
pub fn open_own(fd: Fd) -> Result<Option<Fd>> {
    let Some((1, minor)) = sys::character_device(fd)? else { return Ok(None) };
    let Some((_, path)) = DEVICES.iter().find(|(number, _)| *number == minor) else {
        return Ok(None);
    };
    let access = sys::status_flags(fd)? & sys::O_ACCESS_MODE;
    sys::open(sys::AT_FDCWD, *path, access, 0).map(Some)
}
