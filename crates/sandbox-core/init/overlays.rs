//! Files of the host that a session sees in the place of others.

use crate::copies::{attributes, mount_copy, on_host};
use crate::sys::{self, CStr, Errno, Fd, Result};
use crate::wire;

/// The overlays of a plan, each of which has a source and then a target.
#[derive(Default)]
pub struct Overlays {
    source: Option<Fd>,
}

impl Overlays {
    /// Opens the file of the host for the next overlay.
    pub fn take_source(&mut self, path: CStr<'_>) -> Result<()> {
        self.source = Some(on_host(path, sys::open_plain)?);
        Ok(())
    }

    /// Mounts the source on a file that the session sees, read-only. An absent one was deleted, or
    /// is inside a hidden directory.
    pub fn show(&mut self, target: Result<Fd>) -> Result<()> {
        let source = self.source.take().ok_or(Errno::INVAL)?;
        match target {
            Err(Errno::NOENT) => {
                sys::close(source);
                Ok(())
            }
            target => mount_copy(source, target?, attributes(wire::READ_ONLY)),
        }
    }
}
