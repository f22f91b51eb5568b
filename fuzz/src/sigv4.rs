//! AWS signatures that are made anew.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    egress::fuzz::sigv4(input);
});
