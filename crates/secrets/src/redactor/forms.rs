//! The forms in which a secret may turn up in a program's output.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// RFC 3986: everything but the unreserved characters (Python's `quote(safe="")`, Rust, Go's path
/// segments).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Python's `quote` as it is.
const KEEPING_SLASH: &AsciiSet = &UNRESERVED.remove(b'/');
/// JavaScript's `encodeURIComponent`.
const COMPONENT: &AsciiSet =
    &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// JavaScript's `encodeURI`.
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
/// `application/x-www-form-urlencoded`, where a blank is `+`.
const FORM: &AsciiSet = &UNRESERVED.remove(b'*').add(b'~').remove(b' ');

pub(super) type Form = Zeroizing<Vec<u8>>;

/// The secret itself and its URL-encoded forms.
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

/// The base64 forms, in both alphabets.
///
/// Base64 turns three bytes into four characters, so a secret inside a longer text has three forms,
/// by where it begins. Characters that also hold bits of a neighbour are unknown and left out, but
/// for the form of the secret alone, which is whole.
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
    fn a_url_encoded_secret_has_the_forms_of_the_common_encoders() {
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
    fn a_percent_sign_of_the_secret_itself_keeps_its_neighbours_case() {
        assert!(texts(plain_and_url("%AB?")).contains(&"%25AB%3f".to_owned()));
    }

    #[test]
    fn one_base64_form_is_in_the_encoding_wherever_the_secret_begins() {
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
