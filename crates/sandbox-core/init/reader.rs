//! Decoding of the plan and of requests, by the layout of `wire`.

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

    /// Reads a count and that number of elements of a fixed size.
    pub fn list(&mut self, element_bytes: usize) -> Result<&'a [u8]> {
        let count = self.u32()? as usize;
        self.bytes(count.saturating_mul(element_bytes))
    }

    /// Reads a count and that number of texts. Returns their position in `file`, at whose end this
    /// reader ends too.
    pub fn texts(&mut self, file: &[u8]) -> Result<Span> {
        let count = self.u32()?;
        let start = file.len() - self.0.len();
        for _ in 0..count {
            self.text()?;
        }
        Ok(Span { count, start })
    }
}

/// Position of a list of texts in a mapped file.
#[derive(Clone, Copy)]
pub struct Span {
    count: u32,
    start: usize,
}

impl Span {
    /// Returns the texts without their NULs. [`Reader::texts`] has checked them.
    pub fn of(self, file: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut reader = Reader(&file[self.start..]);
        (0..self.count).map_while(move |_| {
            let len = reader.u32().ok()? as usize;
            reader.bytes(len + 1).ok().map(|bytes| &bytes[..len])
        })
    }
}
