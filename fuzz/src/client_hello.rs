//! The name in a TLS hello, from pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    egress::fuzz::client_hello(input);
});
