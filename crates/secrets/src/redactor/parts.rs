//! Texts within a secret that a command can print without the rest.

use std::iter::Peekable;
use std::str::Chars;

use zeroize::Zeroizing;

/// Maximum length of a secret whose parts are found. Each is a copy.
const MAX_BYTES: usize = 64 << 10;
/// Maximum number of strings of a JSON text that are found.
const MAX_STRINGS: usize = 64;
/// Minimum length of a line that is searched for.
const MIN_LINE_BYTES: usize = 20;
/// Maximum number of lines of one secret that are searched for.
const MAX_LINES: usize = 128;
/// Names of strings in JSON that are secrets, in lower case.
const TELLING: [&str; 7] =
    ["key", "secret", "token", "password", "passphrase", "credential", "auth"];

/// Returns the secret strings of a JSON text, such as the private key of a service account. Of
/// another text with `\n` for line breaks, returns the text with line breaks.
pub(super) fn decoded(secret: &str) -> Vec<Zeroizing<String>> {
    if secret.len() > MAX_BYTES {
        return Vec::new();
    }
    let strings = json_strings(secret);
    if strings.is_empty() && secret.contains(r"\n") {
        return vec![with_line_breaks(secret)];
    }
    strings
}

/// Returns the lines of a secret with line breaks that tell something, without the frame of PEM.
pub(super) fn long_lines(secret: &str) -> impl Iterator<Item = &str> {
    let lines = secret.contains(['\r', '\n']).then(|| secret.split(['\r', '\n']).map(str::trim));
    let is_long = |line: &&str| line.len() >= MIN_LINE_BYTES && !line.starts_with("-----");
    lines.into_iter().flatten().filter(is_long).take(MAX_LINES)
}

fn with_line_breaks(secret: &str) -> Zeroizing<String> {
    // With room for everything, no part of the secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(secret.len()));
    let mut rest = secret;
    while let Some((line, next)) = rest.split_once(r"\n") {
        text.push_str(line.strip_suffix(r"\r").unwrap_or(line));
        text.push('\n');
        rest = next;
    }
    text.push_str(rest);
    text
}

/// Returns the strings of a JSON text whose names tell that they are secrets, and PEM texts. The
/// text need not be valid as a whole.
fn json_strings(text: &str) -> Vec<Zeroizing<String>> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    let mut name = None;
    while found.len() < MAX_STRINGS
        && let Some(c) = chars.next()
    {
        match c {
            '"' => {
                let Some(string) = json_string(&mut chars, text.len()) else { break };
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if chars.next_if_eq(&':').is_some() {
                    name = Some(string);
                } else if is_secret(name.as_ref().map_or("", |name| name), &string) {
                    found.push(string);
                }
            }
            ',' | '}' => name = None,
            _ => {}
        }
    }
    found
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_told = TELLING.iter().any(|part| name.contains(part)) && !value.starts_with("http");
    value.contains("-----BEGIN ") || is_told
}

/// Reads a string after its first quote; `None` if it does not end, or has an invalid escape.
fn json_string(chars: &mut Peekable<Chars<'_>>, capacity: usize) -> Option<Zeroizing<String>> {
    let mut string = Zeroizing::new(String::with_capacity(capacity));
    loop {
        let c = match chars.next()? {
            '"' => return Some(string),
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => utf16_escape(chars)?,
                c @ ('"' | '\\' | '/') => c,
                _ => return None,
            },
            c => c,
        };
        string.push(c);
    }
}

/// Reads the digits of an escape such as `\u00e9`, and of the second half of a pair.
fn utf16_escape(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let first = four_digits(chars)?;
    if let Some(c) = char::from_u32(first.into()) {
        return Some(c);
    }
    let is_pair = chars.next()? == '\\' && chars.next()? == 'u';
    let pair = [first, is_pair.then(|| four_digits(chars))??];
    char::decode_utf16(pair).next()?.ok()
}

fn four_digits(chars: &mut Peekable<Chars<'_>>) -> Option<u16> {
    (0..4).try_fold(0, |number, _| {
        let digit = u16::try_from(chars.next()?.to_digit(16)?).ok()?;
        Some(number << 4 | digit)
    })
}
