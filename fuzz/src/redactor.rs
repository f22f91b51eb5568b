//! The redactor, as a whole and as a stream, compared with a slow one.

#![no_main]

#[path = "../../crates/secrets/tests/main/redaction/oracle.rs"]
mod oracle;

use secrets::{Redactor, SecretString, Variables};

/// Length of the text up to which the slow redactor is fast enough.
const MAX_BYTES: usize = 400;

libfuzzer_sys::fuzz_target!(|input: (Vec<&str>, &[u8], u8)| {
    let (values, text, cut) = input;
    let text = &text[..text.len().min(MAX_BYTES)];
    let (mut set, mut pairs) = (Variables::new(), Vec::new());
    for (number, value) in values.iter().take(4).enumerate() {
        let name = format!("N{number}");
        if value.len() < 64 && set.insert(&name, SecretString::from(*value)).is_ok() {
            pairs.push((name, (*value).to_owned()));
        }
    }
    let redactor = Redactor::new(&set);
    // The values appear in the text as they are, so that the rest of it is about their forms.
    let mut whole = text.to_vec();
    pairs.iter().for_each(|(_, value)| whole.extend(value.bytes()));
    let expected = oracle::redact(&pairs, &whole);
    assert_eq!(redactor.redact_bytes(&whole), expected, "{pairs:?}");
    let (mut stream, mut streamed) = (redactor.stream(), Vec::new());
    for piece in whole.chunks(usize::from(cut).max(1)) {
        stream.push(piece, &mut streamed);
    }
    stream.finish(&mut streamed);
    assert_eq!(streamed, expected, "{pairs:?}");
});
