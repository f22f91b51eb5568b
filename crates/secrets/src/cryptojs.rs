//! The passphrase format of the npm package `crypto-js`: what `AES.encrypt(text,
//! passphrase).toString()` gives.
//!
//! The text is the base64 of `Salted__`, 8 bytes of salt and AES-256-CBC with PKCS#7 padding. Key
//! and initialisation vector are the 48 bytes of OpenSSL's `EVP_BytesToKey` with MD5 and one round
//! over passphrase and salt, so `openssl enc -d -aes-256-cbc -md md5 -base64` reads the same
//! values.
//!
//! The format has no checksum. A wrong passphrase and a damaged value look alike, and both are
//! refused as one error; about one damaged value in many millions decrypts to something else
//! unnoticed.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use md5::{Digest, Md5};
use secrecy::SecretString;
use zeroize::Zeroizing;

const HEADER: &[u8; 8] = b"Salted__";
const SALT_BYTES: usize = 8;
const BLOCK_BYTES: usize = 16;

/// Reads base64 as leniently as `crypto-js` where that is harmless: padding may be missing, spare
/// bits are ignored.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a value was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// The text has characters that base64 has not.
    #[error("the encrypted value is not base64")]
    Base64,
    /// The bytes do not begin with `Salted__`, so this never was a value encrypted with a
    /// passphrase.
    #[error("the encrypted value does not begin with the `Salted__` header")]
    MissingHeader,
    /// The salt or a whole cipher block is missing.
    #[error("the encrypted value is cut short")]
    Truncated,
    /// The bytes do not decrypt to UTF-8 text. The format cannot tell the two causes apart.
    #[error("the passphrase is wrong or the encrypted value is damaged")]
    Undecryptable,
}

/// Why a value was not encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The operating system gave no random bytes for the salt.
    #[error("the operating system gave no random bytes")]
    Randomness {
        /// What it said instead.
        #[source]
        source: getrandom::Error,
    },
}

/// Decrypts a value made by `crypto-js` (or by [`encrypt`]).
///
/// Surrounding and enclosed ASCII whitespace and missing `=` padding are accepted; an encrypted
/// empty text is the empty string, and nothing else is.
///
/// # Errors
///
/// [`DecryptError`] says which step refused the value. No variant carries any of it.
pub fn decrypt(ciphertext: &str, passphrase: &str) -> Result<SecretString, DecryptError> {
    let text: String = ciphertext.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let mut bytes = Zeroizing::new(LENIENT.decode(text).map_err(|_| DecryptError::Base64)?);
    if !bytes.starts_with(&HEADER[..HEADER.len().min(bytes.len())]) || bytes.is_empty() {
        return Err(DecryptError::MissingHeader);
    }
    let (head, blocks) =
        bytes.split_at_mut_checked(HEADER.len() + SALT_BYTES).ok_or(DecryptError::Truncated)?;
    if blocks.is_empty() || blocks.len() % BLOCK_BYTES != 0 {
        return Err(DecryptError::Truncated);
    }
    let derived = derive_key(passphrase, &head[HEADER.len()..]);
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&derived[..32], &derived[32..])
        .map_err(|_| DecryptError::Undecryptable)?;
    let plain = cipher.decrypt_padded::<Pkcs7>(blocks).map_err(|_| DecryptError::Undecryptable)?;
    let plain = std::str::from_utf8(plain).map_err(|_| DecryptError::Undecryptable)?;
    Ok(SecretString::from(plain))
}

/// Encrypts a text so that `crypto-js` (and [`decrypt`]) can read it, under a fresh random salt.
///
/// # Errors
///
/// [`EncryptError::Randomness`] when the operating system gives no random bytes.
pub fn encrypt(plaintext: &str, passphrase: &str) -> Result<String, EncryptError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|source| EncryptError::Randomness { source })?;
    let derived = derive_key(passphrase, &salt);
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(&derived[..32], &derived[32..])
        .expect("32 bytes are a key and 16 an initialisation vector of AES-256-CBC");
    let mut bytes = [HEADER.as_slice(), &salt].concat();
    bytes.extend(cipher.encrypt_padded_vec::<Pkcs7>(plaintext.as_bytes()));
    Ok(STANDARD.encode(bytes))
}

/// `EVP_BytesToKey` of OpenSSL with MD5 and a count of one: 32 bytes of key and 16 of
/// initialisation vector.
fn derive_key(passphrase: &str, salt: &[u8]) -> Zeroizing<[u8; 48]> {
    let mut derived = Zeroizing::new([0; 48]);
    let mut previous: &[u8] = &[];
    for block in derived.chunks_exact_mut(16) {
        let mut hash = Md5::new();
        hash.update(previous);
        hash.update(passphrase);
        hash.update(salt);
        hash.finalize_into(block.try_into().expect("a chunk is as long as an MD5 digest"));
        previous = block;
    }
    derived
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encrypted_decrypts_to_itself(plain in any::<String>(), passphrase in any::<String>()) {
            let encrypted = encrypt(&plain, &passphrase).unwrap();
            let decrypted = decrypt(&encrypted, &passphrase).unwrap();
            prop_assert_eq!(decrypted.expose_secret(), plain.as_str());
        }

        #[test]
        fn any_text_is_refused_or_decrypted_without_a_panic(text in any::<String>(), passphrase in any::<String>()) {
            let _ = decrypt(&text, &passphrase);
        }

        #[test]
        fn any_bytes_behind_the_header_are_refused_or_decrypted_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let text = STANDARD.encode([HEADER.as_slice(), &bytes].concat());
            let refused = decrypt(&text, "secret").err();
            prop_assert!(!matches!(refused, Some(DecryptError::Base64 | DecryptError::MissingHeader)), "{:?}", refused);
        }

        #[test]
        fn another_passphrase_is_refused(plain in any::<String>(), passphrase in "[a-z]{1,8}") {
            let encrypted = encrypt(&plain, &passphrase).unwrap();
            prop_assert_eq!(decrypt(&encrypted, "another").err(), Some(DecryptError::Undecryptable));
        }
    }

    #[test]
    fn every_cut_of_a_value_is_refused() {
        let bytes = STANDARD
            .decode(encrypt("a value of two whole blocks and more", "secret").unwrap())
            .unwrap();
        for length in 0..bytes.len() {
            let expected = match length {
                0 => DecryptError::MissingHeader,
                32 | 48 => DecryptError::Undecryptable,
                _ => DecryptError::Truncated,
            };
            assert_eq!(
                decrypt(&STANDARD.encode(&bytes[..length]), "secret").err(),
                Some(expected),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn encrypting_twice_gives_two_salts() {
        assert_ne!(encrypt("value", "secret").unwrap(), encrypt("value", "secret").unwrap());
    }
}
