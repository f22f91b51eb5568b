//! Entries that a loss of power has cut off.
//!
//! A store on the local disk can show the name of an entry whose content never reached the disk. No
//! call was acknowledged with it, unless [`Durability::Memory`] is set. Such an entry counts as one
//! without lines, so the log continues after it, and nothing is deleted.
//!
//! [`Durability::Memory`]: crate::Durability::Memory

use object_store::ObjectStoreExt;

use crate::log::entry::{CHECKSUM_DIGITS, Entry, EntryError, FORMAT, Header, verified};
use crate::log::ids::{Hash, Token};
use crate::log::store::{LogStore, ReadError, StoredEntry};

/// Returns whether the bytes are the beginning of this entry, or nothing. A file system may have
/// filled the rest with zeros. Any other difference is a damage, which a loss of power does not
/// explain.
pub(super) fn is_torn(number: u64, bytes: &[u8]) -> bool {
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &bytes[..length];
    let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (lines, rest) = text.split_at(complete);
    // The newline of a complete last line can be damaged, but nothing after it can be cut off.
    let has_damaged_end = rest.split_last().is_some_and(|(_, line)| verified(line).is_some());
    if has_damaged_end || !begins_line(rest) {
        return false;
    }
    match Entry::decode(number, lines) {
        Err(EntryError::Cut { found, expected }) => found < expected,
        Err(EntryError::Damaged { line: 1 }) => lines.is_empty(),
        _ => false,
    }
}

/// Returns whether the bytes can be the beginning of a line: its checksum, a space and JSON.
fn begins_line(bytes: &[u8]) -> bool {
    let (sum, rest) = bytes.split_at(bytes.len().min(CHECKSUM_DIGITS));
    sum.iter().all(u8::is_ascii_hexdigit)
        && b" {".iter().zip(rest).all(|(wanted, byte)| wanted == byte)
}

impl LogStore {
    /// Returns the entry that a torn one counts as. The entries before it name its snapshot.
    pub(super) async fn torn_entry(
        &self,
        number: u64,
        bytes: &[u8],
    ) -> Result<StoredEntry, ReadError> {
        tracing::debug!(number, "an entry of the session log was cut off by a loss of power");
        let mut header = Header {
            format: FORMAT,
            number,
            snapshot: 0,
            retained: 0,
            previous: None,
            token: Token::random(),
            lines: 0,
        };
        for before in (1..number).rev() {
            let content = match self.store().get(&self.entry_key(before)).await {
                Ok(got) => got.bytes().await?,
                Err(object_store::Error::NotFound { .. }) => break,
                Err(source) => return Err(source.into()),
            };
            header.previous.get_or_insert(Hash::of(&content));
            match Entry::decode(before, &content) {
                Ok(entry) => {
                    (header.snapshot, header.retained) =
                        (entry.header.snapshot, entry.header.retained);
                    break;
                }
                Err(_) if is_torn(before, &content) => {}
                Err(error) => return Err((before, error).into()),
            }
        }
        let entry = Entry { header, lines: Vec::new() };
        Ok(StoredEntry { entry, hash: Hash::of(bytes), is_torn: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::line::Line;

    fn encoded() -> Vec<u8> {
        let lines = vec![
            Line::Own { home: "h".to_owned(), url: None },
            Line::Symlink { path: "s".to_owned(), target: "x".to_owned() },
            Line::Release,
        ];
        let header = Header {
            format: FORMAT,
            number: 7,
            snapshot: 3,
            retained: 2,
            previous: None,
            token: Token::random(),
            lines: lines.len(),
        };
        Entry { header, lines }.encode().to_vec()
    }

    #[test]
    fn an_entry_that_is_cut_anywhere_is_torn_with_and_without_zeros() {
        let encoded = encoded();
        for length in 0..encoded.len() {
            let mut cut = encoded[..length].to_vec();
            assert!(is_torn(7, &cut), "{length}");
            cut.resize(encoded.len(), 0);
            assert!(is_torn(7, &cut), "{length} and zeros");
        }
        assert!(!is_torn(7, &encoded));
    }

    #[test]
    fn a_damaged_byte_is_no_tear() {
        let encoded = encoded();
        for at in 0..encoded.len() {
            for change in [1, 0x80, encoded[at] ^ b'\n'] {
                let mut damaged = encoded.clone();
                damaged[at] ^= change;
                assert!(damaged == encoded || !is_torn(7, &damaged), "byte {at} ^ {change}");
            }
        }
    }

    #[test]
    fn the_beginning_of_another_entry_is_no_torn_one() {
        let encoded = encoded();
        let header = encoded.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert!(!is_torn(8, &encoded[..header]));
        assert!(!is_torn(7, b"\n"));
        assert!(!is_torn(7, b"not an entry") && !is_torn(7, b"not an entry\n"));
    }
}
