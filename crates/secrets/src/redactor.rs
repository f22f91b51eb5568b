//! Replaces the values of variables in what a program prints.

mod automaton;
mod forms;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use self::automaton::Automaton;
use crate::variables::Variables;

/// Replaces every occurrence of a variable's value by `[redacted:NAME]`: the value itself, its
/// URL-encoded forms, and its base64 forms in both alphabets, also inside a longer encoded text and
/// across line breaks.
///
/// It guards against a secret that slips into a log, not against a program that wants to tell it:
/// any other encoding passes, so do parts of a value. Values shorter than
/// [`Redactor::MIN_SECRET_BYTES`] are left alone, since `1` or `true` are in every text;
/// [`Redactor::unguarded`] names them. Of the last character or two of a base64 text that a value
/// shares with its surroundings, up to four bits of the value may stay.
///
/// Time grows with the text alone, whatever is in it. A clone shares everything.
///
/// ```
/// # use secrets::{Redactor, SecretString, Variables};
/// let mut variables = Variables::new();
/// variables.insert("TOKEN", SecretString::from("hunter2!")).unwrap();
/// let redactor = Redactor::new(&variables);
/// assert_eq!(redactor.redact("Bearer hunter2!; ?t=hunter2%21"), "Bearer [redacted:TOKEN]; ?t=[redacted:TOKEN]");
/// ```
#[derive(Clone)]
pub struct Redactor {
    patterns: Arc<Patterns>,
}

struct Patterns {
    names: Vec<String>,
    unguarded: Vec<String>,
    /// Finds values and their URL-encoded forms in the text as it is.
    text: Automaton,
    /// Finds base64 forms in the text without its line breaks.
    base64: Automaton,
}

impl Redactor {
    /// Shorter values are not replaced.
    pub const MIN_SECRET_BYTES: usize = 6;

    /// A redactor of the values of these variables.
    #[must_use]
    pub fn new(variables: &Variables) -> Self {
        let (guarded, unguarded): (Vec<_>, Vec<_>) = variables
            .iter()
            .partition(|(_, value)| value.expose_secret().len() >= Self::MIN_SECRET_BYTES);
        let build = |forms: fn(&str) -> Vec<forms::Form>| {
            let forms: Vec<_> =
                guarded.iter().map(|(_, value)| forms(value.expose_secret())).collect();
            let numbered = forms
                .iter()
                .enumerate()
                .flat_map(|(owner, forms)| forms.iter().map(move |one| (one, owner)));
            Automaton::new(numbered.map(|(form, owner)| (form.as_slice(), owner)))
        };
        let names = |some: &[(&str, _)]| some.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self {
            patterns: Arc::new(Patterns {
                text: build(forms::plain_and_url),
                base64: build(forms::base64),
                names: names(&guarded),
                unguarded: names(&unguarded),
            }),
        }
    }

    /// The names of the variables whose values are too short to be replaced.
    #[must_use]
    pub fn unguarded(&self) -> &[String] {
        &self.patterns.unguarded
    }

    /// The text with every secret replaced.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let redacted = self.redact_bytes(text.as_bytes());
        // Every pattern is whole UTF-8 text, so no character is ever cut; a lossy conversion
        // changes nothing.
        String::from_utf8(redacted)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes with every secret replaced.
    #[must_use]
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redacted = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut redacted);
        stream.finish(&mut redacted);
        redacted
    }

    /// Begins to redact a text that comes in pieces.
    #[must_use]
    pub fn stream(&self) -> RedactionStream {
        RedactionStream {
            patterns: Arc::clone(&self.patterns),
            text_state: 0,
            base64_state: 0,
            base64_offsets: VecDeque::new(),
            position: 0,
            held: Zeroizing::default(),
            held_from: 0,
            covers: VecDeque::new(),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("names", &self.patterns.names).finish_non_exhaustive()
    }
}

/// A text on its way through a [`Redactor`].
///
/// What comes out does not depend on how the text is cut. Only what may be the beginning of a
/// secret is held back.
pub struct RedactionStream {
    patterns: Arc<Patterns>,
    text_state: u32,
    base64_state: u32,
    /// Where the bytes stand that led to `base64_state`: as many as its depth, line breaks not
    /// counted.
    base64_offsets: VecDeque<u64>,
    /// How many bytes were pushed.
    position: u64,
    /// The bytes that did not go out yet, and the place of the first.
    held: Zeroizing<Vec<u8>>,
    held_from: u64,
    /// The secrets within `held`, in order, none overlapping another.
    covers: VecDeque<Cover>,
}

