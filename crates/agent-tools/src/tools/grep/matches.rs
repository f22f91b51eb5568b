//! The search of one file after another, within the limits of a result.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use grep_matcher::{LineTerminator, Matcher};
use grep_regex::RegexMatcher;
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkFinish,
    SinkMatch,
};

use super::expression::Expression;
use super::output::{FoundLine, FoundLines};
use crate::printable::{Printable, counted};
use crate::redaction::Redaction;

/// The maximum length of a shown line, in UTF-16 units.
const MAX_LINE_UNITS: usize = 400;
/// The number of bytes that a long line shows before the match.
const BEFORE_MATCH: usize = 100;
/// The maximum length of all lines, in UTF-16 units.
const MAX_UNITS: usize = 30_000;
/// The number of bytes around a line in which values are searched, if a file has one. No variable
/// is longer in any of its forms.
const MARGIN: usize = 1 << 20;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A search with its result so far.
#[derive(Debug)]
pub(super) struct Search<'s> {
    expression: &'s Expression,
    /// The searchers of `expression`, for files without and with CRLF.
    searchers: [Searcher; 2],
    /// The number of lines that may still match.
    left: usize,
    /// The length that the lines may still have, in UTF-16 units.
    units: usize,
    redaction: Redaction<'s>,
    /// The number of files that were too large.
    large: usize,
    /// The number of binary files.
    binary: usize,
    /// The number of binary files with lines that match in front of the binary content.
    partly_binary: usize,
    found: FoundLines,
}

impl<'s> Search<'s> {
    pub(super) fn new(
        expression: &'s Expression,
        context: usize,
        limit: usize,
        redaction: Redaction<'s>,
    ) -> Self {
        let Expression { plain, crlf } = expression;
        let searchers = [(plain, LineTerminator::byte(b'\n')), (crlf, LineTerminator::crlf())];
        let searchers = searchers.map(|(regex, end)| {
            let mut searcher = SearcherBuilder::new();
            searcher
                .binary_detection(BinaryDetection::quit(0))
                // The places of lines are those in the text, so its bytes are searched as they are.
                .bom_sniffing(false)
                .line_terminator(regex.line_terminator().unwrap_or(end))
                .multi_line(regex.line_terminator().is_none())
                .before_context(context)
                .after_context(context);
            searcher.build()
        });
        Self {
            expression,
            searchers,
            left: limit,
            units: MAX_UNITS,
            redaction,
            large: 0,
            binary: 0,
            partly_binary: 0,
            found: FoundLines::default(),
        }
    }

    /// Returns whether no more line is found.
    pub(super) fn is_full(&self) -> bool {
        self.found.truncated
    }

    /// Counts a file that is too large.
    pub(super) fn pass_large(&mut self) {
        self.large += 1;
    }

