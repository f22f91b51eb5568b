//! URL-encoded forms.

use super::{LOWER_CASE, UPPER_CASE};

/// The way in which an encoder of URLs writes a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UrlStyle {
    encoder: Encoder,
    digits: &'static [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// Everything except the unreserved characters of RFC 3986. Python's `quote(safe="")`, Rust,
    /// and Go's path segments encode this.
    Unreserved,
    /// Python's `quote` by default.
    KeepingSlash,
    /// JavaScript's `encodeURIComponent`.
    Component,
    /// JavaScript's `encodeURI`.
    WholeUri,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// The way in which a byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Literal,
    Plus,
    Escape,
}

impl Encoder {
    const ALL: [Self; 5] =
        [Self::Unreserved, Self::KeepingSlash, Self::Component, Self::WholeUri, Self::Form];

    fn writes(self, byte: u8) -> Written {
        let is_literal = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => true,
            b'~' => self != Self::Form,
            b'/' => matches!(self, Self::KeepingSlash | Self::WholeUri),
            b'*' => matches!(self, Self::Component | Self::WholeUri | Self::Form),
            b'!' | b'\'' | b'(' | b')' => matches!(self, Self::Component | Self::WholeUri),
            b';' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'#' => {
                self == Self::WholeUri
            }
            b' ' if self == Self::Form => return Written::Plus,
            _ => false,
        };
        if is_literal { Written::Literal } else { Written::Escape }
    }
}

impl UrlStyle {
    /// Returns the styles in which a text with these bytes differs from the text and from each
    /// other.
    pub(super) fn all(has: &[bool; 256]) -> Vec<Self> {
        let present = || (0..=u8::MAX).filter(|byte| has[usize::from(*byte)]);
        let mut known: Vec<Vec<Written>> = vec![present().map(|_| Written::Literal).collect()];
        let mut styles = Vec::new();
        for encoder in Encoder::ALL {
            let written: Vec<Written> = present().map(|byte| encoder.writes(byte)).collect();
            if known.contains(&written) {
                continue;
            }
            known.push(written);
            styles.push(Self { encoder, digits: UPPER_CASE });
            let has_letter = |byte: u8| byte >> 4 > 9 || byte & 15 > 9;
            if present().any(|byte| has_letter(byte) && encoder.writes(byte) == Written::Escape) {
                styles.push(Self { encoder, digits: LOWER_CASE });
            }
        }
        styles
    }

    /// Returns the characters of a byte, and their number.
    pub(super) fn encode(self, byte: u8) -> ([u8; 3], usize) {
        match self.encoder.writes(byte) {
            Written::Literal => ([byte, 0, 0], 1),
            Written::Plus => ([b'+', 0, 0], 1),
            Written::Escape => {
                let digit = |number: u8| self.digits[usize::from(number)];
                ([b'%', digit(byte >> 4), digit(byte & 15)], 3)
            }
        }
    }
}