#[derive(Clone, Copy)]
struct Cover {
    start: u64,
    end: u64,
    owner: usize,
}

impl RedactionStream {
    /// Takes the next piece and appends to `out` what is certain by now.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        // Pieces of a bounded size bound what is held of a long one.
        for part in piece.chunks(64 * 1024) {
            self.held.extend_from_slice(part);
            for &byte in part {
                self.advance(byte);
            }
            let undecided = self.undecided_from();
            self.release(undecided, out);
        }
    }

    /// Appends what was held back.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.release(self.position, out);
    }

    fn advance(&mut self, byte: u8) {
        let offset = self.position;
        self.position += 1;
        self.text_state = self.patterns.text.step(self.text_state, byte);
        if let Some(found) = self.patterns.text.found(self.text_state) {
            self.cover(self.position - found.length as u64, found.owner);
        }
        if matches!(byte, b'\r' | b'\n') {
            return;
        }
        self.base64_state = self.patterns.base64.step(self.base64_state, byte);
        let depth = self.patterns.base64.depth(self.base64_state);
        self.base64_offsets.push_back(offset);
        self.base64_offsets.drain(..self.base64_offsets.len() - depth);
        if let Some(found) = self.patterns.base64.found(self.base64_state) {
            self.cover(self.base64_offsets[depth - found.length], found.owner);
        }
    }

    /// Notes a secret that ends here; what overlaps becomes one, named by the secret that reaches
    /// furthest back.
    fn cover(&mut self, start: u64, owner: usize) {
        let mut cover = Cover { start, end: self.position, owner };
        while let Some(last) = self.covers.back().filter(|last| last.end > cover.start) {
            if last.start < cover.start || (last.start == cover.start && last.end == cover.end) {
                cover.start = last.start;
                cover.owner = last.owner;
            }
            self.covers.pop_back();
        }
        self.covers.push_back(cover);
    }

    /// Before this place, nothing can become part of a secret any more.
    fn undecided_from(&self) -> u64 {
        let text = self.position - self.patterns.text.depth(self.text_state) as u64;
        self.base64_offsets.front().map_or(text, |&base64| base64.min(text))
    }

    fn release(&mut self, until: u64, out: &mut Vec<u8>) {
        let mut at = self.held_from;
        while let Some(cover) = self.covers.front().copied().filter(|cover| cover.end <= until) {
            self.covers.pop_front();
            out.extend_from_slice(&self.held[self.index(at)..self.index(cover.start)]);
            out.extend_from_slice(b"[redacted:");
            out.extend_from_slice(self.patterns.names[cover.owner].as_bytes());
            out.push(b']');
            at = cover.end;
        }
        let end = self.covers.front().map_or(until, |cover| cover.start.min(until));
        out.extend_from_slice(&self.held[self.index(at)..self.index(end)]);
        let released = self.index(end);
        self.held.drain(..released);
        self.held_from = end;
    }

    fn index(&self, place: u64) -> usize {
        usize::try_from(place - self.held_from).expect("what is held fits into memory")
    }
}

