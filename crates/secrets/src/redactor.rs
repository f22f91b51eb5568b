//! Redaction: replacing the values of variables in the output of a program.

mod automaton;
mod forms;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use self::automaton::Automaton;
use crate::variables::Variables;

/// Replaces every occurrence of a variable's value by `[redacted:NAME]`.
///
/// It finds the value, its URL-encoded forms, and its base64 forms in both alphabets. Base64 is
/// also found inside a longer encoded text and across line breaks.
///
/// A redactor keeps secrets out of logs by accident. It does not stop a program that reveals them
/// deliberately: other encodings and parts of a value remain. Values shorter than
/// [`Redactor::MIN_SECRET_BYTES`] remain too, because every text contains `1` or `true`.
/// [`Redactor::unredacted`] returns their names. If a base64 character encodes bits of the value
/// and of its surroundings, up to four bits of the value can remain.
///
/// The time depends only on the length of the text. Clones share their data.
///
/// ```
/// # use secrets::{Redactor, SecretString, Variables};
/// let mut variables = Variables::new();
/// variables.insert("TOKEN", SecretString::from("hunter2!")).unwrap();
/// let redactor = Redactor::new(&variables);
/// assert_eq!(
///     redactor.redact("Bearer hunter2!; ?t=hunter2%21"),
///     "Bearer [redacted:TOKEN]; ?t=[redacted:TOKEN]"
/// );
/// ```
#[derive(Clone)]
pub struct Redactor {
    patterns: Arc<Patterns>,
}

struct Patterns {
    names: Vec<String>,
    unredacted: Vec<String>,
    /// Finds values and their URL-encoded forms in the unchanged text.
    text: Automaton,
    /// Finds base64 forms in the text without its line breaks.
    base64: Automaton,
}

impl Redactor {
    /// Minimum length of a value that is replaced.
    pub const MIN_SECRET_BYTES: usize = 6;

    /// Creates a redactor of the values of these variables.
    #[must_use]
    pub fn new(variables: &Variables) -> Self {
        let (redacted, unredacted): (Vec<_>, Vec<_>) = variables
            .iter()
            .partition(|(_, value)| value.expose_secret().len() >= Self::MIN_SECRET_BYTES);
        let build = |forms: fn(&str) -> Vec<forms::Form>| {
            let forms: Vec<_> =
                redacted.iter().map(|(_, value)| forms(value.expose_secret())).collect();
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
                names: names(&redacted),
                unredacted: names(&unredacted),
            }),
        }
    }

    /// Returns the names of the variables whose values are too short to be replaced.
    #[must_use]
    pub fn unredacted(&self) -> &[String] {
        &self.patterns.unredacted
    }

    /// Replaces every secret in a text.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let redacted = self.redact_bytes(text.as_bytes());
        // Every pattern is UTF-8, so no character is split and the lossy conversion changes
        // nothing.
        String::from_utf8(redacted)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Replaces every secret in a byte string.
    #[must_use]
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redacted = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut redacted);
        stream.finish(&mut redacted);
        redacted
    }

    /// Starts the redaction of a text that arrives in pieces.
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
            secrets: VecDeque::new(),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("names", &self.patterns.names).finish_non_exhaustive()
    }
}

/// The redaction of a text that arrives in pieces.
///
/// The output does not depend on the boundaries of the pieces. Only a possible beginning of a
/// secret is held back.
pub struct RedactionStream {
    patterns: Arc<Patterns>,
    text_state: u32,
    base64_state: u32,
    /// Positions of the bytes that led to `base64_state`, without line breaks. Their number is the
    /// depth of the state.
    base64_offsets: VecDeque<u64>,
    /// Number of bytes pushed.
    position: u64,
    /// Bytes that are held back.
    held: Zeroizing<Vec<u8>>,
    /// Position of the first byte of `held`.
    held_from: u64,
    /// Secrets within `held`, in order and without overlaps.
    secrets: VecDeque<Secret>,
}

/// Range of a secret in the text, with the index of its name.
#[derive(Clone, Copy)]
struct Secret {
    start: u64,
    end: u64,
    owner: usize,
}

