//! Decrypts a value that the npm package `crypto-js` encrypted:
//!
//! ```sh
//! PASSPHRASE=… cargo run -p secrets --example decrypt -- U2FsdGVkX1…
//! ```
//!
//! Without arguments, it encrypts and decrypts a value of its own.

use std::error::Error;

use secrets::{ExposeSecret as _, cryptojs};

fn main() -> Result<(), Box<dyn Error>> {
    let passphrase = std::env::var("PASSPHRASE").unwrap_or_else(|_| "correct horse".to_owned());
    let value = match std::env::args().nth(1) {
        Some(value) => value,
        None => {
            let value = cryptojs::encrypt("sk-live-123456", &passphrase)?;
            println!("encrypted: {value}");
            value
        }
    };
    match cryptojs::decrypt(&value, &passphrase) {
        Ok(plain) => println!("decrypted: {}", plain.expose_secret()),
        Err(error) => println!("failed to decrypt ({:?}): {error}", error.kind()),
    }
    // A wrong passphrase is an error, never an empty text.
    let error = cryptojs::decrypt(&value, "another passphrase").unwrap_err();
    println!("with another passphrase: {error}");
    Ok(())
}
