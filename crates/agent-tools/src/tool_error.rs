//! Errors returned by tool calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use artifact_sync::SyncError;
use artifact_sync::internal::with_causes;
use sandbox_core::{ExecError, ExecErrorKind, FileError, NetworkErrorKind, PathError, SessionId};
use secrets::Redactor;

use crate::error_kind::ErrorKind;
use crate::network::NetworkError;
use crate::printable::printable;
use crate::sharing::SharingError;
use crate::workspace::at_url;

/// Errors returned by tool calls. [`ToolError::message`] renders one for a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The path leaves the session directory or is invalid.
    #[error(transparent)]
    Path {
        /// The cause.
        source: PathError,
    },
    /// The path is the session directory, but the tool needs a file.
    #[error("path {input:?} is the session directory itself, not a file")]
    SessionDirectory {
        /// The path as the agent wrote it.
        input: String,
    },
    /// The policy of the session denies the access.
    #[error("the session's policy denies {operation} {}: {rule}", path.display())]
    Denied {
        /// `reading` or `writing`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The rule that denies it.
        rule: String,
    },
    /// The file cannot be accessed.
    #[error(transparent)]
    File {
        /// The cause.
        source: FileError,
    },
    /// The path has a leading slash, which stands for the session directory, and there is no such
    /// file.
    #[error(
        "{input} is {} for this tool, and there is no such file{}",
        path.display(),
        command.as_ref().map_or(String::new(), |command| {
            format!("; the bash command `{command}` reads the one of the system")
        })
    )]
    Anchored {
        /// The path as the agent wrote it.
        input: String,
        /// The path that it names.
        path: PathBuf,
        /// A command that reads the entry of the system, if there is one that commands can read.
        command: Option<String>,
        /// The cause.
        source: Box<FileError>,
    },
    /// The path leads out of the session's own `/tmp`.
    #[error("{input} leads out of the session's own /tmp, through a symlink or a mount")]
    LeavesTmp {
        /// The path as the agent wrote it.
        input: String,
    },
    /// The file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The path as the agent wrote it.
        path: String,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The rules for the network cannot be applied.
    #[error("the network of the session cannot be changed")]
    Network {
        /// The cause.
        source: NetworkError,
    },
    /// No connection to a port of the session is possible.
    #[error("there is no connection to port {port} of the session")]
    Dial {
        /// The port.
        port: u16,
        /// The cause.
        source: sandbox_core::NetworkError,
    },
    /// The command could not be run, or was killed with the processes of the session.
    #[error("{}", exec_problem(source))]
    Exec {
        /// The cause.
        source: ExecError,
    },
    /// The command did not run, because the session has no value of a variable that it requires.
    #[error(
        "the command did not run, because variables that the session requires have no value: {}",
        with_reasons(names, reasons)
    )]
    MissingVariables {
        /// The names of the variables.
        names: Vec<String>,
        /// The reasons for those that the source has, by name.
        reasons: BTreeMap<String, String>,
    },
    /// The tool cannot do this with the session's files as they are.
    #[error("{tool}: {problem}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// The problem, and the remedy if there is one.
        problem: String,
    },
    /// No tool has this name.
    #[error("there is no {}; the tools are {}", tool_of(name), known.join(", "))]
    UnknownTool {
        /// The beginning of the name that the caller asked for; empty if it may be a secret.
        name: String,
        /// The names of the tools.
        known: Vec<&'static str>,
    },
    /// The input does not match the tool's schema.
    #[error("the input of {tool} does not match its schema")]
    Input {
        /// The tool.
        tool: &'static str,
        /// The mismatch.
        source: serde_json::Error,
    },
    /// The result cannot be expressed as JSON.
    #[error("the result cannot be expressed as JSON")]
    Output {
        /// The cause.
        source: serde_json::Error,
    },
    /// Another machine took the session over. Calls are refused until the session is opened
    /// again.
    #[error(
        "another home, on this machine or another one, took session {session} over{}, and nothing \
         more is stored from here; to take it back, open it again",
        match has_begun {
            true => " during the call, which may have had effects",
            false => "",
        }
    )]
    LeaseLost {
        /// The session.
        session: SessionId,
        /// True if the call may have had effects, here and outside the session.
        has_begun: bool,
    },
    /// Another machine has opened the session after this one had released it.
    #[error("session {session} is open on another machine{}", at_url(url.as_deref()))]
    OwnedElsewhere {
        /// The session.
        session: SessionId,
        /// The address of the owner, if it has one.
        url: Option<String>,
    },
    /// The call did not begin: the store did not confirm that this home owns the session.
    #[error("the call did not begin, because the store did not confirm who owns the session")]
    NotBegun {
        /// The cause.
        source: SyncError,
    },
    /// The changes of the call cannot be stored.
    #[error("the changes cannot be stored")]
    Store {
        /// The cause.
        source: SyncError,
    },
    /// The call failed in the process that serves the session, or that process was lost.
    #[error(transparent)]
    Sharing {
        /// The cause.
        #[from]
        source: SharingError,
    },
    /// The text of another error contained the value of a variable.
    #[error("{message}")]
    Redacted {
        /// The text of the error and its causes, with a placeholder for the value.
        message: String,
        /// The kind of the error.
        kind: ErrorKind,
        /// True if the same call may succeed later without any change.
        is_retryable: bool,
    },
    /// The async runtime shut down during the call, or a task panicked.
    #[error("the call was interrupted")]
    Interrupted {
        /// The cause.
        source: tokio::task::JoinError,
    },
}

