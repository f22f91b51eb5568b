//! The result of the tool `readFile`.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::image;
use crate::printable::{Printable, counted};
use crate::sharing::{FixedText, parse_encoding};

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
    /// The media type of binary content: of an image by its content, otherwise guessed from the
    /// file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The number of lines of the whole file, if not all or a range of lines is returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<usize>,
    /// The size of the whole file in bytes, if not all or a range of bytes is returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The first line that was asked for and is not returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_line: Option<usize>,
    /// The first byte that was asked for and is not returned, if that is not the start of a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_byte: Option<u64>,
    /// Names of the variables whose values `[redacted:NAME]` replaces in the content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// The reason for which another machine may have changed the file: the store did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
}

impl ReadFileOutput {
    /// Returns the media type if the content is a whole image that a model can look at: PNG, JPEG,
    /// GIF or WebP, of at most 5 MB.
    pub fn image(&self) -> Option<&'static str> {
        let max = image::MAX_IMAGE_BYTES.div_ceil(3) * 4;
        if self.encoding.is_none() || self.total_bytes.is_some() || self.content.len() as u64 > max
        {
            return None;
        }
        let head = self.content.get(..image::HEAD_BYTES / 3 * 4).unwrap_or(&self.content);
        image::media_type(&STANDARD.decode(head).ok()?)?;
        image::whole_media_type(&STANDARD.decode(&self.content).ok()?)
    }

    /// Renders the result as plain text for a model: the content, and [`ReadFileOutput::notes`].
    pub fn text(&self) -> String {
        let notes = self.notes();
        if self.content.is_empty() && notes.is_empty() {
            return "(the file is empty)".to_owned();
        }
        let line_end = if notes.is_empty() || self.content.ends_with('\n') { "" } else { "\n" };
        format!("{}{line_end}{notes}", self.content)
    }

    /// Renders everything but the content as lines for a person or a model.
    pub fn notes(&self) -> String {
        let Self {
            content: _,
            encoding,
            media_type,
            total_lines,
            total_bytes,
            next_line,
            next_byte,
            redacted,
            unconfirmed,
        } = self;
        let mut notes = String::new();
        if encoding.is_some() && self.image().is_none() {
            let kind = media_type.as_deref().unwrap_or("binary content");
            let _ = writeln!(notes, "[base64 of {}]", Printable(kind));
        }
        // The placeholders of a text say it.
        if encoding.is_some() && !redacted.is_empty() {
            let _ = writeln!(
                notes,
                "[the content has [redacted:NAME] for values of variables: {}; it cannot be \
                 written back, so change the file with a command]",
                redacted.join(", ")
            );
        }
        let lines = total_lines.map(|count| counted(count, "line"));
        let bytes = total_bytes.map(|count| counted(count, "byte"));
        if let (Some(next), Some(size)) = (next_line, &lines) {
            let _ = writeln!(
                notes,
                "[not all is shown: the file has {size}; continue with startLine {next}]"
            );
        }
        if let (Some(next), Some(size)) = (next_byte, &bytes) {
            let _ = writeln!(
                notes,
                "[not all is shown: the file has {size}; continue with startByte {next}]"
            );
        }
        if let Some(reason) = unconfirmed {
            let _ = writeln!(notes, "another machine may own the session: {}", Printable(reason));
        }
        notes
    }
}