    /// Searches the content of a file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        let content = &*decoded(content);
        // The mark in front of a text is not part of its first line.
        let start = if content.starts_with(MARK) { MARK.len() } else { 0 };
        let Expression { plain, crlf } = self.expression;
        let [of_plain, of_crlf] = &mut self.searchers;
        let (regex, searcher) = if has_crlf(content) { (crlf, of_crlf) } else { (plain, of_plain) };
        let lines = Vec::new();
        let mut lines =
            Lines { regex, start, left: self.left, lines, more: false, is_binary: false };
        // Reading memory cannot fail, and the sink does not.
        let _ = searcher.search_slice(regex, &content[start..], &mut lines);
        let Lines { left, lines, more, is_binary, .. } = lines;
        if is_binary {
            let counter = if lines.is_empty() { &mut self.binary } else { &mut self.partly_binary };
            *counter += 1;
        }
        // A file of which no line fits any more has `more` alone.
        self.found.truncated |= more;
        if lines.is_empty() {
            return;
        }
        self.found.files += 1;
        self.left = left;
        let has_values =
            self.redaction.redactor().is_some_and(|redactor| !redactor.find(content).is_empty());
        let mut path = path.to_owned();
        self.redaction.apply(&mut path);
        for line in lines {
            let mut text = self.text(content, &line.shown, has_values);
            if line.is_cut {
                text.insert(0, '…');
            }
            let units = path.encode_utf16().count() + text.encode_utf16().count();
            let Some(units) = self.units.checked_sub(units) else {
                self.found.truncated = true;
                return;
            };
            self.units = units;
            let (path, number, context) = (path.clone(), line.number, line.is_context);
            self.found.lines.push(FoundLine { path, line: number, text, context });
        }
    }

    /// Returns the result. `named` is the path of the file, if the input names one.
    pub(super) fn finish(mut self, named: Option<&str>) -> FoundLines {
        let files = |count, of: &str| format!("{} {of}", counted(count, "file"));
        let name = |mut path: String| {
            self.redaction.apply(&mut path);
            Printable(&path).to_string()
        };
        let named = named.map(str::to_owned).map(name);
        let notes = &mut self.found.notes;
        if self.large > 0 {
            notes.push(format!("not searched: {}", files(self.large, "above 32 MiB")));
        }
        match &named {
            Some(path) if self.binary > 0 => {
                notes.push(format!("{path} is binary and was not searched"));
            }
            None if self.binary > 0 => {
                let binary = counted(self.binary, "binary file");
                notes.push(format!("not searched: {binary}"));
            }
            _ => {}
        }
        if self.partly_binary > 0 {
            let files = named.unwrap_or_else(|| files(self.partly_binary, "with matches"));
            notes.push(format!("not searched to the end: {files}, because of binary content"));
        }
        self.found.redacted = self.redaction.into_names();
        self.found
    }

    fn text(&mut self, content: &[u8], range: &Range<usize>, has_values: bool) -> String {
        let start = if has_values { range.start.saturating_sub(MARGIN) } else { range.start };
        let end = if has_values { range.end.saturating_add(MARGIN) } else { range.end };
        let around = &content[start..end.min(content.len())];
        let inner = range.start - start..range.end - start;
        let (mut text, shown) = self.redaction.excerpt(around, inner.clone(), MAX_LINE_UNITS);
        if shown < inner.end {
            text.push('…');
        }
        text
    }
}

#[derive(Debug)]
struct Line {
    number: u64,
    /// The bytes of the line that are shown.
    shown: Range<usize>,
    /// True if the bytes do not begin the line.
    is_cut: bool,
    is_context: bool,
}

/// The lines of one file.
struct Lines<'r> {
    regex: &'r RegexMatcher,
    /// The place in the file where the search began.
    start: usize,
    left: usize,
    lines: Vec<Line>,
    /// Set if the search ended because there are enough lines.
    more: bool,
    /// Set if the search ended at a NUL byte.
    is_binary: bool,
}

impl Lines<'_> {
    fn push(&mut self, number: Option<u64>, offset: u64, bytes: &[u8], from: usize) {
        let offset = usize::try_from(offset).map_or(usize::MAX, |offset| self.start + offset);
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let start = start_of_character(text, from);
        let shown = offset + start..offset + text.len();
        let (number, is_cut) = (number.unwrap_or(0), start > 0);
        self.lines.push(Line { number, shown, is_cut, is_context: false });
    }
}

fn has_crlf(content: &[u8]) -> bool {
    content.contains(&b'\r') && content.windows(2).any(|pair| pair == b"\r\n")
}

/// Returns the text of a file in UTF-16 that begins with a byte order mark, and the content of any
/// other file as it is.
fn decoded(content: &[u8]) -> Cow<'_, [u8]> {
    let of_pair = match content {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return Cow::Borrowed(content),
    };
    let units = content[2..].chunks(2).map(|pair| pair.try_into().map_or(0xfffd, of_pair));
    let characters = char::decode_utf16(units);
    let text: String = characters.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Cow::Owned(text.into_bytes())
}

