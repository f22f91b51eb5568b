//! Encoding of log entries.
//!
//! An entry is text. Its first line is the header. Each line has sixteen hexadecimal digits of the
//! BLAKE3 hash of its JSON, a space, the JSON, and a newline.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log::ids::{Hash, Token};
use crate::log::line::{Content, Line};

/// Version of the format of entries.
pub(crate) const FORMAT: u32 = 1;
pub(super) const CHECKSUM_DIGITS: usize = 16;
/// Space that is reserved for each line of an entry.
const USUAL_LINE_BYTES: usize = 384;

/// First line of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    pub(crate) format: u32,
    pub(crate) number: u64,
    /// Number of the newest snapshot, which may be this entry.
    pub(crate) snapshot: u64,
    /// Number of the oldest entry as of which the state is retained; zero if all are.
    #[serde(default)]
    pub(crate) retained: u64,
    /// Hash of the previous entry.
    pub(crate) previous: Option<Hash>,
    pub(crate) token: Token,
    /// Number of the lines after this one.
    pub(crate) lines: usize,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) lines: Vec<Line>,
}

/// Error of an entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("its format {format} is newer than this version of the program")]
    NewerFormat { format: u32 },
    #[error("its line {line} is damaged")]
    Damaged { line: usize },
    #[error("it has {found} of its {expected} lines")]
    Cut { found: usize, expected: usize },
    #[error("it belongs to number {found}")]
    WrongNumber { found: u64 },
}

impl Entry {
    pub(crate) fn encode(&self) -> Bytes {
        let mut text = Vec::with_capacity(self.lines.len() * USUAL_LINE_BYTES);
        append_checksummed(&mut text, &self.header);
        self.lines.iter().for_each(|line| append_checksummed(&mut text, line));
        text.into()
    }

    pub(crate) fn decode(number: u64, bytes: &[u8]) -> Result<Self, EntryError> {
        let damaged = |line| EntryError::Damaged { line };
        let text = bytes.strip_suffix(b"\n").ok_or(damaged(1))?;
        let mut rest = text.split(|byte| *byte == b'\n').enumerate();
        let (_, first) = rest.next().ok_or(damaged(1))?;
        let json = verified(first).ok_or(damaged(1))?;
        // A newer format may have other fields, so only its number is parsed first.
        let Format { format } = serde_json::from_slice(json).map_err(|_| damaged(1))?;
        if format > FORMAT {
            return Err(EntryError::NewerFormat { format });
        }
        let header: Header = serde_json::from_slice(json).map_err(|_| damaged(1))?;
        if header.number != number {
            return Err(EntryError::WrongNumber { found: header.number });
        }
        let lines = rest.map(|(at, line)| parse(line).ok_or(damaged(at + 1)));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        if lines.len() != header.lines {
            return Err(EntryError::Cut { found: lines.len(), expected: header.lines });
        }
        Ok(Self { header, lines })
    }

    /// Returns the entry that a tombstone stands for.
    pub(super) fn of_deleted_session(number: u64) -> Self {
        let lines = vec![Line::Erased];
        let header = Header {
            format: FORMAT,
            number,
            snapshot: number,
            retained: 0,
            previous: None,
            token: Token::random(),
            lines: lines.len(),
        };
        Self { header, lines }
    }

    /// Returns the content with this hash that a line holds itself.
    pub(crate) fn inline(&self, hash: &Hash) -> Option<Bytes> {
        self.lines.iter().find_map(|line| match line {
            Line::File { file, .. } if file.hash == *hash => match &file.content {
                Content::Inline(inline) => Some(inline.0.clone()),
                Content::Blob(_) | Content::Entry(_) => None,
            },
            _ => None,
        })
    }

    /// Returns whether the entry holds the complete state.
    pub(crate) fn is_snapshot(&self) -> bool {
        self.header.snapshot == self.header.number
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Appends a value as one line with its checksum. The value is encoded in place, because an entry
/// may be large.
pub(crate) fn append_checksummed(text: &mut Vec<u8>, value: &impl Serialize) {
    let start = text.len();
    text.extend_from_slice(&[b' '; CHECKSUM_DIGITS + 1]);
    serde_json::to_writer(&mut *text, value).expect("text and numbers only");
    let (sum, json) = text[start..].split_at_mut(CHECKSUM_DIGITS);
    sum.copy_from_slice(&checksum(&json[1..]));
    text.push(b'\n');
}

/// Parses a line without its newline. Returns `None` if it is damaged.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(verified(line)?).ok()
}

pub(super) fn verified(line: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (sum == checksum(json)).then_some(json)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let digits = blake3::hash(bytes).to_hex();
    *digits.as_bytes().first_chunk().expect("a hash has more digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::line::{Author, FileVersion, Inline, Origin};
    use crate::state::Version;

    fn entry() -> Entry {
        let version = Version { etag: Some("\"e\"".to_owned()), version: None };
        let file = |content, adopted: Option<Version>| FileVersion {
            size: 3,
            hash: Hash::of(b"abc"),
            mode: 0o755,
            modified: (-1, 999_999_999),
            token: Token::parse(&"1f".repeat(16)).unwrap(),
            number: 0,
            content,
            origin: Origin::Agent,
            adopted: adopted.map(Box::new),
        };
        let path = "é \"x\"\n".to_owned();
        let inline = Content::Inline(Box::new(Inline(Bytes::from_static(b"abc"))));
        Entry {
            header: Header {
                format: FORMAT,
                number: 7,
                snapshot: 3,
                retained: 2,
                previous: Some(Hash::of(b"previous")),
                token: Token::random(),
                lines: 11,
            },
            lines: vec![
                Line::Own { home: "h".to_owned(), url: None },
                Line::File { path: path.clone(), file: file(inline, None) },
                Line::File {
                    path: "b".to_owned(),
                    file: file(Content::Blob(Token::random()), Some(version.clone())),
                },
                Line::File { path: "c".to_owned(), file: file(Content::Entry(4), None) },
                Line::Directory { path: "d".to_owned(), mode: 0o700 },
                Line::Symlink { path: "s".to_owned(), target: "../x".to_owned() },
                Line::Removed { path, by: Author::Agent, at: 5, number: 0 },
                Line::Adopted { path: "x".to_owned(), version },
                Line::Snapshot { owner: None, began: 0 },
                Line::Erased,
                Line::Release,
            ],
        }
    }

    #[test]
    fn entries_decode_as_they_were() {
        let entry = entry();
        let encoded = entry.encode();
        assert_eq!(Entry::decode(7, &encoded), Ok(entry));
        assert_eq!(Entry::decode(8, &encoded), Err(EntryError::WrongNumber { found: 7 }));
    }

    #[test]
    fn any_damaged_byte_is_detected() {
        let encoded = entry().encode();
        for at in 0..encoded.len() {
            let mut damaged = encoded.to_vec();
            damaged[at] ^= 1;
            assert!(Entry::decode(7, &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_cut_entry_is_detected() {
        let encoded = entry().encode();
        for length in 0..encoded.len() {
            assert!(Entry::decode(7, &encoded[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        #[derive(Serialize)]
        struct Newer {
            format: u32,
        }
        let mut text = Vec::new();
        append_checksummed(&mut text, &Newer { format: FORMAT + 1 });
        let expected = Err(EntryError::NewerFormat { format: FORMAT + 1 });
        assert_eq!(Entry::decode(1, &text), expected);
    }
}
