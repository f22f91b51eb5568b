//! Forms of a secret in the output of a program.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// All characters except the unreserved ones of RFC 3986. Python's `quote(safe="")`, Rust, and Go's
/// path segments encode these.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The characters that Python's `quote` encodes by default.
const KEEPING_SLASH: &AsciiSet = &UNRESERVED.remove(b'/');
/// The characters that JavaScript's `encodeURIComponent` encodes.
const COMPONENT: &AsciiSet =
    &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// The characters that JavaScript's `encodeURI` encodes.
const WHOLE_URI: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'#');
/// The characters that `application/x-www-form-urlencoded` encodes. A blank becomes `+`.
const FORM: &AsciiSet = &UNRESERVED.remove(b'*').add(b'~').remove(b' ');

pub(super) type Form = Zeroizing<Vec<u8>>;

/// Returns the secret and its URL-encoded forms.
pub(super) fn plain_and_url(secret: &str) -> Vec<Form> {
    let mut encoded =
        [UNRESERVED, KEEPING_SLASH, COMPONENT, WHOLE_URI].map(|set| encode(secret, set)).to_vec();
    let mut form = encode(secret, FORM);
    form.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = b'+');
    encoded.push(form);
    let lower: Vec<_> = encoded.iter().map(|upper| with_lower_case_escapes(upper)).collect();
    encoded.extend(lower);
    encoded.push(Zeroizing::new(secret.as_bytes().to_vec()));
    encoded
}

fn encode(secret: &str, set: &'static AsciiSet) -> Form {
    Zeroizing::new(percent_encode(secret.as_bytes(), set).flat_map(str::bytes).collect())
}

fn with_lower_case_escapes(encoded: &[u8]) -> Form {
    let mut lower = Zeroizing::new(encoded.to_vec());
    for at in 0..encoded.len() {
        let escaped = encoded[at.saturating_sub(2)..at].contains(&b'%');
        if escaped {
            lower[at].make_ascii_lowercase();
        }
    }
    lower
}

/// Returns the base64 forms, in both alphabets.
///
/// Base64 encodes three bytes as four characters. A secret inside a longer text therefore has three
/// forms, one for each alignment. Characters that also encode bits of a neighbour are unknown, so
/// these forms omit them. The form of the secret alone is complete.
pub(super) fn base64(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.extend_from_slice(secret.as_bytes());
            let encoded = Zeroizing::new(engine.encode(&*bytes).into_bytes());
            let known = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
            forms.push(Zeroizing::new(encoded[known].to_vec()));
            if before == 0 {
                let unpadded =
                    encoded.iter().position(|&byte| byte == b'=').unwrap_or(encoded.len());
                forms.push(Zeroizing::new(encoded[..unpadded].to_vec()));
                forms.push(encoded);
            }
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(forms: Vec<Form>) -> Vec<String> {
        forms.into_iter().map(|form| String::from_utf8(form.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_forms_of_common_url_encoders_are_known() {
        let forms = texts(plain_and_url("a b/é!~"));
        for expected in [
            "a b/é!~",
            "a%20b%2F%C3%A9%21~",
            "a%20b%2f%c3%a9%21~",
            "a%20b/%C3%A9%21~",
            "a%20b%2F%C3%A9!~",
            "a%20b/%C3%A9!~",
            "a+b%2F%C3%A9%21%7E",
        ] {
            assert!(forms.iter().any(|form| form == expected), "{expected} is not in {forms:?}");
        }
    }

    #[test]
    fn lower_case_applies_only_to_escapes_and_not_to_text_after_a_percent_sign() {
        assert!(texts(plain_and_url("%AB?")).contains(&"%25AB%3f".to_owned()));
    }

    #[test]
    fn a_base64_form_is_found_at_every_alignment() {
        let forms = texts(base64("hunter2?>"));
        for before in 0..7 {
            for after in 0..4 {
                let text = format!("{}hunter2?>{}", "x".repeat(before), "y".repeat(after));
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                    assert!(forms.iter().any(|form| encoded.contains(form.as_str())), "{text}");
                }
            }
        }
    }
}
