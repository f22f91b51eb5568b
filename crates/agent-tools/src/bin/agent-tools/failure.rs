//! Failures of the command: a message and an exit code.

use std::borrow::Cow;
use std::process::ExitCode;

use crate::advice;
use crate::origins;
use crate::output::{self, errln};

/// The exit code if the engine or a setting failed, so that a script does not mistake it for the
/// exit code of the command that it runs.
pub(crate) const NOT_RUN: u8 = 125;
/// The exit code of all other failures.
const FAILED: u8 = 1;
/// The exit code of invalid usage, which the parser of the command line also uses.
const BAD_USAGE: u8 = 2;

/// A message for standard error, and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Reports that a valid request failed.
    pub(crate) fn failed(error: impl std::error::Error + 'static) -> Self {
        Self::failed_text(agent_tools::with_causes(&error))
    }

    /// Like [`Self::failed`], with a message.
    pub(crate) fn failed_text(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED }
    }

    /// Reports that the engine or a setting failed before the request started.
    pub(crate) fn not_run(error: impl std::error::Error + 'static) -> Self {
        Self::not_run_text(agent_tools::with_causes(&error))
    }

    /// Like [`Self::not_run`], with a message.
    pub(crate) fn not_run_text(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NOT_RUN }
    }

    /// Reports an invalid command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: BAD_USAGE }
    }

    /// Reports that a signal ended the request, which needs no message.
    pub(crate) fn ended(code: u8) -> Self {
        Self { message: String::new(), code }
    }

    /// Names the variable or the file that has the value of an option, if the value is not that of
    /// the command line.
    pub(crate) fn about(self, option: &str) -> Self {
        match origins::clause(option) {
            Some(clause) => self.with_remedy(&clause),
            None => self,
        }
    }

    /// Adds what the user can do.
    pub(crate) fn with_remedy(mut self, remedy: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(remedy);
        self
    }

    /// Replaces exit code 125 by 1, for subcommands that do not pass on another exit code.
    pub(crate) fn into_failed(mut self) -> Self {
        if self.code == NOT_RUN {
            self.code = FAILED;
        }
        self
    }

    pub(crate) fn message(&self) -> Cow<'_, str> {
        origins::complete(&self.message)
    }

    /// Prints the message as the JSON object of a request without a result.
    pub(crate) fn print_json(&self) {
        if !self.message.is_empty() && !output::has_json() {
            output::print_json(&self.json().to_string());
        }
    }

    /// Returns the JSON object in the place of a result.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": advice::complete(&self.message()) })
    }

    /// Prints the message and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            errln!("agent-tools: {}", self.message());
        }
        ExitCode::from(self.code)
    }
}
