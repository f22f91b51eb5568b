//! Texts of a caller in errors: shortened if they are long, and without the values of variables.

use sandbox_core::PathError;

use crate::error_kind::ErrorKind;
use crate::redaction::{whole_end, whole_start};
use crate::session::Session;
use crate::tool_error::ToolError;

/// The number of characters of a text that an error repeats.
const SHOWN_CHARACTERS: usize = 300;
/// The text before the names that the schema of a tool has, in messages of serde.
const EXPECTED: &str = ", expected ";

impl Session {
    /// Returns a text that the caller sent, as an error may repeat it. Returns `None` if another
    /// process serves the session, because that one knows the values to redact.
    pub(crate) fn echo(&self, text: &str) -> Option<String> {
        let redacted = match self.settings.redact {
            true => self.redact(text)?,
            false => text.to_owned(),
        };
        Some(shorten(&redacted))
    }

    /// Returns an error about the input of a call, whose text may repeat the caller's.
    pub(crate) fn echo_error(&self, error: ToolError) -> ToolError {
        match error {
            ToolError::UnknownTool { name, known } => {
                ToolError::UnknownTool { name: self.echo(&name).unwrap_or_default(), known }
            }
            ToolError::Input { tool, source } => {
                let text = source.to_string();
                match self.echo(&text) {
                    Some(shown) if shown == text => ToolError::Input { tool, source },
                    shown => ToolError::Redacted {
                        message: mismatch(tool, &shown.unwrap_or_else(|| without_input(&text))),
                        kind: ErrorKind::InvalidInput,
                        is_retryable: false,
                    },
                }
            }
            other if self.settings.redact => self.without_values(other),
            other => other,
        }
    }

    /// Returns an error of a tool without the values of variables in its text.
    fn without_values(&self, error: ToolError) -> ToolError {
        let text = error.message();
        let message = match (&error, self.redact(&text)) {
            // The text has the beginning of the path, which may end within a value.
            (ToolError::Path { source: PathError::Nul { .. } }, _) => {
                "the path contains a NUL character".to_owned()
            }
            (ToolError::Path { source: PathError::TooLong { what, limit, .. } }, _) => {
                format!("the path is too long: {limit} bytes at most for {what}")
            }
            (ToolError::Path { .. }, Some(redacted)) if text.len() > SHOWN_CHARACTERS => {
                shorten(&redacted)
            }
            (_, Some(redacted)) if redacted == text => return error,
            (_, Some(redacted)) => redacted,
            // The other process has redacted its own errors, and this one is about an argument.
            (ToolError::Path { source: PathError::Escapes { .. } }, None) => {
                "the path leads out of the session directory; give a path inside it, such as \
                 `notes.txt` or `skills/<name>/SKILL.md`"
                    .to_owned()
            }
            (ToolError::Path { .. }, None) => "the path is not a plain relative path".to_owned(),
            (_, None) => return error,
        };
        ToolError::Redacted { message, kind: error.kind(), is_retryable: error.is_retryable() }
    }
}

fn mismatch(tool: &str, problem: &str) -> String {
    format!("the input of {tool} does not match its schema: {problem}")
}

/// Returns a message of serde without the part that repeats the input.
fn without_input(message: &str) -> String {
    let is_about_schema = |start| message.starts_with(start);
    if ["missing field `", "duplicate field `"].into_iter().any(is_about_schema) {
        return shorten(message);
    }
    match message.rsplit_once(EXPECTED) {
        Some((_, expected)) if message.starts_with("unknown field `") => {
            shorten(&format!("unknown field{EXPECTED}{expected}"))
        }
        Some((_, expected)) => shorten(&format!("a value has another type{EXPECTED}{expected}")),
        None => "a value has another type".to_owned(),
    }
}

/// Keeps the beginning and the end of a long text.
fn shorten(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    let kept = SHOWN_CHARACTERS / 2;
    let place = |character| text.char_indices().nth(character).map_or(text.len(), |(at, _)| at);
    let start = whole_end(text.as_bytes(), place(kept));
    let end = whole_start(text.as_bytes(), place(count - kept));
    format!("{}…{}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_ends() {
        assert_eq!(shorten("short"), "short");
        let shortened = shorten(&format!("unknown field `{}`, expected `path`", "é".repeat(9999)));
        assert_eq!(shortened.chars().count(), SHOWN_CHARACTERS + 1);
        assert!(shortened.starts_with("unknown field `é") && shortened.ends_with("`path`"));
    }

    #[test]
    fn a_message_without_the_input_says_what_is_expected() {
        assert_eq!(
            without_input("unknown field `s3cret`, expected `path` or `content`"),
            "unknown field, expected `path` or `content`"
        );
        assert_eq!(
            without_input("invalid type: string \"s3cret\", expected u64"),
            "a value has another type, expected u64"
        );
        assert_eq!(without_input("missing field `path`"), "missing field `path`");
        assert_eq!(without_input("s3cret"), "a value has another type");
    }
}