impl fmt::Debug for RedactionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactionStream")
            .field("held_bytes", &self.held.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use secrecy::SecretString;

    use super::*;

    fn redactor(secrets: &[(&str, &str)]) -> Redactor {
        let mut variables = Variables::new();
        for (name, value) in secrets {
            variables.insert(*name, SecretString::from(*value)).unwrap();
        }
        Redactor::new(&variables)
    }

    #[track_caller]
    fn check(secrets: &[(&str, &str)], text: &str, expected: &str) {
        assert_eq!(redactor(secrets).redact(text), expected, "{text:?}");
    }

    const TOKEN: &[(&str, &str)] = &[("TOKEN", "hunter2!")];

    #[test]
    fn a_secret_is_replaced_wherever_it_stands() {
        check(TOKEN, "", "");
        check(TOKEN, "hunter2", "hunter2");
        check(TOKEN, "hunter2!", "[redacted:TOKEN]");
        check(TOKEN, "a hunter2!hunter2!b", "a [redacted:TOKEN][redacted:TOKEN]b");
        check(TOKEN, "hunterhunter2!", "hunter[redacted:TOKEN]");
    }

    #[test]
    fn encoded_forms_are_replaced() {
        check(TOKEN, "t=hunter2%21&u=1", "t=[redacted:TOKEN]&u=1");
        check(TOKEN, &STANDARD.encode("hunter2!"), "[redacted:TOKEN]");
        let authorization = redactor(TOKEN).redact(&STANDARD.encode("user:hunter2!"));
        assert!(
            authorization.contains("[redacted:TOKEN]") && authorization.len() < 32,
            "{authorization}"
        );
    }

    #[test]
    fn base64_that_is_wrapped_into_lines_is_replaced() {
        let secret = "a key that is long enough to be wrapped when base64 prints it, as keys are";
        let encoded = STANDARD.encode(secret);
        let wrapped = format!("{}\r\n{}\n", &encoded[..76], &encoded[76..]);
        check(&[("KEY", secret)], &wrapped, "[redacted:KEY]\n");
    }

    #[test]
    fn overlapping_secrets_leave_nothing_of_either() {
        check(&[("A", "abcdefgh"), ("B", "efghijkl")], "-abcdefghijkl-", "-[redacted:A]-");
        check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghij-", "-[redacted:B]-");
        check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghi-", "-ab[redacted:A]i-");
    }

    #[test]
    fn short_values_are_left_alone_and_named() {
        let redactor = redactor(&[("DEBUG", "true"), ("TOKEN", "hunter2!")]);
        assert_eq!(redactor.redact("true"), "true");
        assert_eq!(redactor.unguarded(), ["DEBUG"]);
    }

    #[test]
    fn only_the_beginning_of_a_secret_is_held_back() {
        let mut stream = redactor(TOKEN).stream();
        let mut out = Vec::new();
        stream.push(b"prompt> hunt", &mut out);
        assert_eq!(out, b"prompt> ");
        stream.push(b"ing", &mut out);
        assert_eq!(out, b"prompt> hunting");
        stream.push(b"\nhunter2", &mut out);
        stream.finish(&mut out);
        assert_eq!(out, b"prompt> hunting\nhunter2");
    }

    #[test]
    fn debug_shows_no_secret() {
        let redactor = redactor(TOKEN);
        let mut stream = redactor.stream();
        stream.push(b"hunter2", &mut Vec::new());
        assert_eq!(format!("{redactor:?} {stream:?}").matches("hunter").count(), 0);
    }

    /// Marks every byte that any occurrence of any form covers, one occurrence after another.
    fn covered_slowly(secrets: &[String], text: &[u8]) -> Vec<bool> {
        let mut covered = vec![false; text.len()];
        let unbroken: Vec<usize> =
            (0..text.len()).filter(|&at| !matches!(text[at], b'\r' | b'\n')).collect();
        let all: Vec<usize> = (0..text.len()).collect();
        for secret in secrets {
            for (forms, offsets) in
                [(forms::plain_and_url(secret), &all), (forms::base64(secret), &unbroken)]
            {
                for form in forms {
                    for window in offsets.windows(form.len()) {
                        if window.iter().zip(form.iter()).all(|(&at, &byte)| text[at] == byte) {
                            covered[window[0]..=window[form.len() - 1]].fill(true);
                        }
                    }
                }
            }
        }
        covered
    }

    proptest! {
        #[test]
        fn what_stays_is_what_a_slow_search_leaves(
            secrets in proptest::collection::vec("[ab ]{6,9}", 1..4),
            pieces in proptest::collection::vec((0..6_usize, "[ab \n%é]{0,5}"), 0..8),
            cuts in proptest::collection::vec(1..7_usize, 1..5),
        ) {
            let mut text = String::new();
            for (kind, between) in &pieces {
                let secret = &secrets[kind % secrets.len()];
                text += between;
                text += &match kind {
                    0 | 1 => secret.clone(),
                    2 | 3 => STANDARD.encode(format!("{between}{secret}")),
                    _ => secret.replace(' ', "%20"),
                };
            }
            // A redactor of nameless variables is not possible, so the names are the alphabet's.
            let mut variables = Variables::new();
            for (at, secret) in secrets.iter().enumerate() {
                variables.insert(format!("N{at}"), SecretString::from(secret.as_str())).unwrap();
            }
            let redactor = Redactor::new(&variables);
            let whole = redactor.redact_bytes(text.as_bytes());

            let covered = covered_slowly(&secrets, text.as_bytes());
            let left: Vec<u8> = text.bytes().zip(&covered).filter(|(_, covered)| !**covered).map(|(byte, _)| byte).collect();
            let mut shown = String::from_utf8(whole.clone()).unwrap();
            for at in 0..secrets.len() {
                shown = shown.replace(&format!("[redacted:N{at}]"), "");
            }
            prop_assert_eq!(shown.as_bytes(), left);

            let mut streamed = Vec::new();
            let mut stream = redactor.stream();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                stream.push(piece, &mut streamed);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            stream.finish(&mut streamed);
            prop_assert_eq!(streamed, whole);
        }
    }
}
