//! Mapped memory.

use super::{Errno, Fd, Result, file_size};

/// Anonymous memory, zeroed, that lives as long as the process.
pub fn memory(len: usize) -> Result<&'static mut [u8]> {
    // PROT_READ|WRITE, MAP_PRIVATE|MAP_ANONYMOUS
    let at = sys!(mmap, 0, len, 3, 0x22, -1isize, 0)?;
    // SAFETY: the kernel has just given this mapping to nobody else, and it is never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

/// Something for which zeros are a value, in memory of its own, zeroed.
pub fn zeroed<T: Zero>() -> Result<&'static mut T> {
    // SAFETY: pages are aligned for every type here, zeros are a value of it, and the mapping is
    // nobody else's.
    memory(size_of::<T>()).map(|bytes| unsafe { &mut *bytes.as_mut_ptr().cast() })
}

/// The same, in memory that stays common to the processes that are forked later.
pub fn shared_memory<T: Zero + Sync>() -> Result<&'static T> {
    // PROT_READ|WRITE, MAP_SHARED|MAP_ANONYMOUS
    let at = sys!(mmap, 0, size_of::<T>(), 3, 0x21, -1isize, 0)?;
    // SAFETY: as above; what is shared is made to be changed by several at once.
    Ok(unsafe { &*(at as *const T) })
}

/// A type for which zeros in every byte are a value.
///
/// # Safety
/// They are.
pub unsafe trait Zero {}

/// A file's content as it is now. The file must not shrink: it is one of ours, sealed.
pub fn map_file(fd: Fd) -> Result<&'static [u8]> {
    let len = file_size(fd)?;
    if len == 0 {
        return Err(Errno::INVAL);
    }
    // PROT_READ, MAP_PRIVATE
    let at = sys!(mmap, 0, len, 1, 2, fd, 0)?;
    // SAFETY: the mapping is ours alone, and its file is sealed against shrinking by the host.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, len) })
}

/// A file's content as it is now, until this is dropped.
pub struct Mapping(&'static [u8]);

impl Mapping {
    pub fn of(fd: Fd) -> Result<Self> {
        map_file(fd).map(Self)
    }

    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = sys!(munmap, self.0.as_ptr(), self.0.len());
    }
}
