//! The characters behind runs of blanks, each of which is read once.

use super::super::attempt::{Blanks, MAX_FOLD_BYTES, blanks};
use super::super::forms::is_blank;
use super::super::spelling::{Levels, read};

/// The last run of blanks of a text that was read, escaped or not.
///
/// A search asks at each blank of a run. If each one read the rest of the run, a text of escaped
/// line breaks would take a hundred times longer than another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    levels: Levels,
    /// The place of a character of the run, or its end.
    at: usize,
    /// The place behind the run.
    end: usize,
    /// The first byte behind it. `None` if more text decides.
    solid: Option<u8>,
}

impl Run {
    pub(super) fn new(levels: Levels) -> Self {
        Self { levels, at: 0, end: 0, solid: None }
    }

    pub(super) fn levels(&self) -> Levels {
        self.levels
    }

    /// Returns the first byte behind the blanks at a place, if they may belong to a fold. Later
    /// calls have later places, mostly.
    pub(super) fn solid_after(&mut self, text: &[u8], place: usize) -> Option<u8> {
        let first = read(text, place, self.levels)?;
        if !matches!(*first.bytes(), [byte] if is_blank(byte)) {
            return None;
        }
        if first.end > self.end {
            self.read_from(text, first.end);
        }
        while self.at < first.end {
            self.at = read(text, self.at, self.levels)?.end;
        }
        if self.at != first.end {
            // Another way to read the same text, such as from the second of two backslashes on.
            return match blanks(text, place, self.levels) {
                Blanks::Some { end, .. } => Some(read(text, end, self.levels)?.bytes()[0]),
                _ => None,
            };
        }
        self.solid.filter(|_| self.end <= place + MAX_FOLD_BYTES)
    }

    /// Reads the run that a place belongs to, from there on.
    fn read_from(&mut self, text: &[u8], place: usize) {
        (self.at, self.end) = (place, place);
        self.solid = loop {
            match read(text, self.end, self.levels) {
                Some(next) if matches!(*next.bytes(), [byte] if is_blank(byte)) => {
                    self.end = next.end;
                }
                next => break next.map(|next| next.bytes()[0]),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_gives_what_reading_its_blanks_gives(
            text in r"(\\n|\\\\n|\\|%0A|%5Cn|&#10;|&amp;#92;n|[ \n]|a|\\ ){0,120}",
        ) {
            let text = text.as_bytes();
            let mut run = Run::new(Levels::ALL);
            for place in 0..text.len() {
                let expected = match blanks(text, place, Levels::ALL) {
                    Blanks::Some { end, .. } => {
                        read(text, end, Levels::ALL).map(|next| next.bytes()[0])
                    }
                    _ => None,
                };
                prop_assert_eq!(run.solid_after(text, place), expected, "{}", place);
            }
        }
    }
}
