//! The first stage of the search: places at which a form may begin.
//!
//! Every form has an anchor, which is its first bytes. Instead of searching for the anchors, the
//! stage looks at four bytes of the text at every few positions. The positions are so close that
//! every anchor contains one of these pieces. A table of hashes tells whether any anchor has the
//! piece at any place. The time does not depend on the number of secrets.
//!
//! The packed searcher of `aho-corasick` is as fast, but takes at most 64 patterns, and cannot wipe
//! the pieces of secrets that it holds.

mod joined;
mod solid;
mod spelled;

use memchr::memchr2;
use zeroize::{Zeroize as _, Zeroizing};

use self::joined::Joined;
use super::attempt::{MAX_FOLD_BYTES, has_break};
use super::forms::{Form, MIN_WORD_BYTES, is_blank};
use super::spelling::{Levels, is_introducer};

const PIECE_BYTES: usize = 4;
/// Number of pieces that are looked up before their results are examined.
const BLOCK_PIECES: usize = 8;
/// Cells of the table for each piece. More cells lead to fewer useless comparisons.
const CELLS_PER_PIECE: usize = 32;
/// Minimum number of cells. The table then fits into the nearest caches.
const MIN_CELLS: usize = 1 << 15;

/// The anchors of all forms.
pub(super) struct Anchors {
    /// Distance of the positions that the stage looks at.
    step: usize,
    /// Length of an anchor.
    len: usize,
    /// For each cell, the marks of the pieces there. Without pieces, a cell is 0.
    table: Zeroizing<Vec<u8>>,
    /// All pieces, sorted.
    pieces: Vec<Piece>,
    /// Bits by two successive bytes within an anchor of a foldable form.
    folded_pairs: Zeroizing<Vec<u64>>,
    /// The same of all forms.
    pairs: Zeroizing<Vec<u64>>,
    /// The escapes of the forms, without forms that have none.
    levels: Vec<Levels>,
    /// Index of the escapes of each form. Of a form without escapes, it is behind the last one.
    levels_of: Vec<u8>,
    /// Indexes of all forms, by their first byte.
    by_first_byte: Vec<Vec<usize>>,
}

/// A piece of an anchor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    bytes: u32,
    form: u32,
    /// The place of the piece in the anchor.
    offset: u32,
}

impl Anchors {
    /// `shortest` is the length of the shortest secret.
    pub(super) fn new(forms: &[Form], secrets: &[Zeroizing<String>], shortest: usize) -> Self {
        let len = shortest.clamp(PIECE_BYTES, MIN_WORD_BYTES);
        let step = len + 1 - PIECE_BYTES;
        // A reallocation would leave a copy in memory.
        let mut pieces = Vec::with_capacity(forms.len() * step);
        let cells = (forms.len() * step * CELLS_PER_PIECE).next_power_of_two().max(MIN_CELLS);
        let mut anchors = Self {
            step,
            len,
            table: Zeroizing::new(vec![0; cells]),
            pieces: Vec::new(),
            folded_pairs: Zeroizing::new(vec![0; (1 << 16) / 64]),
            pairs: Zeroizing::new(vec![0; (1 << 16) / 64]),
            levels: Levels::distinct(forms.iter().map(|form| form.levels)),
            levels_of: Vec::new(),
            by_first_byte: vec![Vec::new(); 256],
        };
        for (index, form) in forms.iter().enumerate() {
            let known = anchors.levels.iter().position(|levels| *levels == form.levels);
            anchors.levels_of.push(known.unwrap_or(anchors.levels.len()) as u8);
            form.head(&secrets[form.secret], len, |head| {
                anchors.by_first_byte[usize::from(head[0])].push(index);
                for (offset, bytes) in head.windows(PIECE_BYTES).enumerate() {
                    let bytes = piece(bytes, 0);
                    anchors.table[cell(bytes, cells)] |= mark(bytes);
                    pieces.push(Piece { bytes, form: index as u32, offset: offset as u32 });
                }
                for pair in head.windows(2) {
                    set(&mut anchors.pairs, pair_number(pair));
                    if form.is_foldable() {
                        set(&mut anchors.folded_pairs, pair_number(pair));
                    }
                }
            });
        }
        pieces.sort_unstable();
        anchors.pieces = pieces;
        anchors
    }

