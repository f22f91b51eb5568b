//! Anchors that a text spells with escapes.
//!
//! The search looks at each escape as the first one of an anchor. What is before it is text as it
//! is, and what follows is read as the comparison reads it.

use memchr::memchr3;

use super::super::attempt::MAX_FOLD_BYTES;
use super::super::forms::{MIN_WORD_BYTES, is_blank};
use super::super::spelling::{Character, INTRODUCERS, MAX_SPELLING_BYTES, read};
use super::joined::{Folds, Joined};
use super::solid::Run;
use super::{Anchors, PIECE_BYTES, piece};

/// Maximum length of an anchor with escapes, and with line breaks in it.
const MAX_ANCHOR_BYTES: usize = MIN_WORD_BYTES * (MAX_SPELLING_BYTES + MAX_FOLD_BYTES);

impl Anchors {
    /// Finds anchors with escapes.
    pub(super) fn find_spelled(
        &self,
        text: &[u8],
        from: usize,
        visit: &mut impl FnMut(usize, usize),
    ) {
        let [first, second, third] = INTRODUCERS;
        let mut runs: Vec<Run> = self.levels.iter().map(|levels| Run::new(*levels)).collect();
        let mut at = from;
        while let Some(found) = memchr3(first, second, third, &text[at..]) {
            let place = at + found;
            at = place + 1;
            for (number, run) in runs.iter_mut().enumerate() {
                self.find_escape(text, from, place, number, run, visit);
            }
        }
    }

    /// Finds the anchors whose first escape is at a place.
    fn find_escape(
        &self,
        text: &[u8],
        from: usize,
        place: usize,
        number: usize,
        run: &mut Run,
        visit: &mut impl FnMut(usize, usize),
    ) {
        let levels = self.levels[number];
        let Some(escape) = read(text, place, levels) else { return };
        if escape.end == place + 1 || !self.may_surround(text, from, place, escape, run) {
            return;
        }
        for folds in [Folds::Read, Folds::Skipped] {
            let joined = Joined::spelled(text, from, place, self.len - 1, levels, folds);
            let mut at = 0;
            while at + PIECE_BYTES <= joined.bytes().len() {
                for found in self.with(piece(joined.bytes(), at)) {
                    let start = at.checked_sub(found.offset as usize);
                    if let Some(start) = start.and_then(|start| joined.crossing(start, self.len))
                        && usize::from(self.levels_of[found.form as usize]) == number
                    {
                        visit(found.form as usize, start);
                    }
                }
                at += self.step;
            }
            if !joined.bytes().iter().any(|byte| is_blank(*byte)) {
                // Without blanks, both are the same.
                break;
            }
        }
    }

    /// Returns whether some anchor has the meaning of an escape beside one of its neighbours.
    fn may_surround(
        &self,
        text: &[u8],
        from: usize,
        place: usize,
        escape: Character,
        run: &mut Run,
    ) -> bool {
        let solid_before = || {
            let before = text[from..place].iter().rev().take(MAX_FOLD_BYTES + 1);
            before.copied().find(|byte| !is_blank(*byte))
        };
        let (first, last) = (escape.bytes()[0], escape.bytes()[escape.bytes().len() - 1]);
        let before = text[from..place].last().copied();
        let after = read(text, escape.end, run.levels()).map(|next| next.bytes()[0]);
        let has = |pair: (Option<u8>, Option<u8>)| match pair {
            (Some(first), Some(second)) => self.has_pair(first, second),
            _ => false,
        };
        if escape.bytes().len() > 1 || has((before, Some(first))) || has((Some(last), after)) {
            return true;
        }
        match is_blank(first) {
            true => has((solid_before(), run.solid_after(text, place))),
            false => {
                before.is_some_and(is_blank) && has((solid_before(), Some(first)))
                    || after.is_some_and(is_blank)
                        && has((Some(last), run.solid_after(text, escape.end)))
            }
        }
    }

    /// Returns the first place at which an anchor with an escape may begin that does not end in the
    /// text.
    pub(super) fn spelled_unfinished_from(&self, text: &[u8], from: usize) -> usize {
        let [first, second, third] = INTRODUCERS;
        let window = text.len().saturating_sub(MAX_ANCHOR_BYTES).max(from);
        match memchr3(first, second, third, &text[window..]) {
            Some(found) if !self.levels.is_empty() => {
                self.unfinished_from(&text[..window + found], from)
            }
            _ => text.len(),
        }
    }

    /// Calls `visit` with the index of each form that the escape at a place may begin.
    pub(super) fn visit_escape(
        &self,
        text: &[u8],
        place: usize,
        visit: &mut impl FnMut(usize, usize),
    ) {
        for (number, levels) in self.levels.iter().enumerate() {
            let of_levels = |form: &&usize| usize::from(self.levels_of[**form]) == number;
            match read(text, place, *levels) {
                Some(character) if character.end == place + 1 => {}
                Some(character) => {
                    let forms = &self.by_first_byte[usize::from(character.bytes()[0])];
                    forms.iter().filter(of_levels).for_each(|form| visit(*form, place));
                }
                None => {
                    let forms = self.by_first_byte.iter().flatten();
                    forms.filter(of_levels).for_each(|form| visit(*form, place));
                }
            }
        }
    }
}
