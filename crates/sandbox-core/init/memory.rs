//! The functions on memory that compiled code calls by name (C11 7.24), like those of a C library.
//!
//! The architecture has `memcpy` and `memset`, in `arch/*/machine.rs`.

/// # Safety
/// The conditions of C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller passes `len` bytes at each address. Volatile reads keep the compiler
        // from turning the loop into a call of this function.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// Comparison for equality, which the compiler calls if the order does not matter.
///
/// # Safety
/// The conditions of C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller vouches for the same conditions.
    unsafe { memcmp(a, b, len) }
}

/// # Safety
/// The conditions of C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller passes a text that ends in NUL. Volatile for the reason above.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}
