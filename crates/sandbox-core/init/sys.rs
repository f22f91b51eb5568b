//! The system calls that init makes, without a C library.

use crate::arch;

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
mod internet;
mod landlock;
mod memory;
mod messages;
mod mounts;
mod netlink;
mod notifications;
mod processes;
mod signals;
mod sockets;
mod start;
mod terminals;
mod types;

pub use files::*;
pub use internet::*;
pub use landlock::*;
pub use memory::*;
pub use messages::*;
pub use mounts::*;
pub use netlink::*;
pub use notifications::*;
pub use processes::*;
pub use signals::*;
pub use sockets::*;
pub use start::*;
pub use terminals::*;
pub use types::*;

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
