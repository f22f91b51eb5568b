//! The tool `readFile`: reads a file of the session, whole or a range of its lines.

use std::os::fd::AsFd;

use base64::Engine;
use policy::Access;
use sandbox_core::internal::{read_open, real_path};
use sandbox_core::{FileError, RelativePath};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::definition::{Definition, object_schema, parse, to_json};
use crate::redaction::Redaction;
use crate::session::{INLINE_BYTES, LocalSession, Session, blocking};
use crate::sharing::{FixedText, ReadFile, parse_encoding};
use crate::tool_error::ToolError;

/// The name of the tool that reads a file.
pub const NAME: &str = "readFile";

/// The size of the largest file that the tool returns.
const MAX_READ_BYTES: u64 = 32 << 20;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    is_read_only: true,
    uses_network: false,
    describe: |_| {
        "Read a file of the session. Content that is not text comes back as base64.".to_owned()
    },
    input_schema,
    call: |session, input| {
        Box::pin(async move {
            let ReadFileInput { path, start_line, end_line } = parse(NAME, input)?;
            let range = match (start_line, end_line) {
                (None, None) => None,
                (first, last) => Some(LineRange { first: first.unwrap_or(1), last }),
            };
            to_json(&session.read_file_lines(&path, range).await?)
        })
    },
};

fn input_schema() -> Value {
    object_schema(
        &json!({
            "path": { "type": "string", "description": "The path to the file to read" },
            "startLine": {
                "type": "integer",
                "minimum": 1,
                "description": "The first line to read, counted from 1",
            },
            "endLine": {
                "type": "integer",
                "minimum": 1,
                "description": "The last line to read",
            },
        }),
        &["path"],
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadFileInput {
    path: String,
    #[serde(default)]
    start_line: Option<usize>,
    #[serde(default)]
    end_line: Option<usize>,
}

/// A range of lines, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRange {
    /// The first line.
    pub first: usize,
    /// The last line; by default the last line of the file.
    pub last: Option<usize>,
}

/// The result of the tool `readFile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ReadFileOutput {
    /// The content: text, or base64 if `encoding` says so.
    pub content: String,
    /// `base64` for content that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "parse_encoding")]
    pub encoding: Option<FixedText>,
    /// The media type of binary content, guessed from the file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The number of lines of the whole file, if a range was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<usize>,
    /// Names of the variables whose values `[redacted:NAME]` replaces in the content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// The reason for which another machine may have changed the file: the store did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
}

impl ReadFileOutput {
    /// Returns text as it is or a range of its lines, and other content as base64.
    fn new(
        content: &[u8],
        path: &RelativePath,
        range: Option<LineRange>,
        mut redaction: Redaction<'_>,
    ) -> Self {
        let Ok(text) = std::str::from_utf8(content) else {
            let media_type = mime_guess::from_path(path.as_str()).first_or_octet_stream();
            let content = redaction.part(content, 0..content.len());
            return Self {
                content: base64::engine::general_purpose::STANDARD.encode(content),
                encoding: Some("base64"),
                media_type: Some(media_type.to_string()),
                redacted: redaction.into_names(),
                ..Self::default()
            };
        };
        let (bytes, total_lines) = match range {
            None => (0..text.len(), None),
            Some(range) => {
                let (bytes, lines) = range.bytes(text);
                (bytes, Some(lines))
            }
        };
        let content = redaction.part(content, bytes);
        Self {
            // A value begins and ends between characters.
            content: String::from_utf8_lossy(&content).into_owned(),
            total_lines,
            redacted: redaction.into_names(),
            ..Self::default()
        }
    }
}

impl LineRange {
    /// Returns the place of the lines in a text, and the number of all its lines.
    fn bytes(self, text: &str) -> (std::ops::Range<usize>, usize) {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let first = self.first.saturating_sub(1).min(lines.len());
        let last = self.last.unwrap_or(lines.len()).clamp(first, lines.len());
        let bytes = |lines: &[&str]| lines.iter().map(|line| line.len()).sum::<usize>();
        let start = bytes(&lines[..first]);
        (start..start + bytes(&lines[first..last]), lines.len())
    }
}

