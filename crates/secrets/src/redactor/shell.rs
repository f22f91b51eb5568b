//! Forms of a secret that a shell writes, so that it reads the same value again.

use zeroize::Zeroizing;

/// Maximum length of a secret whose quoted forms are found. Each is a copy.
const MAX_BYTES: usize = 8 << 10;

/// Returns the quoted forms of a secret that differ from it, each once: in double quotes
/// (`declare -p`), in single quotes (`set`), and with backslashes (`printf %q`).
pub(super) fn quoted(secret: &str) -> Vec<Zeroizing<String>> {
    if secret.len() > MAX_BYTES {
        return Vec::new();
    }
    let in_double_quotes = escaped(secret, |c| matches!(c, '$' | '`' | '"' | '\\'));
    let in_single_quotes = Zeroizing::new(secret.replace('\'', r"'\''"));
    let word = escaped(secret, |c| c.is_ascii() && !is_plain(c));
    let mut forms: Vec<Zeroizing<String>> = Vec::new();
    for form in [in_double_quotes, in_single_quotes, word] {
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

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c)
}
