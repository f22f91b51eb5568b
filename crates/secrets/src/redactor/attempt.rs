//! The comparison of one form with the text at one place, which later text can continue.

use super::forms::{Form, is_blank};
use super::spelling::{self, Levels};
use super::work::{BEGINNING_CHARACTERS, Work};

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
            // Characters count, and not their spellings or the line breaks between them: a few
            // right ones would show themselves otherwise.
            let compared = self.unit.saturating_sub(form.first());
            if work.is_spent() && compared >= BEGINNING_CHARACTERS {
                // All that could belong to the form is hidden.
                let bytes_each = (self.end - self.start).div_ceil(compared);
                let length = work.length(self.form, form, secret).saturating_mul(bytes_each);
                return Verdict::Matches(self.end.max(self.start.saturating_add(length)));
            }
            let Some((unit, next)) = form.unit(secret, self.unit) else {
                return Verdict::Matches(self.end);
            };
            let mut from = self.end;
            if from > self.start && form.is_foldable() {
                match blanks(text, from, form.levels) {
                    Blanks::TooMany => return Verdict::Differs,
                    Blanks::Open => return Verdict::IsOpen,
                    Blanks::Some { has_break: false, .. } if !unit.is_after_blank => {
                        return Verdict::Differs;
                    }
                    Blanks::Some { end, .. } => from = end,
                    Blanks::None => {}
                }
            }
            let Some(character) = spelling::read(text, from, form.levels) else {
                return Verdict::IsOpen;
            };
            if character.bytes()[0] != unit.byte {
                return Verdict::Differs;
            }
            self.unit = next;
            for byte in &character.bytes()[1..] {
                match form.unit(secret, self.unit) {
                    Some((unit, next)) if unit.byte == *byte => self.unit = next,
                    _ => return Verdict::Differs,
                }
            }
            self.end = character.end;
        }
    }

    /// Adapts the places to a text of which the beginning was removed.
    pub(super) fn shift(&mut self, removed: usize) {
        self.start -= removed;
        self.end -= removed;
    }
}

/// The blanks at a place of a text.
pub(super) enum Blanks {
    None,
    Some {
        /// The place after them.
        end: usize,
        has_break: bool,
    },
    /// More than a fold can have.
    TooMany,
    /// The text ends within them.
    Open,
}

pub(super) fn blanks(text: &[u8], start: usize, levels: Levels) -> Blanks {
    let (mut end, mut has_break) = (start, false);
    loop {
        let Some(next) = spelling::read(text, end, levels) else { return Blanks::Open };
        match *next.bytes() {
            [byte] if is_blank(byte) => has_break |= is_break(byte),
            _ if end == start => return Blanks::None,
            _ => return Blanks::Some { end, has_break },
        }
        if next.end > start + MAX_FOLD_BYTES {
            return Blanks::TooMany;
        }
        end = next.end;
    }
}

/// Returns whether blanks contain a line break.
pub(super) fn has_break(blanks: &[u8]) -> bool {
    blanks.iter().any(|byte| is_break(*byte))
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
