//! Reading what the host wrote, by the layout of `wire`.

use crate::sys::{CStr, Errno, Result};

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.0.len() {
            return Err(Errno::INVAL);
        }
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32> {
        let mut word = [0; 4];
        word.copy_from_slice(self.bytes(4)?);
        Ok(u32::from_le_bytes(word))
    }

    pub fn u64(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        word.copy_from_slice(self.bytes(8)?);
        Ok(u64::from_le_bytes(word))
    }

    pub fn text(&mut self) -> Result<CStr<'a>> {
        let len = self.u32()? as usize;
        CStr::new(self.bytes(len.saturating_add(1))?).ok_or(Errno::INVAL)
    }
}
