//! The text around a line break, without this and other line breaks.

use std::ops::Range;

use zeroize::Zeroizing;

use super::super::attempt::{Blanks, MAX_FOLD_BYTES, blanks, has_break};
use super::super::forms::{MIN_WORD_BYTES, is_blank};
use super::run;

const MAX_BYTES: usize = 2 * (MIN_WORD_BYTES - 1);

/// Bytes on both sides of a fold, with their places in the text.
pub(super) struct Joined {
    bytes: Zeroizing<[u8; MAX_BYTES]>,
    places: [usize; MAX_BYTES],
    /// Number of bytes before the fold.
    before: usize,
    len: usize,
}

impl Joined {
    /// Takes up to `most` bytes on each side of `fold`, from `from` on. Other folds are skipped.
    /// Blanks without a line break end the bytes.
    pub(super) fn new(text: &[u8], from: usize, fold: &Range<usize>, most: usize) -> Self {
        let mut joined =
            Self { bytes: Zeroizing::default(), places: [0; MAX_BYTES], before: 0, len: 0 };
        let mut at = fold.start;
        while at > from && joined.len < most {
            if !is_blank(text[at - 1]) {
                at -= 1;
                joined.push(text, at);
                continue;
            }
            let other = run(text, from, at - 1);
            if !has_break(&text[other.clone()]) || other.len() > MAX_FOLD_BYTES {
                break;
            }
            at = other.start;
        }
        joined.before = joined.len;
        joined.bytes[..joined.len].reverse();
        joined.places[..joined.len].reverse();
        at = fold.end;
        while at < text.len() && joined.len < joined.before + most {
            match blanks(&text[at..]) {
                Blanks::None => {
                    joined.push(text, at);
                    at += 1;
                }
                Blanks::Some { len, has_break: true } => at += len,
                _ => break,
            }
        }
        joined
    }

    fn push(&mut self, text: &[u8], at: usize) {
        self.bytes[self.len] = text[at];
        self.places[self.len] = at;
        self.len += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the place in the text of `len` bytes from `start` on, if they are on both sides of
    /// the fold.
    pub(super) fn crossing(&self, start: usize, len: usize) -> Option<usize> {
        let end = start + len;
        (start < self.before && end > self.before && end <= self.len).then(|| self.places[start])
    }
}
