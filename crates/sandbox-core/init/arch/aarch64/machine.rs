//! Code for AArch64 that is written in assembly.

use core::arch::{asm, naked_asm};

/// Makes a system call and returns the kernel's answer, a negative error number if it failed.
///
/// # Safety
/// The arguments are those of the call `number`, and pointers among them are valid for it.
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the caller vouches for the arguments. In the kernel's convention no register but x0
    // changes.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// Clones this process with `flags`, and calls `run` with `argument` in the child, on a stack that
/// ends at `top`. Returns the kernel's answer to `clone(2)`, whose number is `clone`.
///
/// # Safety
/// With `flags` the parent sleeps until the child has executed a program or exited. `top` is a
/// multiple of 16 and the end of unused writable memory. `run` is an `extern "C"` function that
/// takes `argument`, never returns, and gets by with that memory as its stack.
pub unsafe fn start_sharing(
    clone: usize,
    flags: usize,
    top: usize,
    run: *const (),
    argument: *mut (),
) -> isize {
    let result;
    // SAFETY: the child runs on a stack of its own, and calls a function that never returns. In the
    // kernel's convention no register but x0 changes, and the child's registers are its own.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x9",
            "blr x10",
            "brk #1",
            "2:",
            in("x8") clone,
            inlateout("x0") flags as isize => result,
            // The last two arguments are in another order than on x86-64; both are unused.
            in("x1") top, in("x2") 0, in("x3") 0, in("x4") 0,
            in("x9") argument, in("x10") run,
        );
    }
    result
}

/// Returns an address of another process as the kernel needs it to find the memory: without the tag
/// in the upper byte, which programs may use (`Documentation/arm64/tagged-pointers.rst`).
pub fn untagged(address: u64) -> u64 {
    address & (u64::MAX >> 8)
}

/// Entry point of the program. The kernel enters it without a frame, and with the arguments on the
/// stack, which is aligned.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        "bl {start}",
        "brk #1",
        start = sym crate::start,
    )
}

/// # Safety
/// The conditions of C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller passes `len` bytes at each address, without an overlap. Ordinary memory
    // may be read and written at any alignment.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #16",
            "b.lo 3f",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "b 2b",
            "3: adds {left}, {left}, #16",
            "b.eq 5f",
            "4: ldrb {a:w}, [{from}], #1",
            "strb {a:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 4b",
            "5:",
            left = inout(reg) len => _, to = inout(reg) to => _, from = inout(reg) from => _,
            a = out(reg) _, b = out(reg) _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// The conditions of C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    // SAFETY: the caller passes `len` bytes. Ordinary memory may be written at any alignment.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #16",
            "b.lo 3f",
            "stp {word}, {word}, [{to}], #16",
            "b 2b",
            "3: adds {left}, {left}, #16",
            "b.eq 5f",
            "4: strb {word:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 4b",
            "5:",
            left = inout(reg) len => _, to = inout(reg) to => _, word = in(reg) word,
            options(nostack),
        );
    }
    to
}
