//! A tool as one row: its name, its description and schemas for a model, and its call with JSON.

use std::path::Path;
use std::pin::Pin;

use sandbox_core::Tier;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Value, json};
use skill_store::InstalledSkill;

use super::call::{CallOptions, ToolContent, ToolResult};
use crate::rules::Rules;
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
    pub(super) rules: Rules,
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

/// Turns numbers such as `5.0` into integers, as JSON Schema sees them.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // Larger numbers are not exact.
            Some(float) if float.fract() == 0.0 && float.abs() < 2_f64.powi(53) => {
                // The sum is no negative zero.
                format!("{:.0}", float + 0.0).parse().map_or(Value::Number(number), Value::Number)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(with_integers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_integers(value))).collect()
        }
        other => other,
    }
}

/// Names the wrong value, and its expected type as JSON has it.
fn in_words_of_json(error: serde_path_to_error::Error<serde_json::Error>) -> serde_json::Error {
    const EXPECTED: &str = ", expected ";
    let path = error.path().to_string();
    let text = error.into_inner().to_string();
    let text = text.replace("invalid type: sequence", "invalid type: array");
    let mut text = text.replace("invalid type: map", "invalid type: object");
    if let Some((problem, expected)) = text.rsplit_once(EXPECTED) {
        let expected = match expected {
            "u8" | "u16" | "u32" | "u64" | "usize" => "an integer of at least 0",
            "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
            // Of enums, which values of these tools are strings for.
            "string or map" => "a string",
            other if other.starts_with("struct ") => "an object",
            other => other,
        };
        text = format!("{problem}{EXPECTED}{expected}");
    }
    // An error about a field names it already.
    let is_named = path == "." || text.contains(&format!("field `{path}`"));
    serde_json::Error::custom(if is_named { text } else { format!("{path}: {text}") })
}

/// Parses the input of the tool called `tool`.
pub(super) fn parse<T: DeserializeOwned>(tool: &'static str, input: Value) -> Result<T, ToolError> {
    serde_path_to_error::deserialize(with_integers(input))
        .map_err(|error| ToolError::Input { tool, source: in_words_of_json(error) })
}

/// Composes the result of a tool.
pub(super) fn result(
    output: &impl Serialize,
    content: ToolContent,
) -> Result<ToolResult, ToolError> {
    let object = serde_json::to_value(output).map_err(|source| ToolError::Output { source })?;
    Ok(ToolResult { object, content })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn a_whole_number_is_an_integer_and_no_error_names_a_type_of_rust() {
        let numbers = |text: &str| parse::<Vec<u64>>("t", serde_json::from_str(text).unwrap());
        assert_eq!(numbers("[5000.0, 5e3, 0, -0.0]").unwrap(), [5000, 5000, 0, 0]);
        for wrong in ["[1.5]", "[-1.0]", "[\"x\"]", "[1e300]"] {
            let ToolError::Input { source, .. } = numbers(wrong).unwrap_err() else { panic!() };
            let text = source.to_string();
            assert!(text.ends_with("expected an integer of at least 0"), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_wrong_value_once() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Input {
            #[expect(dead_code, reason = "only its type matters")]
            path: String,
        }
        for (input, expected) in [
            (json!({ "path": {} }), "path: invalid type: object, expected a string"),
            (json!({ "path": [1] }), "path: invalid type: array, expected a string"),
            (json!({ "path": "x", "of": 1 }), "unknown field `of`, expected `path`"),
            (json!({}), "missing field `path`"),
        ] {
            let ToolError::Input { source, .. } = parse::<Input>("t", input).unwrap_err() else {
                panic!();
            };
            assert_eq!(source.to_string(), expected);
        }
    }
}
