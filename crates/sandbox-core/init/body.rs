//! Decoding of a command's message, by the layout of `wire`.

use crate::reader::Reader;
use crate::sys::{CStr, Errno, Result};

/// The message of one command.
pub struct Body<'a> {
    /// `COMMAND_…` flags.
    pub flags: u32,
    pub shell: CStr<'a>,
    pub directory: CStr<'a>,
    pub command: CStr<'a>,
    /// Number of variables, which follow as texts.
    pub count: usize,
    pub variables: Reader<'a>,
}

impl<'a> Body<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self> {
        let mut reader = Reader(message);
        let flags = reader.u32()?;
        let (shell, directory, command) = (reader.text()?, reader.text()?, reader.text()?);
        let count = reader.u32()? as usize;
        // A variable takes four bytes at least.
        if count > message.len() {
            return Err(Errno::TOO_BIG);
        }
        Ok(Self { flags, shell, directory, command, count, variables: reader })
    }
}
