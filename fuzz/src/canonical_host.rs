//! Decisions about all spellings of a host.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    egress::fuzz::canonical_host(input);
});
