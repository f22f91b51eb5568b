//! Forms of a secret in the output of a program.
//!
//! A form is never stored. Its characters are computed from the secret where they are compared, so
//! a large secret costs its own size only.

use super::spelling::{INTRODUCERS, Levels};

/// Length of a word that begins a folded form. An anchor lies within the word.
pub(super) const MIN_WORD_BYTES: usize = 10;
/// Minimum number of bytes without blanks that a folded form covers.
const MIN_FOLDED_BYTES: usize = 16;

/// A form of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Index of the secret.
    pub(super) secret: usize,
    /// The escapes that each of its characters may be written as.
    pub(super) levels: Levels,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// The secret, with this character for a space.
    Plain {
        space: u8,
    },
    /// The secret from a word on, without regard to its blanks.
    Folded {
        from: usize,
    },
    Hex {
        digits: &'static [u8; 16],
    },
    Base64 {
        alphabet: &'static [u8; 64],
        /// Number of bytes before the secret in its group of three.
        shift: usize,
        ending: Ending,
    },
}

/// The end of a base64 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// At the last character that depends on the secret only.
    Inner,
    /// At the end of the encoded text, because nothing follows the secret.
    Whole,
    /// After the padding.
    Padded,
}

const LOWER_CASE: &[u8; 16] = b"0123456789abcdef";
const UPPER_CASE: &[u8; 16] = b"0123456789ABCDEF";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A byte of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) byte: u8,
    /// True if the secret has blanks before the unit, which the form omits.
    pub(super) is_after_blank: bool,
}

impl Unit {
    fn new(byte: u8) -> Self {
        Self { byte, is_after_blank: false }
    }
}

impl Form {
    /// Returns the secret itself, without escapes, as its only form.
    pub(super) fn raw(index: usize) -> Self {
        Self { secret: index, levels: Levels::NONE, encoding: Encoding::Plain { space: b' ' } }
    }

    /// Returns the forms of a secret, each one once.
    pub(super) fn all(index: usize, secret: &str) -> Vec<Self> {
        let bytes = secret.as_bytes();
        let mut has = [false; 256];
        bytes.iter().for_each(|byte| has[usize::from(*byte)] = true);
        // Forms of URLs have a plus sign for a space.
        let spaces = if has[usize::from(b' ')] { &b" +"[..] } else { b" " };
        let plain = Levels::of(&has).into_iter().flat_map(|levels| {
            spaces.iter().map(move |&space| (levels, Encoding::Plain { space }))
        });
        let has_introducer = INTRODUCERS.iter().any(|byte| has[usize::from(*byte)]);
        let folded_levels = if has_introducer { Levels::NONE } else { Levels::ALL };
        let folded = folded(bytes).map(|encoding| (folded_levels, encoding));
        let encoded = Self::encodings(bytes).into_iter().map(|encoding| (Levels::ALL, encoding));
        plain
            .chain(folded)
            .chain(encoded)
            .map(|(levels, encoding)| Self { secret: index, levels, encoding })
            .collect()
    }

    /// Returns the encodings that have letters and digits for all bytes.
    fn encodings(bytes: &[u8]) -> Vec<Encoding> {
        let mut encodings = Vec::new();
        encodings.push(Encoding::Hex { digits: LOWER_CASE });
        if bytes.iter().any(|byte| byte >> 4 > 9 || byte & 15 > 9) {
            encodings.push(Encoding::Hex { digits: UPPER_CASE });
        }
        for shift in 0..3 {
            let endings: &[Ending] = match (shift, bytes.len() % 3) {
                (0, 1 | 2) => &[Ending::Inner, Ending::Whole, Ending::Padded],
                _ => &[Ending::Inner],
            };
            let (from, to) = base64_range(bytes, shift, Ending::Whole);
            let differs = (from..to).any(|at| sextet(bytes, shift, at) >= 62);
            for alphabet in [STANDARD, URL_SAFE].into_iter().take(1 + usize::from(differs)) {
                encodings.extend(endings.iter().map(|&ending| Encoding::Base64 {
                    alphabet,
                    shift,
                    ending,
                }));
            }
        }
        encodings
    }

