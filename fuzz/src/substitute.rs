//! Values in the place of placeholders, in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    egress::fuzz::substitute(input);
});
