//! Kernel settings that bound objects of the session's own namespaces (`proc_sys_kernel(5)`,
//! `namespaces(7)`).

use crate::reader::Reader;
use crate::sys::{self, Errno, Fd, Result};

/// The list of settings in a plan.
#[derive(Clone, Copy)]
pub struct Settings<'a>(&'a [u8]);

impl<'a> Settings<'a> {
    /// Reads the list, which holds none for a session without namespaces.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let all = reader.0;
        for _ in 0..reader.u32()? {
            reader.u32()?;
            reader.text()?;
            reader.text()?;
        }
        Ok(Self(&all[..all.len() - reader.0.len()]))
    }

    /// Writes the settings below a writable `/proc`. Returns the `BOUND_…` flags of those that the
    /// kernel does not let this user change. A kernel without the objects has no such setting.
    pub fn apply(self, proc: Fd) -> Result<u32> {
        let mut reader = Reader(self.0);
        let mut refused = 0;
        for _ in 0..reader.u32()? {
            let (flag, path, value) = (reader.u32()?, reader.text()?, reader.text()?);
            let write = || {
                let file = sys::open(proc, path, sys::O_WRONLY, 0)?;
                let written = sys::write(file, value.bytes());
                sys::close(file);
                written.map(drop)
            };
            match write() {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(_) => refused |= flag,
            }
        }
        Ok(refused)
    }
}
