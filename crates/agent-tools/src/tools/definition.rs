//! A tool as one row: its name, its description and schema for a model, and its call with JSON.

use std::path::Path;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::session::Session;
use crate::tool_error::ToolError;

/// A tool, described for a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tool {
    /// The name of the tool, such as `bash`.
    pub name: &'static str,
    /// The purpose of the tool, written for the model.
    pub description: String,
    /// The input as a JSON Schema (draft 07).
    pub input_schema: Value,
    /// True if the tool changes nothing.
    pub is_read_only: bool,
    /// True if the tool can reach other machines.
    pub is_open_world: bool,
}

/// The future of a call with JSON.
type CallFuture<'s> = Pin<Box<dyn Future<Output = Result<Value, ToolError>> + Send + 's>>;

/// One row of the list of tools.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) is_read_only: bool,
    /// Set if the tool uses the network of the session.
    pub(super) uses_network: bool,
    pub(super) describe: fn(&Surroundings<'_>) -> String,
    pub(super) input_schema: fn() -> Value,
    pub(super) call: for<'s> fn(&'s Session, Value) -> CallFuture<'s>,
}

/// The parts of a session that a tool's description mentions.
#[derive(Debug)]
pub(super) struct Surroundings<'s> {
    pub(super) session_dir: &'s Path,
    /// Patterns of the hosts that commands may connect to.
    pub(super) hosts: Vec<&'s str>,
    /// True if a user is asked about other hosts.
    pub(super) asks: bool,
    /// The names in the session directory.
    pub(super) file_names: Vec<String>,
    /// The embedder's addition to the description of `bash`.
    pub(super) instructions: Option<&'s str>,
}

impl Surroundings<'_> {
    /// Returns whether commands can reach any host.
    pub(super) fn has_network(&self) -> bool {
        self.asks || !self.hosts.is_empty()
    }
}

impl Definition {
    /// Describes the tool for a model.
    pub(super) fn tool(&self, surroundings: &Surroundings<'_>) -> Tool {
        Tool {
            name: self.name,
            description: (self.describe)(surroundings),
            input_schema: (self.input_schema)(),
            is_read_only: self.is_read_only,
            is_open_world: self.uses_network && surroundings.has_network(),
        }
    }
}

/// Builds the schema of an object that has these properties and no others.
pub(super) fn object_schema(properties: &Value, required: &[&str]) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Parses the input of the tool called `tool`.
pub(super) fn parse<T: DeserializeOwned>(tool: &'static str, input: Value) -> Result<T, ToolError> {
    serde_json::from_value(input).map_err(|source| ToolError::Input { tool, source })
}

/// Converts the output of a tool to JSON.
pub(super) fn to_json(output: &impl Serialize) -> Result<Value, ToolError> {
    serde_json::to_value(output).map_err(|source| ToolError::Output { source })
}
