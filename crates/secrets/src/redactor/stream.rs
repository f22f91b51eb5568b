//! Redaction of a text that arrives in pieces.

mod clear;

use std::fmt;
use std::sync::Arc;

use zeroize::{Zeroize as _, Zeroizing};

use super::attempt::Attempt;
use super::merge::{Match, merge};
use super::work::Work;
use super::{Patterns, write_placeholder};

/// Size of the parts in which a piece is processed. It bounds the copy of the text.
const PART_BYTES: usize = 64 * 1024;

/// The redaction of a text that arrives in pieces.
///
/// The output does not depend on the boundaries of the pieces. Only a possible beginning of a
/// secret is held back.
pub struct RedactionStream {
    patterns: Arc<Patterns>,
    /// The text that was not released. All other places are relative to its beginning.
    held: Zeroizing<Vec<u8>>,
    /// Number of bytes at its beginning that were passed on nevertheless.
    shown: usize,
    /// Forms that the text does not decide yet.
    open: Vec<Attempt>,
    /// Matches that were not released.
    found: Vec<Match>,
    work: Work,
}

/// A segment of a redacted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segment<'s> {
    /// Text that remains.
    Text(&'s [u8]),
    /// The value of a variable in one of its forms.
    #[non_exhaustive]
    Value {
        /// The name of the variable.
        name: &'s str,
        /// The length of the form.
        bytes: usize,
    },
}

impl Segment<'_> {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Value { name, .. } => write_placeholder(name, out),
        }
    }
}

impl RedactionStream {
    pub(super) fn new(patterns: Arc<Patterns>) -> Self {
        let work = Work::new(patterns.forms.len());
        let held = Zeroizing::default();
        Self { patterns, held, shown: 0, open: Vec::new(), found: Vec::new(), work }
    }

    /// Processes the next piece and appends the redacted text to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.push_segments(piece, |segment| segment.write(out));
    }

    /// Appends the rest of the text to `out`.
    pub fn finish(self, out: &mut Vec<u8>) {
        self.finish_segments(|segment| segment.write(out));
    }

    /// Returns the number of bytes that are held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.shown
    }

    /// Appends the text that is held back to `out` although it may begin a value, if it has at most
    /// `max_bytes`: for a reader who waits for the end of a line, such as that of a question. If
    /// later text completes the value, only the rest of it is replaced.
    pub fn show_held(&mut self, max_bytes: usize, out: &mut Vec<u8>) {
        if self.held.len() <= max_bytes {
            out.extend_from_slice(&self.held[self.shown..]);
            self.shown = self.held.len();
        }
    }

    /// Processes the next piece, and passes on the segments of the text that are decided.
    pub fn push_segments(&mut self, piece: &[u8], mut visit: impl FnMut(Segment<'_>)) {
        for part in piece.chunks(PART_BYTES) {
            let from = self.held.len();
            self.hold(part);
            let Self { patterns, held, open, found, work, .. } = self;
            work.add(part);
            open.retain_mut(|attempt| match patterns.advance(*attempt, held, found, work) {
                Some(continued) => {
                    *attempt = continued;
                    true
                }
                None => false,
            });
            patterns.find(held, from, found, work, |attempt| open.push(attempt));
            patterns.anchors.find_unfinished(held, from, |index, start| {
                let attempt = Attempt::new(index, &patterns.forms[index], start);
                open.extend(patterns.advance(attempt, held, found, work));
            });
            open.sort_unstable();
            open.dedup();
            let undecided = open.first().map_or(held.len(), |attempt| attempt.start);
            self.release(undecided, &mut visit);
        }
    }

    /// Passes on the rest of the text.
    pub fn finish_segments(mut self, mut visit: impl FnMut(Segment<'_>)) {
        self.open.clear();
        self.found.iter_mut().for_each(|one| one.end = one.end.min(self.held.len()));
        self.release(self.held.len(), &mut visit);
    }

    /// Appends to the held text. A reallocation wipes the former copy.
    fn hold(&mut self, part: &[u8]) {
        let needed = self.held.len() + part.len();
        if needed > self.held.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.held);
            self.held = larger;
        }
        self.held.extend_from_slice(part);
    }

    /// Passes on the text before the place `until`, except the beginning of a secret that ends
    /// later.
    fn release(&mut self, until: usize, visit: &mut impl FnMut(Segment<'_>)) {
        let mut from = self.shown.min(until);
        let mut end = until;
        for one in merge(&mut self.found) {
            if one.end > until {
                end = end.min(one.start);
                break;
            }
            if from < one.start {
                visit(Segment::Text(&self.held[from..one.start]));
            }
            let name = &self.patterns.names[one.owner];
            visit(Segment::Value { name, bytes: one.end - one.start });
            from = from.max(one.end);
        }
        if from < end {
            visit(Segment::Text(&self.held[from..end]));
        }
        self.found.retain(|one| one.start >= end);
        for one in &mut self.found {
            (one.start, one.end) = (one.start - end, one.end - end);
        }
        self.open.iter_mut().for_each(|attempt| attempt.shift(end));
        self.shown = self.shown.saturating_sub(end);
        let kept = self.held.len() - end;
        self.held.copy_within(end.., 0);
        self.held[kept..].zeroize();
        self.held.truncate(kept);
    }
}

impl fmt::Debug for RedactionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactionStream").finish_non_exhaustive()
    }
}
