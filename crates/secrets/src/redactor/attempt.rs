//! The comparison of one form with the text at one place, which later text can continue.

use super::forms::{Form, is_blank};
use super::work::{BEGINNING_BYTES, Work};

/// Maximum number of blanks, line breaks included, between two characters of a folded form.
pub(super) const MAX_FOLD_BYTES: usize = 128;

/// A form that the text agrees with so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    /// The place at which the form begins in the text.
    pub(super) start: usize,
    /// Index of the form.
    pub(super) form: usize,
    /// Position of the next unit of the form.
    unit: usize,
    /// End of the text that agrees.
    end: usize,
}

/// Result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The form, or what counts as it, ends at this place, which may be behind the text.
    Matches(usize),
    Differs,
    /// The text ends first.
    IsOpen,
}

impl Attempt {
    pub(super) fn new(index: usize, form: &Form, start: usize) -> Self {
        Self { start, form: index, unit: form.first(), end: start }
    }

    /// Continues the comparison up to the end of the text.
    pub(super) fn advance(
        &mut self,
        form: &Form,
        secret: &str,
        text: &[u8],
        work: &mut Work,
    ) -> Verdict {
        loop {
            if work.is_spent() && self.end - self.start >= BEGINNING_BYTES {
                // All that could belong to the form is hidden.
                let length = work.length(self.form, form, secret);
                return Verdict::Matches(self.end.max(self.start + length));
            }
            let Some((unit, next)) = form.unit(secret, self.unit) else {
                return Verdict::Matches(self.end);
            };
            let mut from = self.end;
            if from > self.start && form.is_foldable() {
                match blanks(&text[from..]) {
                    Blanks::TooMany => return Verdict::Differs,
                    Blanks::Open => return Verdict::IsOpen,
                    Blanks::Some { has_break: false, .. } if !unit.is_after_blank => {
                        return Verdict::Differs;
                    }
                    Blanks::Some { len, .. } => from += len,
                    Blanks::None => {}
                }
            }
            let expected = unit.bytes();
            let found = &text[from..text.len().min(from + expected.len())];
            if !expected.starts_with(found) {
                return Verdict::Differs;
            }
            if found.len() < expected.len() {
                return Verdict::IsOpen;
            }
            (self.end, self.unit) = (from + expected.len(), next);
        }
    }

    /// Adapts the places to a text of which the beginning was removed.
    pub(super) fn shift(&mut self, removed: usize) {
        self.start -= removed;
        self.end -= removed;
    }
}

/// The blanks at the beginning of a text.
pub(super) enum Blanks {
    None,
    Some {
        len: usize,
        has_break: bool,
    },
    /// More than a fold can have.
    TooMany,
    /// The text ends within them.
    Open,
}

pub(super) fn blanks(text: &[u8]) -> Blanks {
    let most = text.len().min(MAX_FOLD_BYTES + 1);
    let len = text[..most].iter().position(|byte| !is_blank(*byte)).unwrap_or(most);
    match len {
        _ if len > MAX_FOLD_BYTES => Blanks::TooMany,
        _ if len == text.len() => Blanks::Open,
        0 => Blanks::None,
        _ => Blanks::Some { len, has_break: has_break(&text[..len]) },
    }
}

/// Returns whether blanks contain a line break.
pub(super) fn has_break(blanks: &[u8]) -> bool {
    blanks.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}
