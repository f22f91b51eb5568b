//! Substitution: values in the place of placeholders.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem::Finder;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::Mask;

/// The alphabet of `Basic` credentials. Some clients omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Inserts values in the place of placeholders. Clones share their data.
///
/// ```
/// use secrets::{Mask, Masks, SecretString, Substitution};
///
/// let masks = Masks::new([Mask::new("KEY", SecretString::from("a&b c=d"), ["api.test"])])?;
/// let substitution = Substitution::new(masks.iter());
/// let query = format!("key={}", masks.placeholder("KEY").unwrap());
/// let sent = substitution.replace_in_query(query.as_bytes()).unwrap();
/// assert_eq!(&sent[..], b"key=a%26b%20c%3Dd");
/// # Ok::<(), secrets::MaskError>(())
/// ```
#[derive(Clone, Default)]
pub struct Substitution {
    pairs: Arc<[Pair]>,
}

struct Pair {
    name: String,
    finder: Finder<'static>,
    value: SecretString,
}

/// Spelling of an inserted value.
#[derive(Clone, Copy)]
enum Spelling {
    Raw,
    Url,
}

impl Substitution {
    /// Creates the substitution of these masks, whatever their hosts and parts are.
    pub fn new<'m>(masks: impl IntoIterator<Item = (&'m Mask, &'m str)>) -> Self {
        let pairs = masks.into_iter().map(|(mask, placeholder)| Pair {
            name: mask.name().to_owned(),
            finder: Finder::new(placeholder).into_owned(),
            value: mask.value().clone(),
        });
        Self { pairs: pairs.collect() }
    }

    /// Returns whether no placeholder is known.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns whether the placeholder of a secret is replaced.
    pub fn contains(&self, name: &str) -> bool {
        self.pairs.iter().any(|pair| pair.name == name)
    }

    /// Replaces the placeholders in a text, such as the value of a header. The result is `None` for
    /// a text without placeholders.
    pub fn replace(&self, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.replace_as(Spelling::Raw, text)
    }

    /// Replaces the placeholders in the query of a URL by percent-encoded values.
    pub fn replace_in_query(&self, query: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.replace_as(Spelling::Url, query)
    }

    /// Replaces the placeholders in credentials of the scheme `Basic`: base64 of `user:password`
    /// (RFC 7617). The result is `None` for a text without placeholders, or not in base64.
    pub fn replace_in_basic(&self, credentials: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decoded = BASE64.decode(credentials.trim_ascii()).ok()?;
        let replaced = self.replace(&decoded)?;
        let mut encoded = Zeroizing::new(vec![0; replaced.len().div_ceil(3) * 4]);
        let length = BASE64.encode_slice(&*replaced, &mut encoded).ok()?;
        encoded.truncate(length);
        Some(encoded)
    }

    /// Returns the names of the secrets whose placeholders are in a text.
    pub fn names_in(&self, text: &[u8]) -> Vec<&str> {
        let mut names = Vec::new();
        let mut from = 0;
        while let Some((at, pair)) = self.first(text, from) {
            if !names.contains(&&*pair.name) {
                names.push(&*pair.name);
            }
            from = at + pair.finder.needle().len();
        }
        names
    }

    /// Returns the names of the secrets whose placeholders are in credentials of the scheme
    /// `Basic`.
    pub fn names_in_basic(&self, credentials: &[u8]) -> Vec<&str> {
        let decoded = BASE64.decode(credentials.trim_ascii());
        decoded.map_or_else(|_| Vec::new(), |decoded| self.names_in(&decoded))
    }

    /// Starts the substitution in a text that arrives in pieces.
    pub fn stream(&self) -> SubstitutionStream {
        SubstitutionStream {
            substitution: self.clone(),
            held: Vec::new(),
            inserted: BTreeSet::new(),
        }
    }

    fn replace_as(&self, spelling: Spelling, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut found = self.first(text, 0)?;
        let mut replaced = Growing::with_capacity(text.len());
        let mut from = 0;
        loop {
            let (at, pair) = found;
            replaced.extend(&text[from..at]);
            pair.write(spelling, &mut replaced);
            from = at + pair.finder.needle().len();
            match self.first(text, from) {
                Some(next) => found = next,
                None => break,
            }
        }
        replaced.extend(&text[from..]);
        Some(replaced.0)
    }

    /// Returns the first placeholder at or after a place, and the longest of several there.
    fn first(&self, text: &[u8], from: usize) -> Option<(usize, &Pair)> {
        let found = self
            .pairs
            .iter()
            .filter_map(|pair| pair.finder.find(&text[from..]).map(|at| (from + at, pair)));
        found.min_by_key(|(at, pair)| (*at, usize::MAX - pair.finder.needle().len()))
    }

    /// Returns the length of the longest end of a text that can begin a placeholder.
    fn beginning(&self, text: &[u8]) -> usize {
        let of_pair = |pair: &Pair| {
            let needle = pair.finder.needle();
            let longest = text.len().min(needle.len() - 1);
            (1..=longest).rev().find(|length| text.ends_with(&needle[..*length])).unwrap_or(0)
        };
        self.pairs.iter().map(of_pair).max().unwrap_or(0)
    }
}

