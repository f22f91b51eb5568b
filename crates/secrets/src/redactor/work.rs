//! The bound of a search. Without it, a text that begins a value at every place, such as zeros for
//! a value of zeros, would take the product of both lengths.

use std::collections::HashMap;

use super::forms::Form;

/// Comparisons of a search besides those for its length.
const SPARE: u64 = 4 << 20;
/// Fewest comparisons for each byte of the text.
const FOR_BYTE: u64 = 16;
/// Length of the beginning that counts as the form once the comparisons are used up.
pub(super) const BEGINNING_CHARACTERS: usize = 32;

/// The comparisons that a search has left.
///
/// A text in which no value overlaps itself needs at most one for each byte and form.
#[derive(Clone, Debug)]
pub(super) struct Work {
    left: u64,
    for_byte: u64,
    /// Lengths of forms, by their indexes.
    lengths: HashMap<usize, usize>,
}

impl Work {
    pub(super) fn new(forms: usize) -> Self {
        Self { left: SPARE, for_byte: FOR_BYTE.max(forms as u64), lengths: HashMap::new() }
    }

    /// Adds the comparisons for a part of the text.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.left = self.left.saturating_add((part.len() as u64).saturating_mul(self.for_byte));
    }

    /// Notes a comparison. Returns whether no more are left.
    pub(super) fn is_spent(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Returns the length of a form, without escapes and line breaks that a text may add.
    pub(super) fn length(&mut self, index: usize, form: &Form, secret: &str) -> usize {
        *self.lengths.entry(index).or_insert_with(|| {
            let (mut length, mut at) = (0, form.first());
            while let Some((_, next)) = form.unit(secret, at) {
                (length, at) = (length + 1, next);
            }
            length
        })
    }
}
