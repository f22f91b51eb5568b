//! A call of a tool by its name: its options, and its result for a program and for a model.

use std::time::Duration;

use serde_json::Value;

use crate::output::OutputTail;

/// Options of one call of [`Session::call_with`](crate::Session::call_with).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// The maximum time limit of a command. The input may ask for less, and more is an error.
    pub max_timeout: Option<Duration>,
    /// Gets the output of a command while it runs.
    pub tail: Option<OutputTail>,
}

/// The result of [`Session::call_with`](crate::Session::call_with).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolResult {
    /// The output, by the schema of the tool.
    pub object: Value,
    /// The output for a model.
    pub content: ToolContent,
}

/// The output of a tool for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolContent {
    /// Plain text; never empty.
    Text(String),
    /// An image.
    Image {
        /// The bytes of the image as base64.
        data: String,
        /// The media type, such as `image/png`.
        media_type: &'static str,
        /// Notes about the result; empty without any.
        notes: String,
    },
}

impl ToolContent {
    /// Creates a text. Model providers refuse an empty one.
    pub(super) fn text(text: String) -> Self {
        Self::Text(if text.trim().is_empty() { "(no output)".to_owned() } else { text })
    }
}