    /// Returns whether line breaks with indentation can be anywhere in the form.
    pub(super) fn is_foldable(&self) -> bool {
        matches!(
            self.encoding,
            Encoding::Folded { .. } | Encoding::Hex { .. } | Encoding::Base64 { .. }
        )
    }

    /// Returns the position of the first unit.
    pub(super) fn first(&self) -> usize {
        match self.encoding {
            Encoding::Folded { from } => from,
            Encoding::Base64 { shift, .. } => (shift * 8).div_ceil(6),
            _ => 0,
        }
    }

    /// Returns the unit at a position, and the position of the next one; `None` at the end.
    pub(super) fn unit(&self, secret: &str, at: usize) -> Option<(Unit, usize)> {
        let bytes = secret.as_bytes();
        match self.encoding {
            Encoding::Plain { space } => {
                let byte = *bytes.get(at)?;
                Some((Unit::new(if byte == b' ' { space } else { byte }), at + 1))
            }
            Encoding::Folded { .. } => {
                let skipped = bytes[at..].iter().position(|byte| !is_blank(*byte))?;
                let unit = Unit { byte: bytes[at + skipped], is_after_blank: skipped > 0 };
                Some((unit, at + skipped + 1))
            }
            Encoding::Hex { digits } => {
                let byte = *bytes.get(at / 2)?;
                let digit = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
                Some((Unit::new(digits[usize::from(digit)]), at + 1))
            }
            Encoding::Base64 { alphabet, shift, ending } => {
                let (_, end) = base64_range(bytes, shift, ending);
                let is_padding = ending == Ending::Padded && at >= end;
                if at < end {
                    let character = alphabet[usize::from(sextet(bytes, shift, at))];
                    Some((Unit::new(character), at + 1))
                } else if is_padding && !at.is_multiple_of(4) {
                    Some((Unit::new(b'='), at + 1))
                } else {
                    None
                }
            }
        }
    }

    /// Calls `visit` with the first bytes of the form.
    pub(super) fn head(&self, secret: &str, len: usize, mut visit: impl FnMut(&[u8])) {
        let mut head = zeroize::Zeroizing::new([0; MIN_WORD_BYTES]);
        let (mut filled, mut at) = (0, self.first());
        while filled < len
            && let Some((unit, next)) = self.unit(secret, at)
        {
            head[filled] = unit.byte;
            (filled, at) = (filled + 1, next);
        }
        visit(&head[..filled]);
    }
}

/// Returns whether a byte is a blank or part of a line break.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Returns the folded form. It begins at the first word that is long enough for an anchor, if most
/// of the secret follows there.
fn folded(secret: &[u8]) -> Option<Encoding> {
    let mut from = 0;
    let mut omitted = 0;
    for word in secret.split(|byte| is_blank(*byte)) {
        if word.len() >= MIN_WORD_BYTES {
            let rest = &secret[from..];
            let covered = rest.iter().filter(|byte| !is_blank(**byte)).count();
            let is_most = covered >= MIN_FOLDED_BYTES && covered >= omitted;
            return is_most.then_some(Encoding::Folded { from });
        }
        omitted += word.len();
        from += word.len() + 1;
    }
    None
}

/// Returns the positions of the encoded characters that depend on the secret only. With nothing
/// after the secret, the last character depends on the secret only too.
fn base64_range(secret: &[u8], shift: usize, ending: Ending) -> (usize, usize) {
    let bits = (shift + secret.len()) * 8;
    let end = if ending == Ending::Inner { bits / 6 } else { bits.div_ceil(6) };
    ((shift * 8).div_ceil(6), end)
}

/// Returns the number of the base64 character at a position.
fn sextet(secret: &[u8], shift: usize, at: usize) -> u8 {
    let bit = at * 6;
    let byte = |index: usize| {
        let index = index.checked_sub(shift);
        u16::from(index.and_then(|index| secret.get(index)).copied().unwrap_or(0))
    };
    let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    (pair >> (10 - bit % 8)) as u8 & 63
}
