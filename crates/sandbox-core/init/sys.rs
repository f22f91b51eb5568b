//! The system calls that init makes, without a C library.

use crate::arch;

/// Error number of the kernel (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const FAULT: Self = Self(14);
    pub const EXIST: Self = Self(17);
    pub const INVAL: Self = Self(22);
    pub const ROFS: Self = Self(30);
    pub const LOOP: Self = Self(40);
    pub const TOO_BIG: Self = Self(7);
    pub const CONNREFUSED: Self = Self(111);
    pub const ALREADY: Self = Self(114);
    pub const INPROGRESS: Self = Self(115);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// A descriptor. Init uses few, and closes each explicitly.
pub type Fd = i32;

/// A text that ends in NUL, such as a path for the kernel.
#[derive(Clone, Copy)]
pub struct CStr<'a>(&'a [u8]);

impl<'a> CStr<'a> {
    /// Returns `None` unless `bytes` ends in NUL and has no other NUL.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_last() {
            Some((0, rest)) if !rest.contains(&0) => Some(Self(bytes)),
            _ => None,
        }
    }

    /// # Safety
    /// `start` points to a text that ends in NUL and lives as long as the result.
    unsafe fn from_ptr(start: *const u8) -> Self {
        // SAFETY: the caller vouches for the same condition.
        Self(unsafe { core::ffi::CStr::from_ptr(start.cast()) }.to_bytes_with_nul())
    }

    pub fn bytes(self) -> &'a [u8] {
        &self.0[..self.0.len() - 1]
    }

    pub fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }

    /// Returns the path without its leading slash, or `.` for the root.
    pub fn below_root(self) -> CStr<'a> {
        match self.0 {
            [b'/', 0] => c(b".\0"),
            [b'/', rest @ ..] => CStr(rest),
            _ => self,
        }
    }
}

/// Returns a literal as a text, for example `c(b"/proc\0")`.
pub const fn c(literal: &'static [u8]) -> CStr<'static> {
    CStr(literal)
}

/// # Safety
/// The arguments are those of the call `number`, and pointers among them are valid for it.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { arch::system_call(number, arguments) };
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Makes the call with a name of the system-call table.
macro_rules! sys {
    ($name:ident $(, $argument:expr)*) => {{
        const NUMBER: usize = $crate::arch::ARCHITECTURE.number(stringify!($name)) as usize;
        // SAFETY: every caller in this module passes the arguments of the call, from references
        // that outlive it.
        unsafe { $crate::sys::call(NUMBER, $crate::sys::padded([$( ($argument) as usize ),*])) }
    }};
}

fn padded<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&given);
    arguments
}

// These modules use the macro, so they come after it.
mod files;
mod landlock;
mod memory;
mod messages;
mod mounts;
mod notifications;
mod processes;
mod signals;
mod sockets;
mod start;
mod terminals;

pub use files::*;
pub use landlock::*;
pub use memory::*;
pub use messages::*;
pub use mounts::*;
pub use notifications::*;
pub use processes::*;
pub use signals::*;
pub use sockets::*;
pub use start::*;
pub use terminals::*;

#[repr(C)]
struct IoVec {
    base: *mut u8,
    len: usize,
}

/// Returns a number in decimal digits, as the kernel's files expect it.
pub fn decimal<const N: usize>(buffer: &mut [u8; N], number: impl Into<u64>) -> &[u8] {
    let mut at = buffer.len();
    let mut rest: u64 = number.into();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &buffer[at..];
        }
    }
}
