//! The regular expression of a search, for both kinds of line ends.

use grep_regex::{ErrorKind, RegexMatcher, RegexMatcherBuilder};

use super::{GrepOptions, failed};
use crate::tool_error::ToolError;

/// The maximum memory of a compiled expression, in bytes.
const MAX_REGEX_BYTES: usize = 4 << 20;

/// A regular expression that is compiled twice. In files with CRLF, `$` matches before the carriage
/// return too. In others, a carriage return is a character like any other.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) plain: RegexMatcher,
    pub(super) crlf: RegexMatcher,
}

impl Expression {
    pub(super) fn compile(options: &GrepOptions) -> Result<Self, ToolError> {
        let mut builder = RegexMatcherBuilder::new();
        builder
            .case_insensitive(options.ignore_case)
            .line_terminator(Some(b'\n'))
            .multi_line(true)
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES);
        let names_line_end = |built: &Result<_, grep_regex::Error>| {
            built.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::NotAllowed(_)))
        };
        let invalid = |error: grep_regex::Error| {
            let text = error.to_string();
            let problem = text.lines().last().and_then(|line| line.strip_prefix("error: "));
            failed(format!("the regular expression is not valid: {}", problem.unwrap_or(&text)))
        };
        let mut plain = builder.build(&options.pattern);
        // The builder removes line feeds from classes, and refuses others.
        let is_multi_line = names_line_end(&plain) || has_class_with_line_feed(&options.pattern);
        if is_multi_line {
            plain = builder.line_terminator(None).build(&options.pattern);
        }
        let plain = plain.map_err(invalid)?;
        builder.crlf(true);
        if is_multi_line {
            builder.line_terminator(None);
        }
        let crlf = match builder.build(&options.pattern) {
            // It names the carriage return, such as `\r$`.
            built if names_line_end(&built) => plain.clone(),
            built => built.map_err(invalid)?,
        };
        Ok(Self { plain, crlf })
    }
}

/// Returns whether a class of the pattern, such as `[\r\n]`, names the line feed. A class that
/// excludes it, such as `[^\n]`, does not.
fn has_class_with_line_feed(pattern: &str) -> bool {
    // A class may have classes, each of which may be one of excluded characters.
    let mut excluding: Vec<bool> = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let is_line_feed = match character {
            '\\' => characters.next() == Some('n'),
            '[' => {
                excluding.push(characters.next_if_eq(&'^').is_some());
                // In the first place, it is a character of the class.
                let _ = characters.next_if_eq(&']');
                false
            }
            ']' => {
                excluding.pop();
                false
            }
            character => character == '\n',
        };
        if is_line_feed && !excluding.is_empty() && !excluding.contains(&true) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_names_the_line_feed_unless_it_excludes_it() {
        for pattern in [r"[\r\n]+", r"a[^b]*[\s\n]", "[\n]", r"[]\n]", r"[a[\n]]", r"\[[\n]"] {
            assert!(has_class_with_line_feed(pattern), "{pattern}");
        }
        for pattern in [r"[^\n]*", r"[\r\\n]", r"\n", r"\[\n\]", r"[a]\n", "[^]\n]", r"[a[^\n]]"] {
            assert!(!has_class_with_line_feed(pattern), "{pattern}");
        }
    }
}
