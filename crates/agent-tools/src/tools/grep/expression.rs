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
        let is_multi_line = names_line_end(&plain);
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
