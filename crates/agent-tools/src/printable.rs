//! Texts of other people, such as file names, for terminals and models.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Escapes the characters of a path, a file name or a message that could act on a terminal or hide
/// what a text says: control characters, line separators, and marks that reorder text.
///
/// All other characters stay as they are, so ordinary names are shown unchanged.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_dangerous)
}

/// Like [`printable`], but keeps line feeds and tabs, for texts of several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| !matches!(character, '\n' | '\t') && is_dangerous(character))
}

/// Renders a text as a string of JSON in which all of those characters are escaped. Unlike with
/// [`printable`], a reader of JSON gets the text back.
pub(crate) fn json_string(text: &str) -> String {
    let mut shown = String::new();
    for character in serde_json::Value::from(text).to_string().chars() {
        if is_dangerous(character) {
            // All of them have four digits at most.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Names a number of things, such as `1 file` and `2 files`.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Escapes a value with [`printable`] while it is formatted.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'w, 'f>(&'w mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&printable(text))
    }
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Marks and overrides of the bidirectional algorithm (Unicode Standard Annex 9).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                // Line and paragraph separators.
                | '\u{2028}' | '\u{2029}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(printable(text), expected);
        assert_eq!(Printable(text).to_string(), expected);
    }

    #[test]
    fn a_string_of_json_is_printable_and_is_the_text_again() {
        for (text, shown) in [
            ("  sp", "\"  sp\""),
            ("\u{1b}[31m \"é🎉\"", r#""\u001b[31m \"é🎉\"""#),
            ("\u{7f}\u{202e}", r#""\u007f\u202e""#),
        ] {
            assert_eq!(json_string(text), shown);
            assert_eq!(serde_json::from_str::<String>(shown).unwrap(), text);
            assert!(matches!(printable(shown), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["a b.txt", "é🎉", "d/報告.md", "it's \"quoted\" \\ 100%"] {
            check(name, name);
            assert!(matches!(printable(name), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn characters_that_act_on_a_terminal_are_escaped() {
        check("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}");
        check("a\nb\tc\rd", "a\\nb\\tc\\rd");
        check("\u{7f}\u{9b}31m", "\\u{7f}\\u{9b}31m");
        check("invoice\u{202e}fdp.exe", "invoice\\u{202e}fdp.exe");
        check("\u{2066}\u{2028}", "\\u{2066}\\u{2028}");
    }

    #[test]
    fn texts_keep_their_lines() {
        assert_eq!(printable_lines("a\n\tb\u{1b}[2J"), "a\n\tb\\u{1b}[2J");
    }
}
