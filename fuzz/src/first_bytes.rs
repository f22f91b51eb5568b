//! The protocol of a client by its first bytes, in every cut.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    egress::fuzz::first_bytes(input);
});
