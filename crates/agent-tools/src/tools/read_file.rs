//! The tool `readFile`: reads a file of the session, whole or a part of it.

mod image;
mod output;
mod part;
mod schema;

use serde::{Deserialize, Serialize};

use super::call::{ToolContent, ToolResult};
use super::definition::{Definition, Effects, Surroundings, parse, result};
use crate::redaction::Redaction;
use crate::session::{INLINE_BYTES, LocalSession, Session, blocking};
use crate::sharing::ReadFile;
use crate::tool_error::ToolError;

pub use output::ReadFileOutput;

/// The name of the tool that reads a file.
pub const NAME: &str = "readFile";

/// The size of the largest file that is read whole.
const MAX_READ_BYTES: u64 = 32 << 20;
/// The maximum length of the content that a model gets, in UTF-16 units.
const MAX_UNITS: usize = 30_000;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    title: "Read a file",
    effects: Effects::None,
    uses_network: false,
    describe,
    input_schema: schema::input,
    output_schema: schema::output,
    call: |session, input, _| {
        Box::pin(async move {
            let input: ReadFileInput = parse(NAME, input)?;
            let part = input.part()?;
            let options = ReadOptions { part, max_units: Some(MAX_UNITS) };
            to_result(&session.read_file_with(&input.path, options).await?)
        })
    },
};

fn describe(surroundings: &Surroundings<'_>) -> String {
    format!(
        "Read a file of the session. {} \
         At most {MAX_UNITS} characters are shown; the result then says how to continue with \
         startLine or startByte. Content that is neither text nor an image comes back as base64.",
        super::path_rules(surroundings)
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
    #[serde(default)]
    start_byte: Option<u64>,
    #[serde(default)]
    end_byte: Option<u64>,
}

impl ReadFileInput {
    fn part(&self) -> Result<FilePart, ToolError> {
        let Self { path: _, start_line, end_line, start_byte, end_byte } = *self;
        match (start_line.or(end_line), start_byte.or(end_byte)) {
            (None, None) => Ok(FilePart::Whole),
            (Some(_), None) => {
                Ok(FilePart::Lines(LineRange { first: start_line.unwrap_or(1), last: end_line }))
            }
            (None, Some(_)) => {
                Ok(FilePart::Bytes(ByteRange { start: start_byte.unwrap_or(0), end: end_byte }))
            }
            (Some(_), Some(_)) => Err(failed("give a range of lines or of bytes, not both")),
        }
    }
}

fn to_result(output: &ReadFileOutput) -> Result<ToolResult, ToolError> {
    let content = match output.image() {
        Some(media_type) => {
            ToolContent::Image { data: output.content.clone(), media_type, notes: output.notes() }
        }
        None => ToolContent::text(output.text()),
    };
    result(output, content)
}

fn failed(problem: impl Into<String>) -> ToolError {
    ToolError::Failed { tool: NAME, problem: problem.into() }
}

/// A range of lines, counted from 1. Both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRange {
    /// The first line.
    pub first: usize,
    /// The last line; by default the last line of the file.
    pub last: Option<usize>,
}

/// A range of bytes, counted from 0. The end is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; by default the end of the file.
    pub end: Option<u64>,
}

/// The part of a file that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FilePart {
    /// The whole file, of at most 32 MiB unless [`ReadOptions::max_units`] is set.
    #[default]
    Whole,
    /// Some lines. Content that is not text has none.
    Lines(LineRange),
    /// Some bytes. The beginning of a character at the end of the range is left for the next range.
    Bytes(ByteRange),
}

/// Options of [`Session::read_file_with`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The part of the file.
    pub part: FilePart,
    /// The maximum length of the content in UTF-16 units. Of an image of at most 5 MB, all is
    /// returned anyway.
    pub max_units: Option<usize>,
}

impl Session {
    /// Reads a whole file of the session.
    ///
    /// # Errors
    /// Like [`Session::read_file_with`].
    pub async fn read_file(&self, path: &str) -> Result<ReadFileOutput, ToolError> {
        self.read_file_with(path, ReadOptions::default()).await
    }