impl Session {
    /// Reads a whole file of the session.
    ///
    /// # Errors
    /// Like [`Session::read_file_lines`].
    pub async fn read_file(&self, path: &str) -> Result<ReadFileOutput, ToolError> {
        self.read_file_lines(path, None).await
    }

    /// Reads a file of the session, or a range of its lines, without starting a process.
    ///
    /// # Errors
    /// Returns [`ToolError::Path`] if the path leaves the session, [`ToolError::Denied`] if the
    /// policy denies reading, [`ToolError::File`] if the file does not exist or cannot be read, and
    /// [`ToolError::LeaseLost`] or [`ToolError::OwnedElsewhere`] if another machine has taken the
    /// session.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn read_file_lines(
        &self,
        path: &str,
        range: Option<LineRange>,
    ) -> Result<ReadFileOutput, ToolError> {
        self.check_path(path)?;
        let redact = self.settings.redact;
        self.run(ReadFile { path: path.into(), range, redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn read_file_lines(
        &self,
        path: &str,
        range: Option<LineRange>,
        redact: bool,
    ) -> Result<ReadFileOutput, ToolError> {
        let turn = self.begin().await?;
        let (_, relative) = self.resolve(path)?;
        let file = self.workspace.dir.open_file(&relative).map_err(ToolError::file)?;
        let opened = real_path(file.as_fd(), relative.as_ref()).map_err(ToolError::file)?;
        self.check_access(&opened, Access::Read)?;
        // Reads the file that was checked: its name may lead to another one by now.
        let loadout = redact.then(|| self.variables.current());
        let output = move |content: Vec<u8>, path: &RelativePath| {
            let redactor = loadout.as_ref().map(|loadout| &*loadout.redactor);
            ReadFileOutput::new(&content, path, range, Redaction::new(redactor))
        };
        let mut output = match read_open(&file, relative.as_ref(), INLINE_BYTES as u64) {
            Err(FileError::TooLarge { .. }) => {
                let asked = relative.clone();
                let read = move || {
                    let content = read_open(&file, asked.as_ref(), MAX_READ_BYTES)?;
                    Ok(output(content, &asked))
                };
                blocking(read).await?
            }
            other => other.map(|content| output(content, &relative)),
        }
        .map_err(ToolError::file)?;
        match turn.confirm().await {
            Ok(reason) => output.unconfirmed = reason,
            Err(error) => return Err(self.sync_failed(error).await),
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, first: usize, last: Option<usize>, expected: &str, total: usize) {
        let path = RelativePath::parse("f.txt").unwrap();
        let range = LineRange { first, last };
        let output =
            ReadFileOutput::new(content.as_bytes(), &path, Some(range), Redaction::new(None));
        assert_eq!((output.content.as_str(), output.total_lines), (expected, Some(total)));
    }

    #[test]
    fn a_range_of_lines_is_cut_out_and_never_panics() {
        check("a\nb\nc\n", 2, Some(2), "b\n", 3);
        check("a\nb\nc", 2, None, "b\nc", 3);
        check("a\nb\nc", 0, Some(1), "a\n", 3);
        check("a\nb", 9, Some(3), "", 2);
        check("a\nb", 2, Some(1), "", 2);
        check("", 1, None, "", 0);
    }

    #[test]
    fn binary_content_is_returned_as_base64_with_its_media_type() {
        let path = RelativePath::parse("a/b.png").unwrap();
        let output = ReadFileOutput::new(&[0xff, 0x00], &path, None, Redaction::new(None));
        assert_eq!((output.content.as_str(), output.encoding), ("/wA=", Some("base64")));
        assert_eq!(output.media_type.as_deref(), Some("image/png"));
    }
}
