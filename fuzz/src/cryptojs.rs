//! The decryption of stored values, and the way back.

#![no_main]

use secrets::{ExposeSecret as _, cryptojs};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (text, passphrase) = input;
    // Any text has a result, which may be an error.
    let _ = cryptojs::decrypt(text, passphrase);
    if passphrase.is_empty() {
        return;
    }
    let stored = cryptojs::encrypt(text, passphrase).expect("every text can be encrypted");
    let value = cryptojs::decrypt(&stored, passphrase).expect("the passphrase is right");
    assert_eq!(value.expose_secret(), text);
});
