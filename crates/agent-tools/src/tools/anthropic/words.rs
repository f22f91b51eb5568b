//! Texts of the tools of a session in the names of this toolset.

use serde::de::Error as _;
use serde_json::Value;

use crate::sharing::SharingError;
use crate::tool_error::ToolError;
use crate::tools::call::{ToolContent, ToolResult};

/// Names in the texts of the session's tools, with the names of this toolset.
const NAMES: [(&str, &str); 10] = [
    ("editFile", "edit"),
    ("readFile", "read"),
    ("writeFile", "write"),
    ("listFiles", "glob"),
    ("oldString", "old_string"),
    ("newString", "new_string"),
    ("replaceAll", "replace_all"),
    ("timeoutMs", "timeout_ms"),
    ("startLine ", "line "),
    ("endLine ", "line "),
];
/// The end of an advice for which this toolset has no input.
const LIMIT: &str = ", or raise the limit";
/// Advice for which this toolset has no input.
const BYTES: (&str, &str) = ("give a range of bytes instead of lines", "leave out view_range");

/// The texts of an input that have one of the names. Messages repeat them as they are.
pub(super) struct Own(Vec<String>);

impl Own {
    pub(super) fn of(input: &Value) -> Self {
        let texts = input.as_object().into_iter().flat_map(|fields| fields.values());
        // A text without a name needs no protection, and could be a part of a name.
        let has_name = |text: &&str| words().any(|(from, _)| text.contains(from));
        Self(texts.filter_map(Value::as_str).filter(has_name).map(str::to_owned).collect())
    }

    /// Renames what a text mentions beside the texts of the input.
    fn renamed(&self, text: &str) -> String {
        let found = self.0.iter().filter_map(|own| Some((text.find(own.as_str())?, own)));
        // Of several texts at one place, the longest is the whole one.
        let first = found.min_by_key(|(at, own)| (*at, std::cmp::Reverse(own.len())));
        match first {
            Some((at, own)) => {
                let rest = &text[at + own.len()..];
                format!("{}{own}{}", renamed(&text[..at]), self.renamed(rest))
            }
            None => renamed(text),
        }
    }
}

/// Renames what the error of a call of `tool` mentions.
pub(super) fn of_error(tool: &'static str, error: ToolError, own: &Own) -> ToolError {
    match error {
        ToolError::Failed { problem, .. } => {
            ToolError::Failed { tool, problem: own.renamed(&problem) }
        }
        ToolError::Input { source, .. } => {
            let source = serde_json::Error::custom(own.renamed(&source.to_string()));
            ToolError::Input { tool, source }
        }
        ToolError::Sharing { source: SharingError::Served { kind, is_retryable, message } } => {
            let message = if is_own(&message) { own.renamed(&message) } else { message };
            SharingError::Served { kind, is_retryable, message }.into()
        }
        ToolError::Redacted { message, kind, is_retryable } => {
            let message = if is_own(&message) { own.renamed(&message) } else { message };
            ToolError::Redacted { message, kind, is_retryable }
        }
        other => other,
    }
}

/// Leaves out the advice to raise a limit, which `grep` does not have here.
pub(super) fn of_search(mut result: ToolResult) -> ToolResult {
    if let ToolContent::Text(text) = &mut result.content
        && let Some(at) = text.rfind(LIMIT)
    {
        text.replace_range(at..at + LIMIT.len(), "");
    }
    result
}

/// Names the input of `read` that continues with the rest of a file.
pub(super) fn of_part(result: ToolResult) -> ToolResult {
    let ToolResult { object, content } = result;
    let ToolContent::Text(mut text) = content else { return ToolResult { object, content } };
    let next = |key: &str| object.get(key).and_then(Value::as_u64);
    let lines = next("nextLine").map(|next| {
        (
            format!("continue with startLine {next}]"),
            format!("continue with view_range [{next}, -1]]"),
        )
    });
    let bytes = next("nextByte").map(|next| {
        let rest = format!("continue in bash: tail -c +{} FILE | head -c 30000]", next + 1);
        (format!("continue with startByte {next}]"), rest)
    });
    for (from, to) in lines.into_iter().chain(bytes) {
        if let Some(at) = text.rfind(&from) {
            text.replace_range(at..at + from.len(), &to);
        }
    }
    ToolResult { object, content: ToolContent::Text(text) }
}

/// Returns whether a text begins with the name of one of the session's tools.
fn is_own(message: &str) -> bool {
    NAMES.iter().any(|(name, _)| message.strip_prefix(name).is_some_and(|s| s.starts_with(": ")))
        || message.starts_with("bash: ")
}

fn renamed(text: &str) -> String {
    words().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn words() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    NAMES.iter().chain([&BYTES])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_texts_of_an_input_keep_their_names() {
        let own = Own::of(&json!({ "file_path": "readFile.ts", "old_string": "timeoutMs" }));
        let text = "readFile.ts: oldString does not occur; use readFile on readFile.ts (timeoutMs)";
        assert_eq!(
            own.renamed(text),
            "readFile.ts: old_string does not occur; use read on readFile.ts (timeoutMs)"
        );
    }

    #[test]
    fn an_input_that_is_part_of_a_name_keeps_no_name() {
        let text = "oldString occurs 2 times; add text around it, or set replaceAll";
        for old in ["e", "All", "i", "in", "S", "ol", ""] {
            let own = Own::of(&json!({ "old_string": old }));
            let expected = "old_string occurs 2 times; add text around it, or set replace_all";
            assert_eq!(own.renamed(text), expected, "{old}");
        }
    }
}
