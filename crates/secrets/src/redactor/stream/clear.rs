//! Text without values, which passes a stream without a copy.

use super::super::attempt::Attempt;
use super::RedactionStream;

impl RedactionStream {
    /// Returns the length of the beginning of a piece that has no value and begins none. The caller
    /// passes those bytes on as they are, and pushes the rest of the piece.
    ///
    /// The result is 0 while the stream holds text back.
    #[must_use]
    pub fn clear_bytes(&self, piece: &[u8]) -> usize {
        if !self.held.is_empty() {
            return 0;
        }
        let patterns = &self.patterns;
        let (mut found, mut work) = (Vec::new(), self.work.clone());
        work.add(piece);
        let mut clear = piece.len();
        patterns.find(piece, 0, &mut found, &mut work, |attempt| clear = clear.min(attempt.start));
        patterns.anchors.find_unfinished(piece, 0, |index, start| {
            if start < clear {
                let attempt = Attempt::new(index, &patterns.forms[index], start);
                if patterns.advance(attempt, piece, &mut found, &mut work).is_some() {
                    clear = start;
                }
            }
        });
        found.iter().map(|one| one.start).fold(clear, usize::min)
    }

    /// Returns whether the stream holds text back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::Redactor;
    use secrecy::SecretString;

    proptest! {
        #[test]
        fn clear_bytes_and_the_rest_give_what_the_whole_gives(
            text in "(hunter2!|hunter2%21|aHVudGVyMiE=|hunt|ab\n  |[ -~]){0,30}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let value = SecretString::from("hunter2!");
            let redactor = Redactor::of([("TOKEN", &value)]);
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut stream, mut out, mut from) = (redactor.stream(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                let piece = &text[from..cut];
                let clear = stream.clear_bytes(piece);
                out.extend_from_slice(&piece[..clear]);
                stream.push(&piece[clear..], &mut out);
                from = cut;
            }
            stream.finish(&mut out);
            prop_assert_eq!(out, redactor.redact_bytes(text).into_owned());
        }
    }
}
