//! Replacement of the values of variables in the texts that a session returns.

use std::collections::BTreeSet;
use std::ops::Range;

use secrets::{Redactor, Segment};

/// The redaction of one result. It collects the names of the variables whose values it replaced.
#[derive(Debug)]
pub(crate) struct Redaction<'r> {
    /// `None` if the caller has turned redaction off.
    redactor: Option<&'r Redactor>,
    replaced: BTreeSet<String>,
}

impl<'r> Redaction<'r> {
    pub(crate) fn new(redactor: Option<&'r Redactor>) -> Self {
        Self { redactor, replaced: BTreeSet::new() }
    }

    /// Returns the names of the variables whose values were replaced, sorted.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.replaced.into_iter().collect()
    }

    /// Replaces the values in a short text.
    pub(crate) fn apply(&mut self, text: &mut String) {
        let Some(redactor) = self.redactor else { return };
        let found = redactor.find(text.as_bytes());
        self.note(found.iter().map(|found| found.name));
        if !found.is_empty() {
            *text = redactor.redact(text).into_owned();
        }
    }

    /// Returns the bytes of `range`. A value that is only in part within the range is replaced
    /// too.
    pub(crate) fn part(&mut self, content: &[u8], range: Range<usize>) -> Vec<u8> {
        let Some(redactor) = self.redactor else { return content[range].to_vec() };
        let mut part = Vec::with_capacity(range.len());
        let mut from = range.start;
        for found in redactor.find(content) {
            if found.range.end <= range.start || found.range.start >= range.end {
                continue;
            }
            part.extend_from_slice(&content[from..found.range.start.max(from)]);
            part.extend_from_slice(placeholder(found.name).as_bytes());
            from = found.range.end.min(range.end);
            self.note([found.name]);
        }
        part.extend_from_slice(&content[from..range.end]);
        part
    }

    /// Cuts a text after `max_units` UTF-16 units, with values replaced. Returns it with the
    /// number of bytes of `text` that it stands for. Searches only as much as it needs.
    pub(crate) fn cut(&mut self, text: &str, max_units: usize) -> (String, usize) {
        let mut cut = Cut { shown: String::new(), units: 0, max_units, bytes: 0, is_full: false };
        let Some(redactor) = self.redactor else {
            cut.push(text);
            return (cut.shown, cut.bytes);
        };
        let mut stream = redactor.stream();
        let mut visit = |segment: Segment<'_>| match segment {
            Segment::Value { name, bytes, .. } => {
                if cut.push_placeholder(&placeholder(name), bytes) {
                    self.replaced.insert(name.to_owned());
                }
                cut.is_full
            }
            Segment::Text(text) => {
                // The pieces and the forms of values begin and end between characters.
                cut.push(&String::from_utf8_lossy(text));
                cut.is_full
            }
            _ => true,
        };
        let mut rest = text;
        let mut is_full = false;
        while !rest.is_empty() && !is_full {
            let (piece, after) =
                rest.split_at(rest.floor_char_boundary(PIECE_BYTES.min(rest.len())));
            stream.push_segments(piece.as_bytes(), |segment| is_full |= visit(segment));
            rest = after;
        }
        if !is_full {
            stream.finish_segments(|segment| {
                visit(segment);
            });
        }
        (cut.shown, cut.bytes)
    }

    fn note<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.replaced.extend(names.into_iter().map(str::to_owned));
    }
}

/// Size of the pieces in which a text is searched before it is cut.
const PIECE_BYTES: usize = 32 * 1024;

fn placeholder(name: &str) -> String {
    format!("[redacted:{name}]")
}

/// The beginning of a text.
struct Cut {
    shown: String,
    units: usize,
    max_units: usize,
    /// Number of bytes of the whole text that `shown` stands for.
    bytes: usize,
    is_full: bool,
}

impl Cut {
    fn push(&mut self, text: &str) {
        if self.is_full {
            return;
        }
        let room = self.max_units - self.units;
        // A byte is one unit at most.
        if text.len() <= room {
            self.units += text.encode_utf16().count();
            self.bytes += text.len();
            self.shown.push_str(text);
            return;
        }
        let mut units = 0;
        let cut = text.char_indices().find_map(|(at, character)| {
            units += character.len_utf16();
            (units > room).then_some((at, units - character.len_utf16()))
        });
        let (end, units) = cut.unwrap_or((text.len(), units));
        self.is_full = cut.is_some();
        self.units += units;
        self.bytes += end;
        self.shown.push_str(&text[..end]);
    }

    /// Adds the text that stands for a value of some bytes, if there is room for all of it.
    fn push_placeholder(&mut self, text: &str, bytes: usize) -> bool {
        let units = text.encode_utf16().count();
        self.is_full |= units > self.max_units - self.units;
        if self.is_full {
            return false;
        }
        self.units += units;
        self.bytes += bytes;
        self.shown.push_str(text);
        true
    }
}

#[cfg(test)]
mod tests {
    use secrets::Variables;

    use super::*;

    fn redactor() -> Redactor {
        let mut variables = Variables::new();
        variables.insert("TOKEN", "hunter2!".to_owned().into()).unwrap();
        Redactor::new(&variables)
    }

    #[track_caller]
    fn check_cut(text: &str, max_units: usize, expected: &str, bytes: usize) {
        let redactor = redactor();
        let mut redaction = Redaction::new(Some(&redactor));
        assert_eq!(redaction.cut(text, max_units), (expected.to_owned(), bytes), "{text:?}");
    }

    #[test]
    fn a_value_at_the_cut_is_never_shown_in_part() {
        check_cut("a hunter2! b", 100, "a [redacted:TOKEN] b", 12);
        check_cut("a hunter2! b", 17, "a [redacted:TOKEN]".split_at(2).0, 2);
        check_cut("a hunter2! b", 18, "a [redacted:TOKEN]", 10);
        check_cut("a hunter2! b", 5, "a ", 2);
        check_cut("a hunter2", 6, "a hunt", 6);
        check_cut("é🎉é", 3, "é🎉", 6);
        let long = format!("{}hunter2!", "é".repeat(PIECE_BYTES));
        check_cut(&long, 4, "éééé", 8);
        let shown = format!("{}[redacted:TOKEN]", "é".repeat(PIECE_BYTES));
        check_cut(&long, 1 << 20, &shown, long.len());
    }

    #[test]
    fn a_part_shows_no_part_of_a_value() {
        let redactor = redactor();
        let mut redaction = Redaction::new(Some(&redactor));
        let text = b"a hunter2! b";
        for (range, expected) in [
            (0..12, "a [redacted:TOKEN] b"),
            (0..4, "a [redacted:TOKEN]"),
            (4..12, "[redacted:TOKEN] b"),
            (4..6, "[redacted:TOKEN]"),
            (0..2, "a "),
            (10..12, " b"),
        ] {
            let part = redaction.part(text, range.clone());
            assert_eq!(String::from_utf8(part).unwrap(), expected, "{range:?}");
        }
        assert_eq!(redaction.into_names(), ["TOKEN"]);
        assert_eq!(Redaction::new(None).part(text, 4..6), b"nt");
    }
}