    /// Calls `visit` with the index of each form that may begin at `from` or later, and with the
    /// place. Only anchors that end in the text are found.
    pub(super) fn find(&self, text: &[u8], from: usize, mut visit: impl FnMut(usize, usize)) {
        if self.pieces.is_empty() {
            return;
        }
        self.find_unbroken(text, from, &mut visit);
        self.find_broken(text, from, &mut visit);
        self.find_spelled(text, from, &mut visit);
    }

    /// Finds anchors without line breaks.
    fn find_unbroken(&self, text: &[u8], from: usize, visit: &mut impl FnMut(usize, usize)) {
        // The loop is fast only if the compiler knows the step.
        match self.step {
            1 => self.find_at_every::<1>(text, from, visit),
            2 => self.find_at_every::<2>(text, from, visit),
            3 => self.find_at_every::<3>(text, from, visit),
            4 => self.find_at_every::<4>(text, from, visit),
            5 => self.find_at_every::<5>(text, from, visit),
            6 => self.find_at_every::<6>(text, from, visit),
            _ => self.find_at_every::<7>(text, from, visit),
        }
    }

    fn find_at_every<const STEP: usize>(
        &self,
        text: &[u8],
        from: usize,
        visit: &mut impl FnMut(usize, usize),
    ) {
        let table = self.table.as_slice();
        let mut at = from;
        while let Some(bytes) = text.get(at..at + (BLOCK_PIECES - 1) * STEP + PIECE_BYTES) {
            let mut hits = 0;
            for number in 0..BLOCK_PIECES {
                hits |= table[cell(piece(bytes, number * STEP), table.len())];
            }
            if hits != 0 {
                for number in 0..BLOCK_PIECES {
                    self.find_at(text, from, at + number * STEP, visit);
                }
            }
            at += BLOCK_PIECES * STEP;
        }
        while at + PIECE_BYTES <= text.len() {
            self.find_at(text, from, at, visit);
            at += STEP;
        }
    }

    fn find_at(&self, text: &[u8], from: usize, at: usize, visit: &mut impl FnMut(usize, usize)) {
        for found in self.with(piece(text, at)) {
            let start = at.checked_sub(found.offset as usize).filter(|start| *start >= from);
            if let Some(start) = start.filter(|start| start + self.len <= text.len()) {
                visit(found.form as usize, start);
            }
        }
    }

    /// Finds anchors of foldable forms with line breaks.
    fn find_broken(&self, text: &[u8], from: usize, visit: &mut impl FnMut(usize, usize)) {
        let mut at = from;
        while let Some(found) = memchr2(b'\r', b'\n', &text[at..]) {
            let fold = run(text, from, at + found);
            at = fold.end;
            let is_between = fold.start > from && fold.end < text.len();
            if !is_between
                || fold.len() > MAX_FOLD_BYTES
                || !self.has_folded_pair(text[fold.start - 1], text[fold.end])
            {
                continue;
            }
            let joined = Joined::new(text, from, &fold, self.len - 1);
            let mut place = 0;
            while place + PIECE_BYTES <= joined.bytes().len() {
                for found in self.with(piece(joined.bytes(), place)) {
                    let start = place.checked_sub(found.offset as usize);
                    if let Some(start) = start.and_then(|start| joined.crossing(start, self.len)) {
                        visit(found.form as usize, start);
                    }
                }
                place += self.step;
            }
        }
    }

