//! Kernel settings of the session's own namespaces, most of which bound objects
//! (`proc_sys_kernel(5)`, `namespaces(7)`).

use crate::plan::Settings;
use crate::sys::{self, Errno, Fd};

/// Writes the settings below a writable `/proc`. Returns the `BOUND_…` flags of those that the
/// kernel does not let this user change. A kernel without the objects has no such setting.
pub fn apply(settings: Settings<'_>, proc: Fd) -> u32 {
    let mut refused = 0;
    for setting in settings.iter() {
        let write = || {
            let file = sys::open(proc, setting.path, sys::O_WRONLY, 0)?;
            let written = sys::write(file, setting.value.bytes());
            sys::close(file);
            written.map(drop)
        };
        match write() {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => refused |= setting.flag,
        }
    }
    refused
}
