//! Parts of the tools' results: streams cut for a model, links, and notes about files.

mod kept;
mod notes;
mod tail;

use std::fmt::Write;

use sandbox_core::CapturedStream;

use crate::printable::Printable;
use crate::redaction::{Redaction, whole_end, whole_start};

pub(crate) use self::kept::KeptOutputs;
pub use self::notes::{Artifact, ConflictNote, FileNote, PendingGroup};
pub(crate) use self::notes::{MirrorNotes, note_pending};
pub use self::tail::OutputTail;

/// The usual maximum length of each stream in a result, in UTF-16 units, as the reference counts.
pub(crate) const MAX_STREAM_UNITS: usize = 30_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A stream as a result shows it.
#[derive(Debug, Default)]
pub(crate) struct DisplayedStream {
    pub(crate) text: String,
    /// The file with the whole stream, as commands see it, if the text is shortened.
    pub(crate) file: Option<String>,
    /// The number of UTF-16 units that the text leaves out.
    pub(crate) omitted: u64,
}

/// Renders a stream: all of it, or its beginning and its end with a note between them.
///
/// Lengths are in UTF-16 units. Each byte that the engine did not capture counts as one unit.
/// `keep` writes the whole stream to a file, and returns its path, or a text that says that it is
/// not kept.
pub(crate) fn for_display(
    name: &str,
    stream: &CapturedStream,
    max_units: usize,
    redaction: &mut Redaction<'_>,
    keep: impl FnOnce(&[u8]) -> Result<String, String>,
) -> DisplayedStream {
    let content = redaction.part(&stream.bytes, 0..stream.bytes.len());
    let text = String::from_utf8_lossy(&content);
    // A byte is one unit at most.
    let fits = text.len() <= max_units || text.encode_utf16().count() <= max_units;
    if fits && stream.dropped_bytes == 0 {
        return DisplayedStream { text: text.into_owned(), file: None, omitted: 0 };
    }
    let (head, tail) = ends(&text, max_units);
    let hidden = text[head.len()..text.len() - tail.len()].encode_utf16().count() as u64;
    let removed = hidden + stream.dropped_bytes;
    let (place, file) = match keep(&content) {
        Ok(file) if stream.dropped_bytes == 0 => {
            (format!("all of it is in {file} while the session is open"), Some(file))
        }
        Ok(file) => (format!("{file} has the first {} bytes", stream.bytes.len()), Some(file)),
        Err(reason) => (reason, None),
    };
    let text =
        format!("{head}\n\n[{name} truncated: {removed} characters removed; {place}]\n\n{tail}");
    DisplayedStream { text, file, omitted: removed }
}

/// Renders a stream of a process that has ended, whose values are replaced already: all of it, or
/// its beginning and its end with a note between them. `max_units` counts UTF-16 units. `name` is
/// that of the stream in the note.
pub fn shortened_stream(name: &str, stream: &CapturedStream, max_units: usize) -> String {
    let keep = |_: &[u8]| Err("the rest is not kept".to_owned());
    for_display(name, stream, max_units, &mut Redaction::new(None), keep).text
}

/// Renders a stream like the reference: all of it, or its beginning with a note.
pub(crate) fn for_reference(
    name: &str,
    stream: &CapturedStream,
    max_units: usize,
    redaction: &mut Redaction<'_>,
) -> DisplayedStream {
    let content = redaction.part(&stream.bytes, 0..stream.bytes.len());
    let text = String::from_utf8_lossy(&content);
    let head = &text[..whole_end(text.as_bytes(), fitting_bytes(text.chars(), max_units))];
    let removed = text[head.len()..].encode_utf16().count() as u64 + stream.dropped_bytes;
    let text = match removed {
        0 => head.to_owned(),
        _ => format!("{head}\n\n[{name} truncated: {removed} characters removed]"),
    };
    DisplayedStream { text, file: None, omitted: removed }
}

/// Returns the beginning and the end of a text, each at most half of `max_units` UTF-16 units.
fn ends(text: &str, max_units: usize) -> (&str, &str) {
    let cut = whole_end(text.as_bytes(), fitting_bytes(text.chars(), max_units / 2));
    let (head, rest) = text.split_at(cut);
    let tail = rest.len() - fitting_bytes(rest.chars().rev(), max_units / 2);
    (head, &rest[whole_start(rest.as_bytes(), tail)..])
}

/// Returns the number of bytes of the first characters that have `max_units` UTF-16 units at most.
fn fitting_bytes(characters: impl Iterator<Item = char>, max_units: usize) -> usize {
    let mut units = 0;
    let fits = |character: &char| {
        units += character.len_utf16();
        units <= max_units
    };
    characters.take_while(fits).map(char::len_utf8).sum()
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
    fn check(text: &str, dropped_bytes: u64, expected: &str, kept: Option<&str>) {
        let stream = CapturedStream { bytes: text.as_bytes().to_vec(), dropped_bytes };
        let mut file = None;
        let keep = |content: &[u8]| {
            file = Some(String::from_utf8(content.to_vec()).unwrap());
            Ok("/tmp/1.txt".to_owned())
        };
        let shown = for_display("stdout", &stream, 10, &mut Redaction::new(None), keep);
        assert_eq!(shown.text, expected);
        assert_eq!(file.as_deref(), kept);
        assert_eq!(shown.file.is_some(), kept.is_some());
    }

    #[test]
    fn a_long_stream_shows_its_ends_and_is_kept_whole() {
        check("short", 0, "short", None);
        check("0123456789", 0, "0123456789", None);
        check("🎉🎉🎉🎉🎉", 0, "🎉🎉🎉🎉🎉", None);
        let note = |removed: u64, place: &str| {
            format!("[stdout truncated: {removed} characters removed; {place}]")
        };
        let all = note(3, "all of it is in /tmp/1.txt while the session is open");
        check("0123456789abc", 0, &format!("01234\n\n{all}\n\n89abc"), Some("0123456789abc"));
        // No character is split, and a pair counts as two units.
        let all = note(5, "all of it is in /tmp/1.txt while the session is open");
        check("0123🎉x🎉9abc", 0, &format!("0123\n\n{all}\n\n9abc"), Some("0123🎉x🎉9abc"));
        let first = note(42, "/tmp/1.txt has the first 3 bytes");
        check("abc", 42, &format!("abc\n\n{first}\n\n"), Some("abc"));
    }

    #[test]
    fn a_stream_that_cannot_be_kept_says_so() {
        let stream = CapturedStream { bytes: b"0123456789abc".to_vec(), dropped_bytes: 0 };
        let failed = |_: &[u8]| Err("it could not be kept: the disk is full".to_owned());
        let shown = for_display("stderr", &stream, 4, &mut Redaction::new(None), failed);
        let note =
            "[stderr truncated: 9 characters removed; it could not be kept: the disk is full]";
        assert_eq!(shown.text, format!("01\n\n{note}\n\nbc"));
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
