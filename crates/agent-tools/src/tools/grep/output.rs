//! The result of the tool `grep`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::output::is_false;
use crate::printable::{Printable, printable_lines};
use crate::tools::definition::output_schema;

/// The result of the tool `grep`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct FoundLines {
    /// The lines that match, with the lines around them, in the order of paths.
    pub lines: Vec<FoundLine>,
    /// The number of files with a line that matches.
    pub files: usize,
    /// True if there may be more lines that match.
    #[serde(skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// Names of the variables whose values `[redacted:NAME]` replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// The glob of the search, if no file matches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched_glob: Option<String>,
    /// The reasons for which lines may be missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A line that [`Session::search_files`](crate::Session::search_files) found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundLine {
    /// The path of the file, as the file tools take it.
    pub path: String,
    /// The number of the line, counted from 1.
    pub line: u64,
    /// The text of the line, or the part of a long line where the match begins, with `…` in the
    /// place of each part that is left out.
    pub text: String,
    /// True for a line near a match that does not match itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub context: bool,
}

impl FoundLines {
    /// Renders the result as plain text for a model, like ripgrep: `path:line:text`, and
    /// `path-line-text` for a line of the context.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut last: Option<&FoundLine> = None;
        let has_context = self.lines.iter().any(|line| line.context);
        for found in &self.lines {
            let follows = |last: &FoundLine| last.path == found.path && last.line + 1 == found.line;
            if has_context && !last.is_none_or(follows) {
                text.push_str("--\n");
            }
            let sign = if found.context { '-' } else { ':' };
            let (path, line) = (Printable(&found.path), found.line);
            let _ = writeln!(text, "{path}{sign}{line}{sign}{}", printable_lines(&found.text));
            last = Some(found);
        }
        if let Some(glob) = &self.unmatched_glob {
            let _ = writeln!(text, "no file matches the glob {}", Printable(glob));
        } else if self.lines.is_empty() {
            text.push_str("no line matches\n");
        }
        if self.truncated {
            text.push_str("there may be more: name a file or a directory, or raise the limit\n");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

pub(super) fn schema() -> Value {
    let (text, texts) = (json!({ "type": "string" }), json!({ "type": "array" }));
    let line = json!({
        "type": "object",
        "properties": {
            "path": text,
            "line": { "type": "integer", "minimum": 1 },
            "text": text,
            "context": { "type": "boolean", "description": "True if the line does not match" },
        },
        "required": ["path", "line", "text"],
    });
    output_schema(
        &json!({
            "lines": { "type": "array", "items": line },
            "files": { "type": "integer", "minimum": 0 },
            "truncated": { "type": "boolean" },
            "redacted": texts,
            "unmatchedGlob": {
                "type": "string",
                "description": "The glob, if no file matches it",
            },
            "notes": texts,
        }),
        &["lines", "files"],
    )
}
