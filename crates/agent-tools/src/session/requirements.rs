//! Requirements of commands: variables, and a maximum time limit.

use std::time::Duration;

use sandbox_core::internal::lock;

use super::{LocalSession, Session};
use crate::tool_error::ToolError;
use crate::tools::bash;

impl Session {
    /// Returns the variables that the commands of this handle require.
    pub(crate) fn required_variables(&self) -> Vec<String> {
        lock(&self.spec).required_variables.clone()
    }

    /// Returns the time limit of a command; that of the session by default.
    pub(crate) fn time_limit(&self, asked: Option<Duration>) -> Result<Duration, ToolError> {
        let settings = &self.settings;
        let limit = asked.unwrap_or(settings.timeout);
        match settings.max_timeout {
            Some(max) if asked.is_some_and(|asked| asked > max) => Err(ToolError::Failed {
                tool: bash::NAME,
                problem: format!("the time limit may be at most {} s here", max.as_secs_f64()),
            }),
            Some(max) => Ok(limit.min(max)),
            None => Ok(limit),
        }
    }
}

impl LocalSession {
    /// Returns an error if the environment of commands has no value of a required variable.
    pub(crate) fn check_variables(&self, required: &[String]) -> Result<(), ToolError> {
        if required.is_empty() {
            return Ok(());
        }
        let current = self.variables.current();
        let is_absent = |name: &&String| !current.environment.has(name);
        let names: Vec<_> = required.iter().filter(is_absent).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let reason = |name: &String| Some((name.clone(), current.reasons.get(name)?.clone()));
        let reasons = names.iter().filter_map(reason).collect();
        Err(ToolError::MissingVariables { names, reasons })
    }
}
