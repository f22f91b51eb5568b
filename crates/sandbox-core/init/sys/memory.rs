//! Mapped memory.

use super::{Errno, Fd, Result, file_size};

/// Returns zeroed memory that stays mapped until the process exits.
pub fn memory(len: usize) -> Result<&'static mut [u8]> {
    // PROT_READ|WRITE, MAP_PRIVATE|MAP_ANONYMOUS
    let at = sys!(mmap, 0, len, 3, 0x22, -1isize, 0)?;
    // SAFETY: the mapping is new, has no other user, and is never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

/// Returns null pointers that stay mapped until the process exits.
pub fn null_pointers(len: usize) -> Result<&'static mut [*const u8]> {
    let bytes = memory(len.checked_mul(size_of::<*const u8>()).ok_or(Errno::TOO_BIG)?)?;
    // SAFETY: pages are aligned for pointers, zero bytes are a null pointer, and the mapping has no
    // other user.
    Ok(unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) })
}

/// Returns a zeroed value in new memory.
pub fn zeroed<T: Zero>() -> Result<&'static mut T> {
    // SAFETY: pages are aligned for every type here, zero bytes are a value of the type, and the
    // mapping has no other user.
    memory(size_of::<T>()).map(|bytes| unsafe { &mut *bytes.as_mut_ptr().cast() })
}

/// Like [`zeroed`], in memory that this process shares with its later children.
pub fn shared_memory<T: Zero + Sync>() -> Result<&'static T> {
    // PROT_READ|WRITE, MAP_SHARED|MAP_ANONYMOUS
    let at = sys!(mmap, 0, size_of::<T>(), 3, 0x21, -1isize, 0)?;
    // SAFETY: the same reasons; `Sync` types allow access by several processes at once.
    Ok(unsafe { &*(at as *const T) })
}

/// Types with a value whose bytes are all zero.
///
/// # Safety
/// The type has such a value.
pub unsafe trait Zero {}

/// Maps the current content of a file, which must not shrink.
pub fn map_file(fd: Fd) -> Result<&'static [u8]> {
    let len = file_size(fd)?;
    if len == 0 {
        return Err(Errno::INVAL);
    }
    // PROT_READ, MAP_PRIVATE
    let at = sys!(mmap, 0, len, 1, 2, fd, 0)?;
    // SAFETY: the mapping is private, and the host has sealed its file against shrinking.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, len) })
}

/// The mapped content of a file.
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

/// Stack that a worker uses at most while it watches a command, in bytes.
const TOUCHED_STACK_BYTES: usize = 16 * 1024;

/// Has the kernel provide the pages of the stack that later calls need.
#[inline(never)]
pub fn touch_stack() {
    core::hint::black_box([0u8; TOUCHED_STACK_BYTES]);
}
