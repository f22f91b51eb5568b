//! Placeholders in texts that are cut: none is shown in part.

use std::collections::BTreeSet;
use std::ops::Range;

/// The beginning of a placeholder, which the name and `]` follow.
pub(super) const BEGIN: &str = "[redacted:";
/// The maximum length of a name that is recognised.
const MAX_NAME_BYTES: usize = 256;

/// Returns the place in front of a placeholder that a cut would split, and otherwise the cut.
pub(crate) fn whole_end(text: &[u8], cut: usize) -> usize {
    around(text, cut).map_or(cut, |placeholder| placeholder.start)
}

/// Returns the place behind a placeholder that a cut would split, and otherwise the cut.
pub(crate) fn whole_start(text: &[u8], cut: usize) -> usize {
    around(text, cut).map_or(cut, |placeholder| placeholder.end)
}

/// Returns the beginning of a placeholder whose end may follow the text.
pub(crate) fn unfinished_placeholder(text: &[u8]) -> Option<usize> {
    let from = text.len().saturating_sub(BEGIN.len() + MAX_NAME_BYTES);
    let start = from + text[from..].iter().rposition(|byte| *byte == b'[')?;
    let tail = &text[start..];
    let is_unfinished = match tail.strip_prefix(BEGIN.as_bytes()) {
        Some(name) => name.iter().copied().all(is_of_name),
        // A single bracket is rarely one of a placeholder.
        None => tail.len() > 1 && BEGIN.as_bytes().starts_with(tail),
    };
    is_unfinished.then_some(start)
}

/// Returns the names in the placeholders of a text.
pub(crate) fn names_in(text: &str) -> BTreeSet<String> {
    let rests = text.match_indices(BEGIN).map(|(at, begin)| &text.as_bytes()[at + begin.len()..]);
    let names = rests.filter_map(|rest| rest.get(..name_length(rest)?));
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn around(text: &[u8], cut: usize) -> Option<Range<usize>> {
    let from = cut.saturating_sub(BEGIN.len() + MAX_NAME_BYTES);
    let start = from + text.get(from..cut)?.iter().rposition(|byte| *byte == b'[')?;
    let name = text[start..].strip_prefix(BEGIN.as_bytes())?;
    let end = start + BEGIN.len() + name_length(name)? + 1;
    (end > cut).then_some(start..end)
}

/// Returns the length of the name in front of the final bracket.
fn name_length(text: &[u8]) -> Option<usize> {
    let length = text.iter().take(MAX_NAME_BYTES + 1).position(|byte| !is_of_name(*byte))?;
    (length > 0 && text[length] == b']').then_some(length)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_splits_no_placeholder() {
        let text = b"a [redacted:T_1] b";
        for cut in 0..=text.len() {
            let (end, start) = (whole_end(text, cut), whole_start(text, cut));
            let expected = if (3..16).contains(&cut) { (2, 16) } else { (cut, cut) };
            assert_eq!((end, start), expected, "{cut}");
        }
        for other in ["[redacted: x] y", "[redacted:] y", "[redacted:x", "x[y]z [z"] {
            assert_eq!(whole_end(other.as_bytes(), 6), 6, "{other}");
        }
    }

    #[test]
    fn the_beginning_of_a_placeholder_is_found_at_the_end_of_a_text() {
        for (text, expected) in [
            ("a [redacted:TOK", Some(2)),
            ("a [redacted:", Some(2)),
            ("a [re", Some(2)),
            ("a [", None),
            ("a [redacted:TOKEN]", None),
            ("a [rest", None),
            ("a [redacted:TOKEN b", None),
            ("", None),
        ] {
            assert_eq!(unfinished_placeholder(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_names_of_placeholders_are_listed_once() {
        let names = names_in("[redacted:B] [redacted:A][redacted:B] [redacted:] [redacted:C");
        assert_eq!(Vec::from_iter(names), ["A", "B"]);
    }
}
