//! Values that `crypto-js` encrypted, and invalid values.

use secrets::ExposeSecret as _;
use secrets::cryptojs::{DecryptError, decrypt};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct File {
    pub(crate) vectors: Vec<Vector>,
    pub(crate) negative: Vec<Negative>,
}

#[derive(Deserialize)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) passphrase: String,
    pub(crate) plaintext: String,
    pub(crate) ciphertext: String,
}

#[derive(Deserialize)]
pub(crate) struct Negative {
    pub(crate) name: String,
    pub(crate) passphrase: String,
    pub(crate) ciphertext: String,
}

pub(crate) fn read() -> File {
    serde_json::from_str(include_str!("../data/cryptojs_vectors.json")).unwrap()
}

/// The expected result for each invalid value. Values with whitespace or without padding are valid:
/// `crypto-js` accepts most of them, and `openssl` wraps its output into lines.
const EXPECTED: &[(&str, Result<&str, DecryptError>)] = &[
    ("wrong key", Err(DecryptError::Undecryptable)),
    ("wrong key 0", Err(DecryptError::Undecryptable)),
    ("wrong key 1", Err(DecryptError::Undecryptable)),
    ("wrong key 2", Err(DecryptError::Undecryptable)),
    ("wrong key 3", Err(DecryptError::Undecryptable)),
    ("wrong key 4", Err(DecryptError::Undecryptable)),
    ("wrong key 5", Err(DecryptError::Undecryptable)),
    ("empty string", Err(DecryptError::MissingHeader)),
    ("not base64 at all", Err(DecryptError::Base64)),
    ("plain text value (unencrypted)", Err(DecryptError::Base64)),
    ("no Salted__ prefix (raw ct b64)", Err(DecryptError::MissingHeader)),
    ("truncated: only Salted__+salt", Err(DecryptError::Truncated)),
    ("truncated: Salted__ + 4 salt bytes", Err(DecryptError::Truncated)),
    ("truncated to non-block length", Err(DecryptError::Truncated)),
    ("bit flip in last block", Err(DecryptError::Undecryptable)),
    ("bit flip in salt", Err(DecryptError::Undecryptable)),
    ("newline inside base64", Ok("hello")),
    ("trailing newline", Ok("hello")),
    ("leading space", Ok("hello")),
    ("trailing space", Ok("hello")),
    ("padding stripped", Ok("hello")),
    ("url-safe base64", Err(DecryptError::Base64)),
    ("plaintext not UTF-8", Err(DecryptError::Undecryptable)),
    ("last block dropped (block aligned)", Err(DecryptError::Undecryptable)),
    ("lowercase salted__", Err(DecryptError::MissingHeader)),
    ("null passphrase coerced", Err(DecryptError::Undecryptable)),
    ("hex output of CryptoJS (toString(Hex) of ciphertext)", Err(DecryptError::MissingHeader)),
    ("key/iv mode ciphertext (no salt) under passphrase", Err(DecryptError::MissingHeader)),
];

#[test]
fn every_value_from_crypto_js_decrypts_to_its_text() {
    let vectors = read().vectors;
    assert_eq!(vectors.len(), 31);
    for vector in vectors {
        let decrypted = decrypt(&vector.ciphertext, &vector.passphrase);
        let decrypted = decrypted.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(decrypted.expose_secret(), vector.plaintext, "{}", vector.name);
    }
}

#[test]
fn every_invalid_value_has_the_expected_error() {
    let negative = read().negative;
    assert_eq!(negative.len(), 28);
    assert_eq!(negative.len(), EXPECTED.len());
    for (found, (name, expected)) in negative.iter().zip(EXPECTED) {
        assert_eq!(found.name, *name);
        let decrypted = decrypt(&found.ciphertext, &found.passphrase);
        let decrypted =
            decrypted.as_ref().map(|value| value.expose_secret()).map_err(|error| *error);
        assert_eq!(decrypted, *expected, "{name}");
    }
}

#[test]
fn a_wrong_passphrase_and_a_damaged_value_have_the_same_error_without_secrets() {
    for (ciphertext, passphrase) in [
        ("U2FsdGVkX1+882TqWjLfR50eXXnthImLYYcqDreQ238=", "hunter2"),
        ("U2FsdGVkX1+882TqWjLfR50eXXnthImLYYcqDreQ234=", "secret"),
    ] {
        let error = decrypt(ciphertext, passphrase).unwrap_err();
        assert_eq!(error.to_string(), "the passphrase is wrong or the encrypted value is damaged");
        assert!(!format!("{error:?}").contains(passphrase));
    }
}