/// Returns the first byte of the character at `at`, in a text that should be UTF-8.
fn start_of_character(text: &[u8], at: usize) -> usize {
    let is_inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|at| !is_inside(at)).unwrap_or(at)
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _searcher: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        let mut at = self.regex.find(found.bytes()).ok().flatten().map_or(0, |found| found.start());
        let (mut number, mut offset) = (found.line_number(), found.absolute_byte_offset());
        // An expression with a line break matches several lines.
        for line in found.lines() {
            if self.left == 0 {
                self.more = true;
                return Ok(false);
            }
            self.left -= 1;
            let from =
                if line.len() > MAX_LINE_UNITS { at.saturating_sub(BEFORE_MATCH) } else { 0 };
            self.push(number, offset, line, from);
            at = at.saturating_sub(line.len());
            number = number.map(|number| number + 1);
            offset += line.len() as u64;
        }
        Ok(true)
    }

    fn finish(&mut self, _searcher: &Searcher, finish: &SinkFinish) -> io::Result<()> {
        self.is_binary = finish.binary_byte_offset().is_some();
        Ok(())
    }

    fn context(&mut self, _searcher: &Searcher, line: &SinkContext<'_>) -> io::Result<bool> {
        if self.left == 0 && *line.kind() != SinkContextKind::After {
            self.more = true;
            return Ok(false);
        }
        self.push(line.line_number(), line.absolute_byte_offset(), line.bytes(), 0);
        if let Some(line) = self.lines.last_mut() {
            line.is_context = true;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use secrets::{Redactor, SecretString};

    use super::*;
    use crate::tools::grep::GrepOptions;

    fn compile(pattern: &str) -> Expression {
        Expression::compile(&GrepOptions::new(pattern)).unwrap()
    }

    #[track_caller]
    fn check_pattern(pattern: &str, content: &[u8], expected: &str) {
        let expression = compile(pattern);
        let mut search = Search::new(&expression, 0, 9, Redaction::new(None));
        search.file("f", content);
        assert_eq!(search.finish(None).text(), expected, "{pattern}");
    }

    #[track_caller]
    fn check(content: &[u8], context: usize, limit: usize, expected: &str) -> FoundLines {
        let value = SecretString::from("hunter2\nhunter3");
        let redactor = Redactor::of([("TOKEN", &value)]);
        let regex = compile("fn|hunter2");
        let mut search = Search::new(&regex, context, limit, Redaction::new(Some(&redactor)));
        search.file("f", content);
        let found = search.finish(None);
        assert_eq!(found.text(), expected);
        found
    }

    #[test]
    fn lines_are_shown_like_those_of_ripgrep() {
        check(b"fn a\nx\r\nfn b\r\n", 0, 9, "f:1:fn a\nf:3:fn b\n");
        let around = "f:1:fn a\nf-2-x\n--\nf-4-y\nf:5:fn b\n";
        check(b"fn a\nx\nz\ny\nfn b", 1, 9, around);
        let more = "there may be more: name a file or a directory, or raise the limit\n";
        assert!(check(b"fn a\nfn b", 0, 1, &format!("f:1:fn a\n{more}")).truncated);
        assert!(!check(b"fn a\nfn b", 0, 2, "f:1:fn a\nf:2:fn b\n").truncated);
        let binary = "no line matches\nnote: not searched: 1 binary file\n";
        check(b"fn\0a\n", 0, 9, binary);
    }

    #[test]
    fn a_limit_that_ends_with_a_file_tells_of_the_next_one() {
        let regex = compile("fn");
        let mut search = Search::new(&regex, 0, 1, Redaction::new(None));
        search.file("a", b"fn");
        search.file("b", b"x");
        assert!(!search.is_full());
        search.file("c", b"fn");
        assert!(search.is_full());
        let found = search.finish(None);
        assert_eq!((found.lines.len(), found.files), (1, 1));
    }

    #[test]
    fn a_byte_order_mark_moves_no_line() {
        check(b"\xef\xbb\xbffn a\nx\nfn b\n", 0, 9, "f:1:fn a\nf:3:fn b\n");
        let wide = |to_bytes: fn(u16) -> [u8; 2], text: &str| -> Vec<u8> {
            text.encode_utf16().flat_map(to_bytes).collect()
        };
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let text = wide(to_bytes, "\u{feff}x\r\n\u{6f22}fn\r\nfn hunter2\nhunter3");
            check(&text, 0, 9, "f:2:\u{6f22}fn\nf:3:fn [redacted:TOKEN]\n");
        }
        let binary = "no line matches\nnote: not searched: 1 binary file\n";
        check(&wide(u16::to_le_bytes, "\u{feff}fn\0"), 0, 9, binary);
    }

    #[test]
    fn an_expression_with_a_line_break_matches_over_lines() {
        let find = |pattern: &str, limit: usize| {
            let regex = compile(pattern);
            let mut search = Search::new(&regex, 0, limit, Redaction::new(None));
            search.file("f", b"a\nfn b\n  c\n\nfn d\n\ne\n");
            search.finish(None).text()
        };
        assert_eq!(find(r"fn b\n\s+c$", 9), "f:2:fn b\nf:3:  c\n");
        assert_eq!(find("^fn .\n\n", 9), "f:5:fn d\nf:6:\n");
        assert_eq!(find(r"^fn [^\n]*$", 9), "f:2:fn b\nf:5:fn d\n");
        assert_eq!(find(r"b\r?\n", 1), "f:2:fn b\n");
        assert_eq!(find(r"b[\r\n]+\s+c", 9), "f:2:fn b\nf:3:  c\n");
        assert_eq!(find(r"c[\n]{2}", 9), "f:3:  c\nf:4:\n");
        assert!(find(r"fn b\n  c", 1).starts_with("f:2:fn b\nthere may be more"));
    }

    #[test]
    fn a_value_over_two_lines_is_replaced_in_each() {
        let found = check(b"a hunter2\nhunter3 fn\n", 0, 9, {
            "f:1:a [redacted:TOKEN]\nf:2:[redacted:TOKEN] fn\n"
        });
        assert_eq!(found.redacted, ["TOKEN"]);
    }

    #[test]
    fn a_long_line_shows_the_part_with_the_match() {
        let line = format!("{}fn{}", "é".repeat(1_000), "x".repeat(1_000));
        let shown = format!("f:1:…{}fn{}…\n", "é".repeat(50), "x".repeat(348));
        check(line.as_bytes(), 0, 9, &shown);
    }

    #[test]
    fn a_named_binary_file_and_one_with_matches_in_front_are_named_in_a_note() {
        let expression = compile("fn");
        let note = |content: &[u8]| {
            let mut search = Search::new(&expression, 0, 9, Redaction::new(None));
            search.file("d/\u{1b}", content);
            search.finish(Some("d/\u{1b}")).notes
        };
        assert_eq!(note(b"fn\0"), ["d/\\u{1b} is binary and was not searched"]);
        assert!(note(b"x").is_empty());
        let late = [b"fn\n".as_slice(), &[b'x'; 1 << 20], b"\nfn\0"].concat();
        let expected = "not searched to the end: d/\\u{1b}, because of binary content";
        assert_eq!(note(&late), [expected]);
    }

    #[test]
    fn the_end_of_a_line_is_before_a_carriage_return_in_files_with_crlf() {
        let crlf = b"beta\r\nbeta b\r\n\r\nc\rd\r\n";
        check_pattern("beta$", crlf, "f:1:beta\n");
        check_pattern("^$", crlf, "f:3:\n");
        check_pattern(r"^beta\r$", crlf, "f:1:beta\n");
        check_pattern(r"^beta\r\nbeta", crlf, "f:1:beta\nf:2:beta b\n");
        check_pattern(r" b$(\r\n)+^c", crlf, "f:2:beta b\nf:3:\nf:4:c\\rd\n");
        check_pattern("^d|c$|c.d", b"c\rd\n", "f:1:c\\rd\n");
        check_pattern("^d|c$", b"c\rd\n", "no line matches\n");
    }
}
