//! A tool as one row: its name, its description and schemas for a model, and its call with JSON.

use std::path::Path;
use std::pin::Pin;

use sandbox_core::Tier;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use skill_store::InstalledSkill;

use super::call::{CallOptions, ToolContent, ToolResult};
use crate::session::Session;
use crate::tool_error::ToolError;

/// A tool, described for a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tool {
    /// The name of the tool, such as `bash`.
    pub name: &'static str,
    /// The name of the tool for a person.
    pub title: &'static str,
    /// The purpose of the tool, written for the model.
    pub description: String,
    /// The input as a JSON Schema (draft 07).
    pub input_schema: Value,
    /// The output as a JSON Schema (draft 07).
    pub output_schema: Value,
    /// The effects of a call.
    pub effects: Effects,
    /// True if the tool can reach other machines.
    pub is_open_world: bool,
}

/// The effects of a tool's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effects {
    /// The call changes nothing.
    None,
    /// The call may destroy something, and the same call again changes nothing more.
    Idempotent,
    /// The call may do anything.
    Any,
}

/// The future of a call with JSON.
type CallFuture<'s> = Pin<Box<dyn Future<Output = Result<ToolResult, ToolError>> + Send + 's>>;

/// One row of the list of tools.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) effects: Effects,
    /// Set if the tool uses the network of the session.
    pub(super) uses_network: bool,
    pub(super) describe: fn(&Surroundings<'_>) -> String,
    pub(super) input_schema: fn() -> Value,
    pub(super) output_schema: fn() -> Value,
    pub(super) call: for<'s> fn(&'s Session, Value, CallOptions) -> CallFuture<'s>,
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
    pub(super) skills: Vec<InstalledSkill>,
    /// The names of the runtimes that commands can start.
    pub(super) runtimes: Vec<&'static str>,
    pub(super) tier: &'s Tier,
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
            title: self.title,
            description: (self.describe)(surroundings),
            input_schema: (self.input_schema)(),
            output_schema: (self.output_schema)(),
            effects: self.effects,
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

/// Builds the schema of an output. Later versions may add properties.
pub(super) fn output_schema(properties: &Value, required: &[&str]) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

/// Parses the input of the tool called `tool`.
pub(super) fn parse<T: DeserializeOwned>(tool: &'static str, input: Value) -> Result<T, ToolError> {
    serde_json::from_value(input).map_err(|source| ToolError::Input { tool, source })
}

/// Composes the result of a tool.
pub(super) fn result(
    output: &impl Serialize,
    content: ToolContent,
) -> Result<ToolResult, ToolError> {
    let object = serde_json::to_value(output).map_err(|source| ToolError::Output { source })?;
    Ok(ToolResult { object, content })
}