fn tool_of(name: &str) -> String {
    if name.is_empty() { "tool of that name".to_owned() } else { format!("tool {name:?}") }
}

fn with_reasons(names: &[String], reasons: &BTreeMap<String, String>) -> String {
    let reason = |name: &String| reasons.get(name).map_or("not set", String::as_str);
    let named: Vec<String> =
        names.iter().map(|name| format!("{name} ({})", reason(name))).collect();
    named.join(", ")
}

fn exec_problem(source: &ExecError) -> &'static str {
    match source.kind() {
        ExecErrorKind::Ended => "the command was killed before its end, and may have had effects",
        _ => "the command could not be run",
    }
}

impl ToolError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. }
            | Self::SessionDirectory { .. }
            | Self::Input { .. }
            | Self::LeavesTmp { .. }
            | Self::Failed { .. } => ErrorKind::InvalidInput,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::File { source } => source.into(),
            Self::Anchored { source, .. } => (&**source).into(),
            Self::Write { .. } => ErrorKind::Io,
            Self::Network { source } => source.kind(),
            Self::Dial { source, .. } if source.kind() == NetworkErrorKind::Unsupported => {
                ErrorKind::Sandbox
            }
            Self::Dial { .. } => ErrorKind::Io,
            Self::Exec { source } => source.into(),
            Self::UnknownTool { .. } | Self::MissingVariables { .. } => ErrorKind::NotFound,
            Self::LeaseLost { .. } => ErrorKind::LeaseLost,
            Self::OwnedElsewhere { .. } => ErrorKind::OwnedElsewhere,
            Self::NotBegun { source } | Self::Store { source } => source.into(),
            Self::Sharing { source } => source.kind(),
            Self::Redacted { kind, .. } => *kind,
            Self::Output { .. } | Self::Interrupted { .. } => ErrorKind::Internal,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::File { source } => source.is_retryable(),
            Self::Network { source } => source.is_retryable(),
            Self::Dial { source, .. } => source.is_retryable(),
            Self::Exec { source } => source.is_retryable(),
            Self::NotBegun { source } | Self::Store { source } => source.is_retryable(),
            Self::Sharing { source } => source.is_retryable(),
            Self::Redacted { is_retryable, .. } => *is_retryable,
            Self::OwnedElsewhere { .. } => true,
            _ => false,
        }
    }

    /// Replaces the error if its text contains the value of a variable.
    pub(crate) fn redacted(self, redactor: &Redactor) -> Self {
        match redactor.redact(&with_causes(&self)) {
            Cow::Borrowed(_) => self,
            Cow::Owned(message) => {
                let (kind, is_retryable) = (self.kind(), self.is_retryable());
                Self::Redacted { message, kind, is_retryable }
            }
        }
    }

    /// Renders the error and its causes as one line. Control characters, such as those of file
    /// names, are escaped.
    pub fn message(&self) -> String {
        printable(&with_causes(self)).into_owned()
    }
}
