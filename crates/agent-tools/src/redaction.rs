//! Replacement of the values of variables in the texts that a session returns.

mod output;
mod placeholder;

use std::collections::BTreeSet;
use std::ops::Range;

use secrets::Redactor;

pub(crate) use self::output::{OutputRedaction, OutputRedactor};
pub(crate) use self::placeholder::{names_in, unfinished_placeholder, whole_end, whole_start};

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

    /// Returns the redactor; `None` if redaction is off.
    pub(crate) fn redactor(&self) -> Option<&'r Redactor> {
        self.redactor
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

    /// Returns the text of `range`, which is UTF-8, up to `max_units` UTF-16 units, and the end of
    /// the bytes that it stands for. A value that is only in part within the range is replaced too,
    /// and a placeholder is never cut.
    pub(crate) fn excerpt(
        &mut self,
        content: &[u8],
        range: Range<usize>,
        max_units: usize,
    ) -> (String, usize) {
        let mut cut = Cut { shown: String::new(), units: 0, max_units, bytes: 0, is_full: false };
        let found = self.redactor.map_or_else(Vec::new, |redactor| redactor.find(content));
        let mut from = range.start;
        for found in found {
            if found.range.end <= range.start || found.range.start >= range.end {
                continue;
            }
            // The forms of values begin and end between characters.
            cut.push(&String::from_utf8_lossy(&content[from..found.range.start.max(from)]));
            let end = found.range.end.min(range.end);
            let bytes = end - found.range.start.max(range.start);
            if cut.is_full || !cut.push_placeholder(&placeholder(found.name), bytes) {
                return (cut.shown, range.start + cut.bytes);
            }
            self.note([found.name]);
            from = end;
        }
        cut.push(&String::from_utf8_lossy(&content[from..range.end]));
        (cut.shown, range.start + cut.bytes)
    }

    /// Adds the names of variables whose values were replaced.
    pub(crate) fn note(&mut self, names: impl IntoIterator<Item: Into<String>>) {
        self.replaced.extend(names.into_iter().map(Into::into));
    }
}

fn placeholder(name: &str) -> String {
    format!("{}{name}]", placeholder::BEGIN)
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
    fn check(text: &str, range: Range<usize>, max_units: usize, expected: &str, end: usize) {
        let redactor = redactor();
        let mut redaction = Redaction::new(Some(&redactor));
        let excerpt = redaction.excerpt(text.as_bytes(), range, max_units);
        assert_eq!(excerpt, (expected.to_owned(), end), "{text:?}");
    }

    #[test]
    fn a_value_at_the_cut_is_never_shown_in_part() {
        check("a hunter2! b", 0..12, 100, "a [redacted:TOKEN] b", 12);
        check("a hunter2! b", 0..12, 17, "a ", 2);
        check("a hunter2! b", 0..12, 18, "a [redacted:TOKEN]", 10);
        check("a hunter2! b", 0..12, 1, "a", 1);
        check("a hunter2! b", 4..12, 100, "[redacted:TOKEN] b", 12);
        check("a hunter2! b", 0..4, 100, "a [redacted:TOKEN]", 4);
        check("a hunter2! b", 11..12, 100, "b", 12);
        check("a hunter2", 0..9, 6, "a hunt", 6);
        check("é🎉é", 0..8, 3, "é🎉", 6);
        check("é🎉é", 0..8, 2, "é", 2);
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