impl RedactionStream {
    /// Processes the next piece and appends the redacted text to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        // Parts of a bounded size bound the copy in `held`.
        for part in piece.chunks(64 * 1024) {
            self.held.extend_from_slice(part);
            for &byte in part {
                self.advance(byte);
            }
            let undecided = self.undecided_from();
            self.release(undecided, out);
        }
    }

    /// Appends the rest of the text to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.release(self.position, out);
    }

    fn advance(&mut self, byte: u8) {
        let offset = self.position;
        self.position += 1;
        self.text_state = self.patterns.text.step(self.text_state, byte);
        if let Some(found) = self.patterns.text.found(self.text_state) {
            self.record(self.position - found.length as u64, found.owner);
        }
        if matches!(byte, b'\r' | b'\n') {
            return;
        }
        self.base64_state = self.patterns.base64.step(self.base64_state, byte);
        let depth = self.patterns.base64.depth(self.base64_state);
        self.base64_offsets.push_back(offset);
        self.base64_offsets.drain(..self.base64_offsets.len() - depth);
        if let Some(found) = self.patterns.base64.found(self.base64_state) {
            self.record(self.base64_offsets[depth - found.length], found.owner);
        }
    }

    /// Records a secret that ends at the current position. Overlapping secrets become one, with the
    /// name of the secret that starts first.
    fn record(&mut self, start: u64, owner: usize) {
        let mut secret = Secret { start, end: self.position, owner };
        while let Some(last) = self.secrets.back().filter(|last| last.end > secret.start) {
            if last.start < secret.start || (last.start == secret.start && last.end == secret.end) {
                secret.start = last.start;
                secret.owner = last.owner;
            }
            self.secrets.pop_back();
        }
        self.secrets.push_back(secret);
    }

    /// Returns the position before which no byte can become part of a secret.
    fn undecided_from(&self) -> u64 {
        let text = self.position - self.patterns.text.depth(self.text_state) as u64;
        self.base64_offsets.front().map_or(text, |&base64| base64.min(text))
    }

    /// Appends the text before the position `until` to `out`, except the beginning of a secret that
    /// ends later.
    fn release(&mut self, until: u64, out: &mut Vec<u8>) {
        let mut from = self.held_from;
        while let Some(secret) = self.secrets.front().copied().filter(|secret| secret.end <= until)
        {
            self.secrets.pop_front();
            out.extend_from_slice(&self.held[self.index(from)..self.index(secret.start)]);
            out.extend_from_slice(b"[redacted:");
            out.extend_from_slice(self.patterns.names[secret.owner].as_bytes());
            out.push(b']');
            from = secret.end;
        }
        let end = self.secrets.front().map_or(until, |secret| secret.start.min(until));
        out.extend_from_slice(&self.held[self.index(from)..self.index(end)]);
        let released = self.index(end);
        self.held.drain(..released);
        self.held_from = end;
    }

    fn index(&self, position: u64) -> usize {
        usize::try_from(position - self.held_from).expect("the held bytes are in memory")
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
    fn a_secret_is_replaced_at_every_position() {
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
    fn base64_with_line_breaks_is_replaced() {
        let secret = "a key that is long enough to be wrapped when base64 prints it, as keys are";
        let encoded = STANDARD.encode(secret);
        let wrapped = format!("{}\r\n{}\n", &encoded[..76], &encoded[76..]);
        check(&[("KEY", secret)], &wrapped, "[redacted:KEY]\n");
    }

    #[test]
    fn overlapping_secrets_are_replaced_together() {
        check(&[("A", "abcdefgh"), ("B", "efghijkl")], "-abcdefghijkl-", "-[redacted:A]-");
        check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghij-", "-[redacted:B]-");
        check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghi-", "-ab[redacted:A]i-");
    }

    #[test]
    fn short_values_remain_and_are_reported() {
        let redactor = redactor(&[("DEBUG", "true"), ("TOKEN", "hunter2!")]);
        assert_eq!(redactor.redact("true"), "true");
        assert_eq!(redactor.unredacted(), ["DEBUG"]);
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

    /// Returns for each byte whether it is part of a secret, by a search for one form after
    /// another.
    fn secret_bytes(secrets: &[String], text: &[u8]) -> Vec<bool> {
        let mut is_secret = vec![false; text.len()];
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
                            is_secret[window[0]..=window[form.len() - 1]].fill(true);
                        }
                    }
                }
            }
        }
        is_secret
    }

    proptest! {
        #[test]
        fn the_result_agrees_with_a_slow_search(
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
            let mut variables = Variables::new();
            for (at, secret) in secrets.iter().enumerate() {
                variables.insert(format!("N{at}"), SecretString::from(secret.as_str())).unwrap();
            }
            let redactor = Redactor::new(&variables);
            let whole = redactor.redact_bytes(text.as_bytes());

            let is_secret = secret_bytes(&secrets, text.as_bytes());
            let bytes = text.bytes().zip(&is_secret);
            let remaining: Vec<u8> =
                bytes.filter(|(_, is_secret)| !**is_secret).map(|(byte, _)| byte).collect();
            let mut shown = String::from_utf8(whole.clone()).unwrap();
            for at in 0..secrets.len() {
                shown = shown.replace(&format!("[redacted:N{at}]"), "");
            }
            prop_assert_eq!(shown.as_bytes(), remaining);

            let mut streamed = Vec::new();
            let mut stream = redactor.stream();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (piece, remaining) = rest.split_at((*cut).min(rest.len()));
                stream.push(piece, &mut streamed);
                rest = remaining;
                if rest.is_empty() {
                    break;
                }
            }
            stream.finish(&mut streamed);
            prop_assert_eq!(streamed, whole);
        }
    }
}
