//! Answers of the DNS listener.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    egress::fuzz::dns_query(input);
});
