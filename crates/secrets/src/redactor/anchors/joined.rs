//! The text around a line break, without this and other line breaks.

use std::ops::Range;

use zeroize::Zeroizing;

use super::super::attempt::{Blanks, MAX_FOLD_BYTES, blanks, has_break};
use super::super::forms::{MIN_WORD_BYTES, is_blank};
use super::super::spelling::{self, Levels};
use super::run;

/// The bytes of two anchors, and the rest of a character.
const MAX_BYTES: usize = 2 * MIN_WORD_BYTES + 2;

/// Treatment of line breaks with indentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folds {
    Read,
    Skipped,
}

/// Bytes on both sides of a fold or an escape, with their places in the text.
pub(super) struct Joined {
    bytes: Zeroizing<[u8; MAX_BYTES]>,
    places: [usize; MAX_BYTES],
    /// Number of bytes before the fold or escape.
    before: usize,
    /// The last place at which an anchor begins that has bytes of both sides, or the escape.
    last: usize,
    len: usize,
}

impl Joined {
    /// Takes up to `most` bytes on each side of `fold`, from `from` on. Other folds are skipped.
    /// Blanks without a line break end the bytes.
    pub(super) fn new(text: &[u8], from: usize, fold: &Range<usize>, most: usize) -> Self {
        let mut joined = Self::before(text, from, fold.start, most, Folds::Skipped);
        joined.add(text, fold.end, most, Levels::NONE, Folds::Skipped);
        // There is a byte before a fold.
        joined.last = joined.before - 1;
        joined
    }

    /// Takes up to `most` bytes before the escape at `place`, from `from` on, which are no escapes,
    /// and the meaning of as many characters from the escape on.
    pub(super) fn spelled(
        text: &[u8],
        from: usize,
        place: usize,
        most: usize,
        levels: Levels,
        folds: Folds,
    ) -> Self {
        let mut joined = Self::before(text, from, place, most, folds);
        joined.add(text, place, most + 1, levels, folds);
        joined
    }

    fn before(text: &[u8], from: usize, end: usize, most: usize, folds: Folds) -> Self {
        let bytes = Zeroizing::default();
        let mut joined = Self { bytes, places: [0; MAX_BYTES], before: 0, last: 0, len: 0 };
        let mut at = end;
        while at > from && joined.len < most {
            if folds == Folds::Read || !is_blank(text[at - 1]) {
                at -= 1;
                joined.push(text[at], at);
                continue;
            }
            let other = run(text, from, at - 1);
            // The blanks before an escape may be part of its fold.
            let is_fold = has_break(&text[other.clone()]) || other.end == end;
            if !is_fold || other.len() > MAX_FOLD_BYTES {
                break;
            }
            at = other.start;
        }
        (joined.before, joined.last) = (joined.len, joined.len);
        joined.bytes[..joined.len].reverse();
        joined.places[..joined.len].reverse();
        joined
    }

    fn add(&mut self, text: &[u8], start: usize, most: usize, levels: Levels, folds: Folds) {
        let mut at = start;
        while self.len < self.before + most {
            if folds == Folds::Skipped {
                match blanks(text, at, levels) {
                    Blanks::None => {}
                    Blanks::Some { end, has_break } if has_break || at == start => {
                        at = end;
                        continue;
                    }
                    _ => break,
                }
            }
            let Some(character) = spelling::read(text, at, levels) else { break };
            for byte in character.bytes() {
                self.push(*byte, at);
            }
            at = character.end;
        }
    }

    fn push(&mut self, byte: u8, at: usize) {
        self.bytes[self.len] = byte;
        self.places[self.len] = at;
        self.len += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the place in the text of `len` bytes from `start` on, if some are on both sides of
    /// the fold, or are the escape.
    pub(super) fn crossing(&self, start: usize, len: usize) -> Option<usize> {
        let end = start + len;
        let is_crossing = start <= self.last && end > self.before && end <= self.len;
        is_crossing.then(|| self.places[start])
    }
}
