//! Code for x86-64 that is written in assembly.

use core::arch::{asm, naked_asm};

/// Makes a system call and returns the kernel's answer, a negative error number if it failed.
///
/// # Safety
/// The arguments are those of the call `number`, and pointers among them are valid for it.
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the caller vouches for the arguments. The clobbers are those of the kernel's
    // convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
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
    // SAFETY: the child runs on a stack of its own, and calls a function that never returns. The
    // clobbers are those of the kernel's convention, and the child's registers are its own.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") clone as isize => result,
            in("rdi") flags, in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") argument, in("r13") run,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Returns an address of another process as the kernel needs it to find the memory.
pub fn untagged(address: u64) -> u64 {
    address
}

/// Entry point of the program. The kernel enters it without a frame, and with the arguments on the
/// stack (System V x86-64 ABI, 3.4.1).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym crate::start,
    )
}

/// # Safety
/// The conditions of C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller passes `len` bytes at each address, without an overlap.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// The conditions of C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller passes `len` bytes.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack),
        );
    }
    to
}
