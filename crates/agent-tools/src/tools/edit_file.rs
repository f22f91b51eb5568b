//! The tool `editFile`: replaces a text in a file of the session.

use std::borrow::Cow;

use sandbox_core::FileError;
use sandbox_core::internal::read_open;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::ToolContent;
use super::definition::{Definition, Effects, Surroundings, object_schema, parse, result};
use super::write_file::{self, WriteFileOutput};
use crate::session::{LocalSession, Session, blocking};
use crate::sharing::EditFile;
use crate::tool_error::ToolError;

/// The name of the tool that edits a file.
pub const NAME: &str = "editFile";

/// The size of the largest file that is edited.
const MAX_BYTES: u64 = 32 << 20;
/// The number of lines that an error names.
const LINES_NAMED: usize = 5;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    title: "Edit a file",
    effects: Effects::Any,
    uses_network: false,
    describe,
    input_schema,
    output_schema: output,
    call: |session, input, _| {
        Box::pin(async move {
            let EditFileInput { path, old_string, new_string, replace_all } = parse(NAME, input)?;
            let occurrences = if replace_all { Occurrences::All } else { Occurrences::One };
            let edit = Edit { old: old_string, new: new_string, occurrences };
            let output = session.edit_file(&path, &edit).await?;
            result(&output, ToolContent::text(output.text()))
        })
    },
};

fn describe(surroundings: &Surroundings<'_>) -> String {
    format!(
        "Replace a text in a file of the session. oldString must be exactly the text of the file, \
         with its indentation, and occur once, unless replaceAll is set. A text that a result \
         shows as [redacted:NAME] cannot be replaced. {}",
        super::path_rules(surroundings)
    )
}

fn input_schema() -> Value {
    object_schema(
        &json!({
            "path": { "type": "string", "description": "The path to the file to edit" },
            "oldString": { "type": "string", "description": "The text to replace" },
            "newString": { "type": "string", "description": "The text to put in its place" },
            "replaceAll": {
                "type": "boolean",
                "description": "Replace every occurrence, instead of the only one",
            },
        }),
        &["path", "oldString", "newString"],
    )
}

fn output() -> Value {
    let mut schema = (write_file::DEFINITION.output_schema)();
    let number = json!({ "type": "integer", "minimum": 1 });
    schema["properties"]["line"] = number.clone();
    schema["properties"]["replacements"] = number;
    schema["required"] = json!(["success", "path", "line", "replacements"]);
    schema
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EditFileInput {
    path: String,
    old_string: String,
    new_string: String,
    #[serde(default)]
    replace_all: bool,
}

/// A replacement in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The text to replace; not empty.
    pub old: String,
    /// The text to put in its place.
    pub new: String,
    /// The occurrences to replace.
    pub occurrences: Occurrences,
}

/// The occurrences that an [`Edit`] replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Occurrences {
    /// The only one; several are an error.
    One,
    /// Every one.
    All,
}

/// The result of the tool `editFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EditFileOutput {
    /// The file that was written.
    #[serde(flatten)]
    pub written: WriteFileOutput,
    /// The line where the first replacement begins, counted from 1.
    pub line: usize,
    /// The number of replacements.
    pub replacements: usize,
}

impl EditFileOutput {
    /// Renders the result as plain text for a model.
    pub fn text(&self) -> String {
        let Self { written, line, replacements } = self;
        let places = match replacements {
            1 => format!("line {line}"),
            count => format!("{count} places, the first in line {line}"),
        };
        format!("edited {places}\n{}", written.text())
    }
}

