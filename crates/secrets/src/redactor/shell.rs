//! Forms of a secret that a shell writes, so that it reads the same value again.

use zeroize::Zeroizing;

/// Maximum length of a secret whose quoted forms are found. Each is a copy.
const MAX_BYTES: usize = 8 << 10;

/// Returns the quoted forms of a secret that no [spelling](super::spelling) covers and that differ
/// from it, each once: in single quotes (`set`), and in pieces, of which only those with control
/// characters or with what is not ASCII are `$'…'` (`'p'$'\303\244''ss'`), as the tools of GNU
/// write them.
pub(super) fn quoted(secret: &str) -> Vec<Zeroizing<String>> {
    if secret.len() > MAX_BYTES {
        return Vec::new();
    }
    let in_single_quotes = Zeroizing::new(secret.replace('\'', r"'\''"));
    let mut forms: Vec<Zeroizing<String>> = Vec::new();
    for form in [in_single_quotes, in_pieces(secret)] {
        if **form != *secret && !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Returns the text between `$'` and `'`, in ASCII.
fn ansi_c(secret: &str) -> Zeroizing<String> {
    // With room for everything, no part of the secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(4 * secret.len()));
    for c in secret.chars() {
        let letter = match c {
            '\u{7}' => Some('a'),
            '\u{8}' => Some('b'),
            '\u{1b}' => Some('E'),
            '\u{c}' => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{b}' => Some('v'),
            _ => None,
        };
        if let Some(letter) = letter {
            text.extend(['\\', letter]);
            continue;
        }
        let mut bytes = Zeroizing::new([0; 4]);
        for byte in c.encode_utf8(&mut *bytes).bytes() {
            let digit = |shift: u8| char::from(b'0' + (byte >> shift & 7));
            text.extend(['\\', digit(6), digit(3), digit(0)]);
        }
    }
    text
}

/// Returns the text between `'` and `'`, in which only control characters and what is not ASCII are
/// in pieces of their own: `$'…'`.
fn in_pieces(secret: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(9 * secret.len()));
    let mut is_escaped = false;
    for c in secret.chars() {
        let was_escaped = std::mem::replace(&mut is_escaped, c.is_ascii_control() || !c.is_ascii());
        match (was_escaped, is_escaped) {
            (true, false) => text.push_str("''"),
            (false, true) if !text.is_empty() => text.push_str("'$'"),
            _ => {}
        }
        let mut buffer = Zeroizing::new([0; 4]);
        let piece = c.encode_utf8(&mut *buffer);
        match c {
            '\'' => text.push_str(r"'\''"),
            _ if is_escaped => text.push_str(&ansi_c(piece)),
            _ => text.push(c),
        }
    }
    text
}
