//! The matcher of path patterns, compared with a slow one.

#![no_main]

#[path = "../../crates/sandbox-core/init/glob.rs"]
mod glob;

/// Length of pattern and path up to which the slow matcher is fast enough.
const MAX_BYTES: usize = 24;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(at) = input.iter().position(|byte| *byte == 0) else { return };
    let (pattern, path) = (&input[..at], &input[at + 1..]);
    let (whole, one) = (glob::matches(pattern, path), glob::component(pattern, path));
    if input.len() > MAX_BYTES {
        return;
    }
    let split = |path: &[u8]| -> Vec<Vec<u32>> {
        let components = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        components.map(characters).collect()
    };
    assert_eq!(whole, matches(&split(pattern), &split(path)), "{pattern:?} {path:?}");
    assert_eq!(one, component(&characters(pattern), &characters(path)), "{pattern:?} {path:?}");
});

/// Returns the characters of a text, with a number above all characters for each other byte.
fn characters(text: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for chunk in text.utf8_chunks() {
        found.extend(chunk.valid().chars().map(u32::from));
        found.extend(chunk.invalid().iter().map(|byte| 0x11_0000 + u32::from(*byte)));
    }
    found
}

fn matches(pattern: &[Vec<u32>], path: &[Vec<u32>]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([first, rest @ ..], _) if *first == characters(b"**") => {
            (0..=path.len()).any(|skipped| matches(rest, &path[skipped..]))
        }
        ([first, rest @ ..], [name, below @ ..]) => component(first, name) && matches(rest, below),
        _ => false,
    }
}

fn component(pattern: &[u32], name: &[u32]) -> bool {
    let is = |character: u32, byte: u8| character == u32::from(byte);
    match (pattern, name) {
        ([], []) => true,
        ([first, rest @ ..], _) if is(*first, b'*') => {
            (0..=name.len()).any(|skipped| component(rest, &name[skipped..]))
        }
        ([first, rest @ ..], [_, below @ ..]) if is(*first, b'?') => component(rest, below),
        ([first, rest @ ..], [found, below @ ..]) => {
            let end = rest.iter().position(|character| is(*character, b']'));
            match end.filter(|_| is(*first, b'[')) {
                Some(end) => in_set(&rest[..end], *found) && component(&rest[end + 1..], below),
                None => first == found && component(rest, below),
            }
        }
        _ => false,
    }
}

fn in_set(set: &[u32], found: u32) -> bool {
    let is = |character: u32, byte: u8| character == u32::from(byte);
    match set {
        [first, rest @ ..] if is(*first, b'!') || is(*first, b'^') => !is_listed(rest, found),
        _ => is_listed(set, found),
    }
}

fn is_listed(set: &[u32], found: u32) -> bool {
    match set {
        [] => false,
        [first, dash, last, rest @ ..] if *dash == u32::from(b'-') => {
            (*first..=*last).contains(&found) || is_listed(rest, found)
        }
        [first, rest @ ..] => *first == found || is_listed(rest, found),
    }
}
