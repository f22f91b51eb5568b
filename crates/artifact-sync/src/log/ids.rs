//! Hashes of contents, and random tokens.

use std::fmt::{self, Write};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const CHUNK_BYTES: usize = 1 << 18;

/// BLAKE3 hash of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hash([u8; 32]);

/// Random number of 128 bits from the operating system. Names a blob, an entry, or a file version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token([u8; 16]);

impl Hash {
    pub(crate) fn of(content: &[u8]) -> Self {
        blake3::hash(content).into()
    }

    /// Returns the hash of this one and a path.
    pub(crate) fn under(&self, path: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(path.as_bytes());
        hasher.finalize().into()
    }

    /// Hashes an open file from its beginning, and returns the hash with the number of bytes.
    pub(crate) fn of_file(file: &File) -> io::Result<(Self, u64)> {
        Self::read(file, u64::MAX)
    }

    /// Hashes the first bytes of an open file, or all if it has fewer.
    pub(crate) fn of_beginning(file: &File, length: u64) -> io::Result<Self> {
        Ok(Self::read(file, length)?.0)
    }

    fn read(file: &File, length: u64) -> io::Result<(Self, u64)> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        loop {
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            match file.read_at(&mut buffer[..left.min(CHUNK_BYTES)], offset) {
                Ok(0) => return Ok((hasher.finalize().into(), offset)),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl Token {
    /// Returns a token that no other call ever returns.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        // Linux blocks until it has randomness, so this cannot fail on a running system.
        getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
        Self(bytes)
    }
}

/// Parses lower-case hexadecimal digits of exactly this many bytes.
fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().try_for_each(|byte| {
        f.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
        f.write_char(char::from(DIGITS[usize::from(byte & 15)]))
    })
}

/// Implements text forms in lower-case hexadecimal.
macro_rules! hexadecimal {
    ($type:ident) => {
        impl $type {
            /// Parses the text form.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))
            }
        }
    };
}

hexadecimal!(Hash);
hexadecimal!(Token);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_parse_back() {
        let token = Token::random();
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        let hash = Hash::of(b"a");
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
        for wrong in ["", "0", "g", &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(Token::random(), Token::random());
    }
}
