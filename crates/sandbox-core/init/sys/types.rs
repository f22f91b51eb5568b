//! The types of the calls, and of everything that init reads.

/// Error number of the kernel (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const ACCES: Self = Self(13);
    pub const FAULT: Self = Self(14);
    pub const EXIST: Self = Self(17);
    pub const INVAL: Self = Self(22);
    pub const ROFS: Self = Self(30);
    pub const LOOP: Self = Self(40);
    pub const TOO_BIG: Self = Self(7);
    pub const AFNOSUPPORT: Self = Self(97);
    pub const ADDRINUSE: Self = Self(98);
    pub const NETUNREACH: Self = Self(101);
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
    pub(super) unsafe fn from_ptr(start: *const u8) -> Self {
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
