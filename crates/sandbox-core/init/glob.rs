//! Path patterns: `*` and `?` within one component, `[…]` for one character of a set, `**` across
//! components.
//!
//! Names are bytes. A byte that is not UTF-8 counts as one character. Matching does not allocate
//! and takes at most time proportional to the lengths of pattern and path multiplied. The init
//! program of an engine includes this file.

/// Returns whether a pattern matches a whole path; both are absolute.
pub fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    // State to resume from, with one more component for the last `**`.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let next = match (split_first(pattern), split_first(path)) {
            (None, None) => return true,
            (Some((b"**", rest)), _) => {
                retry = Some((rest, path));
                Some((rest, path))
            }
            (Some((first, rest)), Some((name, below))) if component(first, name) => {
                Some((rest, below))
            }
            _ => None,
        };
        if let Some(next) = next {
            (pattern, path) = next;
            continue;
        }
        let Some((after, from)) = retry else { return false };
        let Some((_, below)) = split_first(from) else { return false };
        retry = Some((after, below));
        (pattern, path) = (after, below);
    }
}

/// Splits a path into its first component and the rest.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let path = &path[start..];
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    Some((&path[..end], &path[end..]))
}

/// Returns whether a pattern without slashes matches a name.
pub fn component(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // State to resume from, with one more character for the last `*`.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let next = match (pattern.split_first(), character(name)) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                retry = Some((rest, name));
                Some((rest, name))
            }
            (Some(_), Some((found, below))) => one(pattern, found).map(|rest| (rest, below)),
            _ => None,
        };
        if let Some(next) = next {
            (pattern, name) = next;
            continue;
        }
        let Some((after, from)) = retry else { return false };
        let Some((_, below)) = character(from) else { return false };
        retry = Some((after, below));
        (pattern, name) = (after, below);
    }
}

/// Matches one character with the start of a pattern. Returns the rest of the pattern.
fn one(pattern: &[u8], found: u32) -> Option<&[u8]> {
    let (expected, rest) = character(pattern)?;
    if expected == u32::from(b'?') {
        return Some(rest);
    }
    let end = rest.iter().position(|byte| *byte == b']');
    if let Some(end) = end.filter(|_| expected == u32::from(b'[')) {
        return in_set(&rest[..end], found).then(|| &rest[end + 1..]);
    }
    (expected == found).then_some(rest)
}

fn in_set(set: &[u8], found: u32) -> bool {
    let (mut set, negated) = match set {
        [b'!' | b'^', rest @ ..] => (rest, true),
        _ => (set, false),
    };
    let mut is_in = false;
    while let Some((first, rest)) = character(set) {
        match rest.split_first() {
            Some((b'-', rest)) if !rest.is_empty() => {
                let Some((last, rest)) = character(rest) else { break };
                is_in |= (first..=last).contains(&found);
                set = rest;
            }
            _ => {
                is_in |= first == found;
                set = rest;
            }
        }
    }
    is_in != negated
}

/// Splits a text into its first character and the rest. A byte that starts no valid character gets
/// a number above all characters.
fn character(text: &[u8]) -> Option<(u32, &[u8])> {
    let first = *text.first()?;
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let whole = text
        .get(..len)
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .and_then(|text| text.chars().next());
    Some(match whole {
        Some(character) => (u32::from(character), &text[len..]),
        None => (0x11_0000 + u32::from(first), &text[1..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_in_a_shell() {
        for (pattern, path, expected) in [
            ("/a/*.pem", "/a/x.pem", true),
            ("/a/*.pem", "/a/b/x.pem", false),
            ("/a/**/*.pem", "/a/x.pem", true),
            ("/a/**/*.pem", "/a/b/c/x.pem", true),
            ("/a/?", "/a/é", true),
            ("/a/?", "/a/bc", false),
            ("/a/[a-c]x", "/a/bx", true),
            ("/a/[!a-c]x", "/a/bx", false),
            ("/a/[x", "/a/[x", true),
            ("/a/**", "/a", true),
            ("/a/*", "/a", false),
            ("/**/build", "/x/build", true),
            ("/**/a/**/b", "/a/x/a/y/b", true),
            ("/**/a/**/b", "/x/b", false),
            ("/a*b*c", "/aXbXbXc", true),
            ("/a*b*c", "/aXcXb", false),
            ("/**", "/a/b", true),
            ("/a[]b", "/a[]b", false),
            ("/[é-ü]", "/ö", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn invalid_utf8_is_matched_byte_by_byte() {
        assert!(matches(b"/a/*.pem", b"/a/\xff\xfe.pem"));
        assert!(matches(b"/a/?.pem", b"/a/\xff.pem"));
        assert!(!matches(b"/a/?.pem", b"/a/\xff\xfe.pem"));
    }

    #[test]
    fn matching_many_wildcards_takes_little_time() {
        let (pattern, name) = ("*a".repeat(60) + "b", "a".repeat(255));
        assert!(!component(pattern.as_bytes(), name.as_bytes()));
        let (pattern, path) = ("/**/a".repeat(60) + "/b", "/a".repeat(255));
        assert!(!matches(pattern.as_bytes(), path.as_bytes()));
    }
}
