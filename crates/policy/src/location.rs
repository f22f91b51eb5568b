//! Spans in the text of a JSON file.

use crate::setting_path::Segment;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Number of characters that belong to the place, at least 1. They are in one line.
    pub width: usize,
}

impl Location {
    /// Creates a location of one character.
    pub(crate) fn new(line: usize, column: usize) -> Self {
        Self { line: line.max(1), column: column.max(1), width: 1 }
    }

    fn of(text: &str, start: usize, end: usize) -> Self {
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let place = &text[start..end];
        let width = place.lines().next().unwrap_or_default().chars().count();
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            width: width.max(1),
        }
    }
}

/// Finds a setting, or the nearest one above it that the text has. The text is JSON. Of a repeated
/// last key, the one that is `before_last` before the last is found, or the first.
pub(crate) fn find(text: &str, segments: &[Segment], before_last: usize) -> Location {
    let mut cursor = Cursor { text, at: 0 };
    cursor.skip_space();
    let mut found = (cursor.at, (cursor.at + 1).min(text.len()));
    for (at, segment) in segments.iter().enumerate() {
        let before_last = if at + 1 == segments.len() { before_last } else { 0 };
        let next = match segment {
            Segment::Key(key) => cursor.entry(key, before_last),
            Segment::Index(index) => cursor.item(*index),
        };
        let Some((place, value)) = next else { break };
        found = place;
        cursor.at = value;
    }
    if !text.is_char_boundary(found.1) {
        found.1 = found.0;
    }
    Location::of(text, found.0, found.1)
}

/// Start and end of a place.
type Span = (usize, usize);

/// A position in a JSON text, which is valid.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// Returns the place of the key of an object, and the position of its value.
    fn entry(&mut self, wanted: &str, before_last: usize) -> Option<(Span, usize)> {
        let entries = self.entries(wanted)?;
        let last = entries.len().checked_sub(1)?;
        entries.get(last.saturating_sub(before_last)).copied()
    }

    /// Returns the places and the positions of all entries of an object with this key.
    fn entries(&mut self, wanted: &str) -> Option<Vec<(Span, usize)>> {
        self.open(b'{')?;
        let mut found = Vec::new();
        while self.peek() == b'"' {
            let start = self.at;
            self.skip_string();
            let key = (start, self.at);
            self.skip_space();
            if self.peek() != b':' {
                return Some(found);
            }
            self.at += 1;
            self.skip_space();
            let text = self.text.get(key.0..key.1)?;
            let raw = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
            let is_wanted = raw == wanted
                || (raw.contains('\\')
                    && serde_json::from_str::<String>(text).is_ok_and(|key| key == wanted));
            if is_wanted {
                found.push((key, self.at));
            }
            self.skip_value();
            self.next_entry();
        }
        Some(found)
    }

    /// Returns the place and the position of an entry of a list.
    fn item(&mut self, index: usize) -> Option<(Span, usize)> {
        self.open(b'[')?;
        for _ in 0..index {
            self.skip_value();
            self.next_entry();
        }
        if matches!(self.peek(), b']' | 0) {
            return None;
        }
        let start = self.at;
        self.skip_value();
        Some(((start, self.at), start))
    }

    fn open(&mut self, bracket: u8) -> Option<()> {
        if self.peek() != bracket {
            return None;
        }
        self.at += 1;
        self.skip_space();
        Some(())
    }

    fn next_entry(&mut self) {
        self.skip_space();
        if self.peek() == b',' {
            self.at += 1;
            self.skip_space();
        }
    }

    fn skip_string(&mut self) {
        let mut is_escaped = false;
        self.at += 1;
        while self.at < self.text.len() {
            let byte = self.peek();
            self.at += 1;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => return,
                _ => {}
            }
        }
    }

    /// Skips a value without recursion.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                0 => return,
                b'"' => self.skip_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                    self.at += 1;
                }
                b',' if depth == 0 => return,
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {
                    if depth == 0 {
                        return;
                    }
                    self.at += 1;
                    continue;
                }
                _ => self.skip_word(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips a number, `true`, `false` or `null`.
    fn skip_word(&mut self) {
        while !matches!(
            self.peek(),
            0 | b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n'
        ) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::SettingPath;

    #[track_caller]
    fn check(text: &str, path: &SettingPath, line: usize, column: usize, width: usize) {
        let found = path.find_in(text);
        assert_eq!((found.line, found.column, found.width), (line, column, width), "{path}");
    }

    #[test]
    fn a_setting_is_found_by_its_key_or_as_an_entry() {
        let text = "{\n  \"a\": [1, {\"x\": []}, \"é\\\"]\", tru],\n  \"ü\": 2, \"a\\u0062\": 3}";
        let root = SettingPath::root();
        check(text, &root, 1, 1, 1);
        check(text, &root.key("a"), 2, 3, 3);
        check(text, &root.key("a").index(1), 2, 12, 9);
        check(text, &root.key("a").index(1).key("x"), 2, 13, 3);
        check(text, &root.key("a").index(2), 2, 23, 6);
        check(text, &root.key("a").index(3), 2, 31, 3);
        check(text, &root.key("ü"), 3, 3, 3);
        check(text, &root.key("ab"), 3, 11, 9);
    }

    #[test]
    fn the_nearest_setting_above_stands_for_an_absent_one() {
        let text = r#"{"a": {"b": 1}}"#;
        let root = SettingPath::root();
        check(text, &root.key("a").key("c").index(4), 1, 2, 3);
        check(text, &root.key("a").key("b").index(4), 1, 8, 3);
        check(text, &root.key("c"), 1, 1, 1);
        check("", &root.key("c"), 1, 1, 1);
    }

    #[test]
    fn the_last_of_two_equal_keys_is_found() {
        check(r#"{"a": 1, "a": 2}"#, &SettingPath::root().key("a"), 1, 10, 3);
    }
}
