//! Forms inside a JSON string.

use super::{LOWER_CASE, UPPER_CASE, Unit};

/// The way in which an encoder of JSON writes a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonStyle {
    /// Escapes everything outside ASCII, like Python.
    ascii_only: bool,
    /// Escapes `<`, `>` and `&`, like Go.
    html_safe: bool,
    /// Escapes `/`, like PHP.
    escapes_slash: bool,
    /// Escapes quotes and `+` by their numbers, like .NET.
    numbers_quotes: bool,
    digits: &'static [u8; 16],
}

impl JsonStyle {
    /// Returns the styles in which a text with these bytes differs from the text and from each
    /// other.
    pub(super) fn all(has: &[bool; 256]) -> Vec<Self> {
        let any = |bytes: &[u8]| bytes.iter().any(|byte| has[usize::from(*byte)]);
        let has_special = any(b"\"\\") || has[..0x20].contains(&true);
        let has_control = (0..0x20).any(|byte| has[byte] && short_escape(byte as u8).is_none());
        let (is_ascii, has_html, has_slash) =
            (!has[0x80..].contains(&true), any(b"<>&"), any(b"/"));
        let choices = |differs: bool| if differs { &[false, true][..] } else { &[false] };
        let mut styles = Vec::new();
        for &ascii_only in choices(!is_ascii) {
            for &html_safe in choices(has_html) {
                for &escapes_slash in choices(has_slash) {
                    if !(has_special || ascii_only || html_safe || escapes_slash) {
                        continue;
                    }
                    let has_digits = has_control || ascii_only || html_safe;
                    for digits in [LOWER_CASE, UPPER_CASE].into_iter().take(1 + has_digits as usize)
                    {
                        let numbers_quotes = false;
                        styles.push(Self {
                            ascii_only,
                            html_safe,
                            escapes_slash,
                            numbers_quotes,
                            digits,
                        });
                    }
                }
            }
        }
        if any(NUMBERED_QUOTES) {
            styles.push(Self {
                ascii_only: true,
                html_safe: true,
                escapes_slash: false,
                numbers_quotes: true,
                digits: UPPER_CASE,
            });
        }
        styles
    }

    /// Returns the characters of a character.
    pub(super) fn encode(self, character: char) -> Unit {
        let is_quote = u8::try_from(character).is_ok_and(|byte| NUMBERED_QUOTES.contains(&byte));
        let is_numbered = self.numbers_quotes && is_quote;
        if let Ok(byte) = u8::try_from(character)
            && !is_numbered
        {
            if let Some(escape) = short_escape(byte) {
                return Unit::new(&[b'\\', escape]);
            }
            if byte == b'/' && self.escapes_slash {
                return Unit::new(b"\\/");
            }
        }
        let is_html = matches!(character, '<' | '>' | '&');
        let is_escaped = is_numbered
            || character < ' '
            || (is_html && self.html_safe)
            || (!character.is_ascii() && self.ascii_only);
        let mut text = [0; Unit::MAX_BYTES];
        if !is_escaped {
            return Unit::new(character.encode_utf8(&mut text).as_bytes());
        }
        let mut units = [0; 2];
        let units = character.encode_utf16(&mut units);
        for (escape, unit) in text.chunks_exact_mut(6).zip(units.iter()) {
            escape[..2].copy_from_slice(b"\\u");
            for (at, digit) in escape[2..].iter_mut().enumerate() {
                *digit = self.digits[usize::from(unit >> (12 - 4 * at) & 15)];
            }
        }
        Unit::new(&text[..units.len() * 6])
    }
}

/// The characters besides `<`, `>` and `&` that .NET writes as their numbers.
const NUMBERED_QUOTES: &[u8] = b"\"'`+";

/// Returns the character after the backslash, if a byte has an escape of two characters.
fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        _ => None,
    }
}
