//! Why a tool call failed.

use std::path::PathBuf;

use sandbox_core::{ExecError, FileError, PathError, RelativePath};

/// Why a tool call failed. [`ToolError::message`] is what a model should be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The path leads out of the session directory, or is no path.
    #[error(transparent)]
    Path {
        /// What is wrong with it.
        source: PathError,
    },
    /// The path is the session directory, where a file was asked for.
    #[error("path {input:?} is the session directory itself, not a file")]
    SessionDirectory {
        /// What the agent wrote.
        input: String,
    },
    /// The policy of the session denies it.
    #[error("the session's policy denies {operation} {}: {rule}", path.display())]
    Denied {
        /// `reading` or `writing`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The rule that denies it.
        rule: String,
    },
    /// The file could not be reached.
    #[error(transparent)]
    File {
        /// The file error.
        source: FileError,
    },
    /// The file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: RelativePath,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The command could not be run.
    #[error("the command could not be run")]
    Exec {
        /// Why not.
        source: ExecError,
    },
    /// No tool has this name.
    #[error("there is no tool {name:?}; the tools are {}", known.join(", "))]
    UnknownTool {
        /// The name that the caller asked for.
        name: String,
        /// The names of the tools.
        known: Vec<&'static str>,
    },
    /// The input is not shaped as the tool's schema says.
    #[error("the input of {tool} is not as its schema says")]
    Input {
        /// The tool.
        tool: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The result cannot be expressed as JSON.
    #[error("the result cannot be expressed as JSON")]
    Output {
        /// The cause.
        source: serde_json::Error,
    },
    /// The runtime shut down under the call.
    #[error("the call was interrupted")]
    Interrupted {
        /// The cause.
        source: tokio::task::JoinError,
    },
}

impl ToolError {
    pub(crate) fn file(source: FileError) -> Self {
        Self::File { source }
    }

    /// The error with its causes in one line.
    pub fn message(&self) -> String {
        crate::with_causes(self)
    }
}
