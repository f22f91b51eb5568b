//! What is said, and with which code the command exits, when something cannot be done.

use std::process::ExitCode;

/// The exit code when the engine or a setting failed, so that no script takes it for the command's
/// own.
pub(crate) const NOT_RUN: u8 = 125;
/// The exit code of everything else that failed.
const FAILED: u8 = 1;
/// The exit code of bad usage, also what the parser of the command line uses.
const BAD_USAGE: u8 = 2;

/// A message for standard error, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something that was asked for failed.
    pub(crate) fn new(error: impl std::error::Error) -> Self {
        Self { message: agent_tools::with_causes(&error), code: FAILED }
    }

    /// The engine or a setting failed before the request could be carried out.
    pub(crate) fn setting(error: impl std::error::Error) -> Self {
        Self { message: agent_tools::with_causes(&error), code: NOT_RUN }
    }

    /// The same with a text of our own.
    pub(crate) fn setting_text(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NOT_RUN }
    }

    /// The command line asks for something that does not exist.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: BAD_USAGE }
    }

    /// The same failure for a command that has no exit code of its own to protect.
    pub(crate) fn plain(mut self) -> Self {
        if self.code == NOT_RUN {
            self.code = FAILED;
        }
        self
    }

    /// The same message for something that was asked for rightly and is not there.
    pub(crate) fn failed(mut self) -> Self {
        self.code = FAILED;
        self
    }

    /// The message.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("agent-tools: {}", self.message);
        ExitCode::from(self.code)
    }
}