impl Session {
    /// Replaces a text in a file of the session, and mirrors the file like [`Session::write_file`].
    /// Of two edits at the same time, the second one sees the result of the first.
    ///
    /// # Errors
    /// Returns [`ToolError::Failed`] if the text does not occur, occurs several times, or has a
    /// placeholder of a variable, if the file is not UTF-8 or above 32 MiB, and otherwise the
    /// errors of [`Session::read_file`] and [`Session::write_file`].
    ///
    /// # Cancel safety
    /// Like [`Session::write_file`].
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn edit_file(&self, path: &str, edit: &Edit) -> Result<EditFileOutput, ToolError> {
        self.check_path(path)?;
        let redact = self.settings.redact;
        self.run(EditFile { path: path.into(), edit: Cow::Borrowed(edit), redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn edit_file(&self, call: EditFile<'_>) -> Result<EditFileOutput, ToolError> {
        let EditFile { path, edit, redact } = call;
        let _turn = self.edits.lock().await;
        let content = self.editable_text(&path).await?;
        let Edited { content, line, replacements } = replace(&content, &edit, redact)
            .map_err(|problem| failed(format!("{path}: {problem}")))?;
        let written = self.write_file(&path, content.as_bytes()).await?;
        Ok(EditFileOutput { written, line, replacements })
    }

    /// Reads the text of a file, unredacted.
    async fn editable_text(&self, path: &str) -> Result<String, ToolError> {
        let turn = self.begin().await?;
        let (place, file) = self.open_readable(NAME, path)?;
        let error = |source| place.error(self, source);
        let relative = place.relative.clone();
        let read = blocking(move || read_open(&file, relative.as_ref(), MAX_BYTES));
        let content = read.await?.map_err(|source| match source {
            FileError::TooLarge { size, .. } => failed(format!(
                "{path} has {size} bytes, and files of at most 32 MiB are edited; use bash with \
                 sed or another program"
            )),
            source => error(source),
        })?;
        drop(turn);
        String::from_utf8(content).map_err(|_| failed(format!("{path}: it is not text in UTF-8")))
    }
}

fn failed(problem: String) -> ToolError {
    ToolError::Failed { tool: NAME, problem }
}

/// Returns the first placeholder in a text, such as `[redacted:TOKEN]`.
fn placeholder(text: &str) -> Option<&str> {
    placeholders(text).next()
}

/// Returns all placeholders in a text.
pub(super) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    const START: &str = "[redacted:";
    text.match_indices(START).filter_map(|(at, _)| {
        let rest = &text[at + START.len()..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let is_whole = length > 0 && rest[length..].starts_with(']');
        is_whole.then(|| &text[at..=at + START.len() + length])
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Edited {
    content: String,
    line: usize,
    replacements: usize,
}

/// Replaces the text, or describes why that is not possible. With `redact`, the agent may take a
/// placeholder for the text of the file, which has the value of a variable there and would lose it.
fn replace(content: &str, edit: &Edit, redact: bool) -> Result<Edited, String> {
    let Edit { old, new, occurrences } = edit;
    if old.is_empty() {
        return Err("oldString is empty; write the whole file instead".to_owned());
    }
    if old == new {
        return Err("oldString and newString are the same".to_owned());
    }
    let new_placeholder = placeholder(new).filter(|found| redact && !old.contains(found));
    if let Some(found) = new_placeholder {
        return Err(format!(
            "newString has {found}, which only stands for the value of a variable in results; \
             commands use $NAME"
        ));
    }
    let line_of = |at: usize| content[..at].matches('\n').count() + 1;
    let found: Vec<usize> = content.match_indices(old.as_str()).map(|(at, _)| at).collect();
    let Some(first) = found.first() else {
        return Err(match placeholder(old).filter(|_| redact) {
            Some(found) => format!(
                "oldString has {found}, which stands for the value of a variable: the file has \
                 another text there; edit the text around it"
            ),
            None => missing(content, old),
        });
    };
    let count = found.len() + overlapping(content, old, &found);
    if *occurrences == Occurrences::One && count > 1 {
        let (mut line, mut counted) = (1, 0);
        let next_line = |at: &usize| {
            line += content[counted..*at].matches('\n').count();
            counted = *at;
            line
        };
        let mut lines: Vec<usize> = found.iter().map(next_line).collect();
        lines.dedup();
        let more = if lines.len() > LINES_NAMED { ", …" } else { "" };
        let named: Vec<String> = lines.iter().take(LINES_NAMED).map(usize::to_string).collect();
        let word = if named.len() == 1 { "line" } else { "the lines" };
        return Err(format!(
            "oldString occurs {count} times, in {word} {}{more}; give more of the text around it, \
             or set replaceAll",
            named.join(", ")
        ));
    }
    let content_new = content.replace(old.as_str(), new);
    Ok(Edited { content: content_new, line: line_of(*first), replacements: found.len() })
}

/// Returns the number of occurrences that overlap another one, such as the second `aa` in `aaa`.
fn overlapping(content: &str, old: &str, found: &[usize]) -> usize {
    let step = old.chars().next().map_or(1, char::len_utf8);
    let overlaps = |at: &&usize| {
        let rest = &content[*at + step..];
        rest.get(..).is_some_and(|rest| rest.find(old).is_some_and(|next| next + step < old.len()))
    };
    // One is enough to make the place ambiguous.
    usize::from(found.len() == 1 && found.first().filter(overlaps).is_some())
}

/// Explains why the text does not occur.
fn missing(content: &str, old: &str) -> String {
    let with_crlf = || old.replace("\r\n", "\n").replace('\n', "\r\n");
    let reason = if content.contains("\r\n") && content.contains(&with_crlf()) {
        "the lines of the file end in \\r\\n, and those of oldString do not"
    } else if has_other_spaces(content, old) {
        "the file has that text with other spaces or line ends"
    } else {
        "read the file and copy the text exactly"
    };
    format!("oldString does not occur; {reason}")
}

fn has_other_spaces(content: &str, old: &str) -> bool {
    const SEARCHED_BYTES: usize = 1 << 20;
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let old = squeeze(old);
    !old.is_empty() && content.len() <= SEARCHED_BYTES && squeeze(content).contains(&old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: &str, new: &str, occurrences: Occurrences) -> Edit {
        Edit { old: old.to_owned(), new: new.to_owned(), occurrences }
    }

    #[track_caller]
    fn check(content: &str, old: &str, occurrences: Occurrences, expected: Result<&str, &str>) {
        match (replace(content, &edit(old, "N", occurrences), true), expected) {
            (Ok(edited), Ok(expected)) => assert_eq!(edited.content, expected),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn one_occurrence_is_replaced_and_several_need_a_choice() {
        use Occurrences::{All, One};
        check("a b c", "b", One, Ok("a N c"));
        check("b\nb\n", "b", One, Err("occurs 2 times, in the lines 1, 2;"));
        check("b\nb\n", "b", All, Ok("N\nN\n"));
        check("xaaay", "aa", One, Err("occurs 2 times, in line 1;"));
        check("aa\na\na", "a", One, Err("occurs 4 times, in the lines 1, 2, 3;"));
        check("ééé", "éé", One, Err("occurs 2 times"));
        check("a", "", One, Err("oldString is empty"));
        check("N", "N", One, Err("are the same"));
        check("a\r\nb", "a\nb", One, Err("end in \\r\\n"));
        check("a  b", "a b", One, Err("with other spaces"));
        check("a", "b", All, Err("copy the text exactly"));
        let edited = replace("1\n2\n3\n3\n", &edit("3", "x", All), true).unwrap();
        assert_eq!((edited.line, edited.replacements), (3, 2));
    }

    #[test]
    fn text_that_was_redacted_is_refused() {
        let refused = |old: &str, new: &str| {
            let content = "key=hunter2-hunter2 [redacted:DOC]";
            replace(content, &edit(old, new, Occurrences::One), true).err().unwrap_or_default()
        };
        assert!(refused("key=[redacted:TOKEN]", "x").contains("[redacted:TOKEN], which stands"));
        assert!(refused("key=", "[redacted:TOKEN]").contains("newString has [redacted:TOKEN]"));
        assert_eq!(refused(" [redacted:DOC]", ""), "", "the file has this very text");
        assert_eq!(
            placeholder("[redacted:] [redacted:a b] [redacted:A_1]"),
            Some("[redacted:A_1]")
        );
    }
}
