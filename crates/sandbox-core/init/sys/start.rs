//! Start and exit of the program.

use super::CStr;

/// Arguments of the program as the kernel passes them on the stack: their count, then a pointer to
/// each.
#[repr(transparent)]
pub struct Arguments(*const usize);

impl Arguments {
    /// Returns the first arguments, as far as they exist.
    pub fn first<const N: usize>(&self) -> [Option<CStr<'static>>; N] {
        // SAFETY: `_start` passes the stack pointer that the kernel has set, and that part of the
        // stack has not changed.
        let count = unsafe { self.0.read() };
        core::array::from_fn(|at| {
            // SAFETY: the same reason; each argument is a text that ends in NUL.
            (at < count).then(|| unsafe { CStr::from_ptr(self.0.add(1 + at).read() as *const u8) })
        })
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// Unused function that `core` names, because it was compiled for unwinding.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(exit_group, code);
    }
}
