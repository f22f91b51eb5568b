//! The passphrase format of the npm package `crypto-js`: the result of `AES.encrypt(text,
//! passphrase).toString()`.
//!
//! A value is the base64 of `Salted__`, 8 bytes of salt, and AES-256-CBC with PKCS#7 padding. Key
//! and initialisation vector are 48 bytes of OpenSSL's `EVP_BytesToKey`, with MD5 and one round
//! over passphrase and salt. `openssl enc -d -aes-256-cbc -md md5 -base64` therefore reads the same
//! values.
//!
//! The format has no checksum. A wrong passphrase and a damaged value are indistinguishable and
//! cause the same error. Out of many millions of damaged values, about one decrypts to another text
//! without an error.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use md5::{Digest, Md5};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error_kind::ErrorKind;

const HEADER: &[u8; 8] = b"Salted__";
/// The characters that base64 has for the header, whatever follows it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const BASE64_HEADER: &str = "U2FsdGVkX1";
/// The number of characters for the header and the salt.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const BASE64_SALT_CHARACTERS: usize = 22;
const SALT_BYTES: usize = 8;
const BLOCK_BYTES: usize = 16;

/// Base64 with optional padding and arbitrary spare bits. `crypto-js` accepts both, and both are
/// harmless.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Errors returned by [`decrypt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// The text has characters that are not base64.
    #[error("the encrypted value is not base64")]
    Base64,
    /// The bytes do not begin with `Salted__`, so the value was not encrypted with a passphrase.
    #[error("the encrypted value does not begin with the `Salted__` header")]
    MissingHeader,
    /// The salt or a part of a cipher block is missing.
    #[error("the encrypted value is cut short")]
    Truncated,
    /// The bytes do not decrypt to UTF-8 text. The format does not distinguish the two causes.
    #[error("the passphrase is wrong or the encrypted value is damaged")]
    Undecryptable,
}

impl DecryptError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Base64 | Self::MissingHeader => ErrorKind::InvalidInput,
            Self::Truncated | Self::Undecryptable => ErrorKind::Damaged,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// Errors returned by [`encrypt`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The operating system provided no random bytes for the salt.
    #[error("the operating system gave no random bytes")]
    Randomness {
        /// The error of the operating system.
        #[source]
        source: getrandom::Error,
    },
}

impl EncryptError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// Returns whether a value is a ciphertext, also one that [`decrypt`] does not read: cut off,
/// quoted, in the URL-safe alphabet or of another mode.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn looks_encrypted(value: &str) -> bool {
    let is_around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let value = value.trim_start_matches(is_around);
    if !value.starts_with(BASE64_HEADER) {
        return false;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    if value.bytes().take_while(|byte| is_base64(byte)).count() >= BASE64_SALT_CHARACTERS {
        return true;
    }
    let text: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let Ok(bytes) = LENIENT.decode(text).map(Zeroizing::new) else { return false };
    let rest = bytes.strip_prefix(HEADER).and_then(|rest| rest.get(SALT_BYTES..));
    rest.is_some_and(|blocks| !blocks.is_empty() && blocks.len() % BLOCK_BYTES == 0)
}

/// Decrypts a value that `crypto-js` or [`encrypt`] encrypted.
///
/// ASCII whitespace anywhere and missing `=` padding are accepted. The result is empty only if the
/// encrypted text was empty.
///
/// # Errors
///
/// Returns [`DecryptError`] if the value cannot be decrypted. The error contains nothing of it.
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

/// Encrypts a text with a new random salt, for `crypto-js` and [`decrypt`].
///
/// # Errors
///
/// Returns [`EncryptError::Randomness`] if the operating system provides no random bytes.
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

/// Derives 32 bytes of key and 16 bytes of initialisation vector, like OpenSSL's `EVP_BytesToKey`
/// with MD5 and a count of one.
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
        fn an_encrypted_text_decrypts_to_itself(
            plain in any::<String>(),
            passphrase in any::<String>(),
        ) {
            let encrypted = encrypt(&plain, &passphrase).unwrap();
            let decrypted = decrypt(&encrypted, &passphrase).unwrap();
            prop_assert_eq!(decrypted.expose_secret(), plain.as_str());
        }

        #[test]
        fn decrypting_any_text_does_not_panic(
            text in any::<String>(),
            passphrase in any::<String>(),
        ) {
            let _ = decrypt(&text, &passphrase);
        }

        #[test]
        fn decrypting_any_bytes_after_the_header_does_not_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let text = STANDARD.encode([HEADER.as_slice(), &bytes].concat());
            let error = decrypt(&text, "secret").err();
            let unexpected = [DecryptError::Base64, DecryptError::MissingHeader].map(Some);
            prop_assert!(!unexpected.contains(&error), "{:?}", error);
        }

        #[test]
        fn another_passphrase_is_an_error(plain in any::<String>(), passphrase in "[a-z]{1,8}") {
            let encrypted = encrypt(&plain, &passphrase).unwrap();
            let error = decrypt(&encrypted, "another").err();
            prop_assert_eq!(error, Some(DecryptError::Undecryptable));
        }
    }

    #[test]
    fn a_value_that_is_cut_anywhere_is_an_error() {
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
    fn each_encryption_has_another_salt() {
        assert_ne!(encrypt("value", "secret").unwrap(), encrypt("value", "secret").unwrap());
    }
}
