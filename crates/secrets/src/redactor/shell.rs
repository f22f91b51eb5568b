//! Forms of a secret that a shell writes, so that it reads the same value again.

use zeroize::Zeroizing;

/// Maximum length of a secret whose quoted forms are found. Each is a copy.
const MAX_BYTES: usize = 8 << 10;

/// Returns the quoted forms of a secret that differ from it, each once: in double quotes
/// (`declare -p`), in single quotes (`set`), with backslashes (`printf %q`), and as `$'…'`, which
/// bash writes for control characters, and in some locales for all that is not ASCII. The tools of
/// GNU write only those characters so (`'p'$'\303\244''ss'`).
pub(super) fn quoted(secret: &str) -> Vec<Zeroizing<String>> {
    if secret.len() > MAX_BYTES {
        return Vec::new();
    }
    let in_double_quotes = escaped(secret, |c| matches!(c, '$' | '`' | '"' | '\\'));
    let in_single_quotes = Zeroizing::new(secret.replace('\'', r"'\''"));
    let word = escaped(secret, |c| c.is_ascii() && !is_plain(c));
    let mut forms: Vec<Zeroizing<String>> = Vec::new();
    let others = [false, true].map(|is_ascii| ansi_c(secret, is_ascii));
    let in_pieces = in_pieces(secret);
    for form in [in_double_quotes, in_single_quotes, word, in_pieces].into_iter().chain(others) {
        if **form != *secret && !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

fn escaped(secret: &str, is_special: impl Fn(char) -> bool) -> Zeroizing<String> {
    // With room for everything, no part of the secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len()));
    for c in secret.chars() {
        if is_special(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Returns the text between `$'` and `'`, in ASCII or with other characters as they are.
fn ansi_c(secret: &str, is_ascii: bool) -> Zeroizing<String> {
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
            '\\' | '\'' => Some(c),
            _ => None,
        };
        let is_octal = c.is_ascii_control() || is_ascii && !c.is_ascii();
        match letter {
            Some(letter) => text.extend(['\\', letter]),
            None if is_octal => {
                let mut bytes = Zeroizing::new([0; 4]);
                for byte in c.encode_utf8(&mut *bytes).bytes() {
                    let digit = |shift: u8| char::from(b'0' + (byte >> shift & 7));
                    text.extend(['\\', digit(6), digit(3), digit(0)]);
                }
            }
            None => text.push(c),
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
            _ if is_escaped => text.push_str(&ansi_c(piece, true)),
            _ => text.push(c),
        }
    }
    text
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c)
}