    /// Reads a file of the session, or a range of its lines.
    ///
    /// # Errors
    /// Like [`Session::read_file_with`].
    pub async fn read_file_lines(
        &self,
        path: &str,
        range: Option<LineRange>,
    ) -> Result<ReadFileOutput, ToolError> {
        let part = range.map_or(FilePart::Whole, FilePart::Lines);
        self.read_file_with(path, ReadOptions { part, ..ReadOptions::default() }).await
    }

    /// Reads a file of the session, or a range of its bytes.
    ///
    /// # Errors
    /// Like [`Session::read_file_with`].
    pub async fn read_file_bytes(
        &self,
        path: &str,
        range: ByteRange,
    ) -> Result<ReadFileOutput, ToolError> {
        let part = FilePart::Bytes(range);
        self.read_file_with(path, ReadOptions { part, ..ReadOptions::default() }).await
    }

    /// Reads a file of the session, or a part of it, without starting a process. A path below
    /// `/tmp` names the file that commands see there.
    ///
    /// # Errors
    /// Returns [`ToolError::Path`] if the path leaves the session, [`ToolError::Denied`] if the
    /// policy denies reading, [`ToolError::File`] or [`ToolError::Anchored`] if the file does not
    /// exist or cannot be read, [`ToolError::Failed`] if it has no such part, and
    /// [`ToolError::LeaseLost`] or [`ToolError::OwnedElsewhere`] if another machine has taken the
    /// session.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn read_file_with(
        &self,
        path: &str,
        options: ReadOptions,
    ) -> Result<ReadFileOutput, ToolError> {
        self.check_path(path)?;
        let ReadOptions { part, max_units } = options;
        let redact = self.settings.redact;
        // Servers of earlier versions know ranges of lines only.
        let range = match part {
            FilePart::Lines(range) => Some(range),
            _ => None,
        };
        self.run(ReadFile { path: path.into(), range, part, max_units, redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn read_file(&self, call: ReadFile<'_>) -> Result<ReadFileOutput, ToolError> {
        let turn = self.begin().await?;
        let (place, file) = self.open_readable(NAME, &call.path)?;
        let error = |source| place.error(self, source);
        // Reads the file that was checked: its name may lead to another one by now.
        let is_small = file.metadata().is_ok_and(|metadata| metadata.len() <= INLINE_BYTES as u64);
        let loadout = call.redact.then(|| self.variables.current());
        let relative = place.relative.clone();
        let (part, max_units) = (call.part(), call.max_units);
        let read = move || {
            let redactor = loadout.as_ref().map(|loadout| &*loadout.redactor);
            part::read(&file, &relative, part, max_units, Redaction::new(redactor))
        };
        let read = if is_small { read() } else { blocking(read).await? };
        let mut output = read.map_err(|failure| match failure {
            part::Failure::File(source) => error(source),
            part::Failure::NoSuchPart(problem) => failed(format!("{}: {problem}", call.path)),
        })?;
        match turn.confirm().await {
            Ok(reason) => output.unconfirmed = reason,
            Err(error) => return Err(self.sync_failed(error).await),
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn input(value: Value) -> Result<FilePart, ToolError> {
        parse::<ReadFileInput>(NAME, value)?.part()
    }

    #[test]
    fn a_part_is_a_range_of_lines_or_of_bytes() {
        assert_eq!(input(json!({ "path": "f" })).unwrap(), FilePart::Whole);
        let lines = FilePart::Lines(LineRange { first: 1, last: Some(3) });
        assert_eq!(input(json!({ "path": "f", "endLine": 3 })).unwrap(), lines);
        let bytes = FilePart::Bytes(ByteRange { start: 7, end: None });
        assert_eq!(input(json!({ "path": "f", "startByte": 7 })).unwrap(), bytes);
        assert!(input(json!({ "path": "f", "startByte": 7, "endLine": 3 })).is_err());
        assert!(input(json!({ "path": "f", "startLine": -1 })).is_err());
    }
}