    /// Calls `visit` with the index of each form that may begin at `from` or later and whose anchor
    /// may not end in the text, and with the place.
    pub(super) fn find_unfinished(
        &self,
        text: &[u8],
        from: usize,
        mut visit: impl FnMut(usize, usize),
    ) {
        if self.pieces.is_empty() {
            return;
        }
        let unfinished = self.unfinished_from(text, from);
        let begin = self.spelled_unfinished_from(text, from).min(unfinished);
        for (start, byte) in text.iter().enumerate().skip(begin) {
            if is_introducer(*byte) {
                self.visit_escape(text, start, &mut visit);
            }
            let next = text.get(start + 1).copied().filter(|next| !is_blank(*next));
            let is_open = next.is_none_or(is_introducer);
            if !is_open && !next.is_some_and(|next| self.has_pair(*byte, next)) {
                continue;
            }
            for &form in &self.by_first_byte[usize::from(*byte)] {
                visit(form, start);
            }
        }
    }

    /// Returns the first place at which an anchor may begin that does not end in the text.
    fn unfinished_from(&self, text: &[u8], from: usize) -> usize {
        let unbroken = text.len().saturating_sub(self.len - 1).max(from);
        let (mut at, mut missing) = (text.len(), self.len - 1);
        while at > from && missing > 0 {
            let fold = run(text, from, at - 1);
            if fold.is_empty() {
                (at, missing) = (at - 1, missing - 1);
                continue;
            }
            // A line break may follow the last blanks.
            let is_fold = fold.end == text.len() || has_break(&text[fold.clone()]);
            if !is_fold || fold.len() > MAX_FOLD_BYTES {
                break;
            }
            at = fold.start;
        }
        at.min(unbroken)
    }

    fn has(&self, bytes: u32) -> bool {
        self.table[cell(bytes, self.table.len())] & mark(bytes) != 0
    }

    fn has_folded_pair(&self, first: u8, second: u8) -> bool {
        is_set(&self.folded_pairs, pair_number(&[first, second]))
    }

    fn has_pair(&self, first: u8, second: u8) -> bool {
        is_set(&self.pairs, pair_number(&[first, second]))
    }

    /// Returns the pieces with these bytes.
    fn with(&self, bytes: u32) -> impl Iterator<Item = &Piece> {
        let found = if self.has(bytes) {
            let begin = self.pieces.partition_point(|piece| piece.bytes < bytes);
            &self.pieces[begin..]
        } else {
            &[]
        };
        found.iter().take_while(move |piece| piece.bytes == bytes)
    }
}

impl Drop for Anchors {
    fn drop(&mut self) {
        for piece in &mut self.pieces {
            piece.bytes.zeroize();
        }
    }
}

/// Returns the run of blanks around a place, from `from` on. Stops if it is too long for a fold.
fn run(text: &[u8], from: usize, at: usize) -> std::ops::Range<usize> {
    let before = text[from..at].iter().rev().take(MAX_FOLD_BYTES + 1);
    let start = at - before.take_while(|byte| is_blank(**byte)).count();
    let end = at + text[at..].iter().take_while(|byte| is_blank(**byte)).count();
    if at == end { at..at } else { start..end }
}

fn piece(text: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(text[at..at + PIECE_BYTES].try_into().expect("a piece has four bytes"))
}

/// Hashes a piece by multiplication with the golden ratio (Knuth, 6.4).
fn hash(bytes: u32) -> u32 {
    bytes.wrapping_mul(0x9e37_79b1)
}

/// Returns the cell of a piece in a table with this number of cells.
fn cell(bytes: u32, cells: usize) -> usize {
    ((u64::from(hash(bytes)) * cells as u64) >> 32) as usize
}

/// Returns one bit, by which most pieces that share a cell differ.
fn mark(bytes: u32) -> u8 {
    1 << (hash(bytes) & 7)
}

fn pair_number(pair: &[u8]) -> usize {
    usize::from(pair[0]) << 8 | usize::from(pair[1])
}

fn set(bits: &mut [u64], number: usize) {
    bits[number / 64] |= 1 << (number % 64);
}

fn is_set(bits: &[u64], number: usize) -> bool {
    bits[number / 64] >> (number % 64) & 1 == 1
}
