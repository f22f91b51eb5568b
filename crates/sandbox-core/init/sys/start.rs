//! The beginning and the end of the program.

use super::CStr;

/// The arguments of the program, as the kernel leaves them on the stack: their count, then a
/// pointer to each (System V x86-64 ABI, 3.4.1).
#[repr(transparent)]
pub struct Arguments(*const usize);

impl Arguments {
    /// The first few, where there are as many.
    pub fn first<const N: usize>(&self) -> [Option<CStr<'static>>; N] {
        // SAFETY: `_start` passes the stack pointer that the kernel set, and nothing has changed
        // that part of the stack.
        let count = unsafe { self.0.read() };
        core::array::from_fn(|at| {
            // SAFETY: as above; each is a text that ends in NUL.
            (at < count).then(|| unsafe { CStr::from_ptr(self.0.add(1 + at).read() as *const u8) })
        })
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// `core` was compiled for unwinding and names this function; nothing here unwinds.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(exit_group, code);
    }
}