impl Pair {
    fn write(&self, spelling: Spelling, out: &mut Growing) {
        let value = self.value.expose_secret().as_bytes();
        match spelling {
            Spelling::Raw => out.extend(value),
            Spelling::Url => {
                for byte in value {
                    // The unreserved characters of RFC 3986, section 2.3.
                    if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                        out.extend(&[*byte]);
                    } else {
                        let digit = |of: u8| b"0123456789ABCDEF"[usize::from(of)];
                        out.extend(&[b'%', digit(byte >> 4), digit(byte & 15)]);
                    }
                }
            }
        }
    }
}

/// A text that wipes its former copies when it grows.
struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    fn extend(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

/// The substitution in a text that arrives in pieces.
///
/// The output does not depend on the boundaries of the pieces. Only a possible beginning of a
/// placeholder is held back.
pub struct SubstitutionStream {
    substitution: Substitution,
    held: Vec<u8>,
    /// Names of the secrets whose values were inserted.
    inserted: BTreeSet<String>,
}

impl SubstitutionStream {
    /// Processes the next piece, and appends the text that is decided to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        let mut from = 0;
        while let Some((at, pair)) = self.substitution.first(&self.held, from) {
            out.extend_from_slice(&self.held[from..at]);
            out.extend_from_slice(pair.value.expose_secret().as_bytes());
            if !self.inserted.contains(&pair.name) {
                self.inserted.insert(pair.name.clone());
            }
            from = at + pair.finder.needle().len();
        }
        let undecided = self.held.len() - self.substitution.beginning(&self.held[from..]);
        out.extend_from_slice(&self.held[from..undecided]);
        self.held.drain(..undecided);
    }

    /// Returns the names of the secrets whose values were inserted so far.
    pub fn inserted(&self) -> impl Iterator<Item = &str> {
        self.inserted.iter().map(String::as_str)
    }

    /// Appends the rest of the text to `out`.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held);
    }
}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substitution").finish_non_exhaustive()
    }
}

impl fmt::Debug for SubstitutionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubstitutionStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Masks;
    use super::*;

    fn masks() -> Masks {
        Masks::new([
            Mask::new("A", SecretString::from("sk-live-1"), ["a.test"]),
            Mask::new("B", SecretString::from("p&ss wörd"), ["a.test"]),
        ])
        .unwrap()
    }

    #[track_caller]
    fn check(found: Option<Zeroizing<Vec<u8>>>, expected: &str) {
        assert_eq!(found.map(|text| String::from_utf8(text.to_vec()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn placeholders_are_replaced_in_each_form() {
        let masks = masks();
        let substitution = Substitution::new(masks.iter());
        let (a, b) = (masks.placeholder("A").unwrap(), masks.placeholder("B").unwrap());
        check(substitution.replace(format!("Bearer {a}").as_bytes()), "Bearer sk-live-1");
        check(substitution.replace(format!("{b}{a}.").as_bytes()), "p&ss wördsk-live-1.");
        let query = format!("k={a}&p={b}&z");
        check(
            substitution.replace_in_query(query.as_bytes()),
            "k=sk-live-1&p=p%26ss%20w%C3%B6rd&z",
        );
        let basic = BASE64.encode(format!("git:{a}"));
        let expected = BASE64.encode("git:sk-live-1");
        check(substitution.replace_in_basic(basic.as_bytes()), &expected);
        check(substitution.replace_in_basic(basic.trim_end_matches('=').as_bytes()), &expected);
        assert!(substitution.replace(&a.as_bytes()[1..]).is_none());
        assert_eq!(substitution.names_in(format!("{b}{a}{b}").as_bytes()), ["B", "A"]);
        assert_eq!(substitution.names_in_basic(basic.as_bytes()), ["A"]);
        assert_eq!(substitution.names_in_basic(b"not base64"), [""; 0]);
        assert!(substitution.replace_in_basic(b"not base64").is_none());
        assert!(Substitution::default().replace(a.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn any_pieces_give_what_the_whole_gives(
            words in prop::collection::vec(0..5_usize, 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let masks = masks();
            let substitution = Substitution::new(masks.iter());
            let (a, b) = (masks.placeholder("A").unwrap(), masks.placeholder("B").unwrap());
            let words = words.iter().map(|word| [a, b, &a[..9], &b[3..], "-"][*word]);
            let text = words.collect::<String>().into_bytes();
            let expected = substitution.replace(&text).map_or(text.clone(), |text| text.to_vec());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut stream = substitution.stream();
            let (mut out, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                stream.push(&text[from..cut], &mut out);
                from = cut;
            }
            let inserted: Vec<String> = stream.inserted().map(str::to_owned).collect();
            let mut names = substitution.names_in(&text);
            names.sort_unstable();
            prop_assert_eq!(inserted, names);
            stream.finish(&mut out);
            prop_assert_eq!(out, expected);
        }
    }
}
