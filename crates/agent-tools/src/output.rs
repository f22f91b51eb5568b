//! Parts of the tools' results: streams cut for a model, links, and notes about files.

mod notes;

use std::fmt::Write;

use sandbox_core::CapturedStream;

use crate::printable::Printable;
use crate::redaction::Redaction;

pub use self::notes::{Artifact, ConflictNote, FileNote, PendingGroup};
pub(crate) use self::notes::{MirrorNotes, note_pending};

/// The maximum length of each stream in a result, in UTF-16 units, as the reference counts.
const MAX_STREAM_UNITS: usize = 30_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero_entry(entry: &u64) -> bool {
    *entry == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Renders a stream for the model: the beginning, and a note about the removed rest.
///
/// Lengths are in UTF-16 units. Each byte that the engine did not capture counts as one unit.
pub(crate) fn for_display(
    name: &str,
    stream: &CapturedStream,
    redaction: &mut Redaction<'_>,
) -> String {
    let text = String::from_utf8_lossy(&stream.bytes);
    let (shown, bytes) = redaction.cut(&text, MAX_STREAM_UNITS);
    let removed = text[bytes..].encode_utf16().count() as u64 + stream.dropped_bytes;
    if removed == 0 {
        shown
    } else {
        format!("{shown}\n\n[{name} truncated: {removed} characters removed]")
    }
}

/// Renders the block of links that follows standard output; empty if there are no links.
pub(crate) fn link_block(label: &str, artifacts: &[Artifact], omitted: usize) -> String {
    let mut block = String::new();
    for (artifact, url) in
        artifacts.iter().filter_map(|artifact| Some((artifact, artifact.url.as_ref()?)))
    {
        if block.is_empty() {
            let _ = write!(block, "\n\n[{label}]");
        }
        let name = Printable(&artifact.relative_path);
        let _ = write!(block, "\n  {name}: {}", Printable(url));
    }
    if !block.is_empty() && omitted > 0 {
        let _ = write!(block, "\n  and {omitted} more");
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, dropped_bytes: u64, expected: &str) {
        let stream = CapturedStream { bytes: text.as_bytes().to_vec(), dropped_bytes };
        assert_eq!(for_display("stdout", &stream, &mut Redaction::new(None)), expected);
    }

    #[test]
    fn a_stream_is_cut_by_utf16_units_and_never_inside_a_character() {
        check("short", 0, "short");
        let full = "x".repeat(MAX_STREAM_UNITS);
        check(&full, 0, &full);
        check(
            &format!("{full}yz"),
            0,
            &format!("{full}\n\n[stdout truncated: 2 characters removed]"),
        );
        check(
            &format!("{full}yz"),
            40,
            &format!("{full}\n\n[stdout truncated: 42 characters removed]"),
        );
        let odd = format!("{}🎉", &full[1..]);
        check(&odd, 0, &format!("{}\n\n[stdout truncated: 2 characters removed]", &full[1..]));
    }

    #[test]
    fn links_are_listed_after_the_output() {
        let artifact = |name: &str, url: Option<&str>| Artifact {
            path: format!("/s/{name}"),
            relative_path: name.to_owned(),
            key: None,
            url: url.map(str::to_owned),
            entry: None,
        };
        assert_eq!(link_block("artifacts", &[artifact("a", None)], 3), "");
        let block = link_block(
            "artifacts",
            &[artifact("a", None), artifact("b c", Some("file:///b%20c"))],
            3,
        );
        assert_eq!(block, "\n\n[artifacts]\n  b c: file:///b%20c\n  and 3 more");
        let hostile = artifact("x\n  fake: \u{1b}[31m", Some("file:///x"));
        assert_eq!(
            link_block("artifacts", &[hostile], 0),
            "\n\n[artifacts]\n  x\\n  fake: \\u{1b}[31m: file:///x"
        );
    }
}
