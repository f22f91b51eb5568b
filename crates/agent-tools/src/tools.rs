//! The tools of a session: one file per tool, and the list that a model, MCP and [`Session::call`]
//! work from.
//!
//! To add a tool, write its file, declare it here, and add its row to [`DEFINITIONS`]. Models and
//! MCP clients then see it, and [`Session::call`] runs it. Its items are `pub` only if `lib.rs`
//! exports them for callers in Rust; otherwise they are private or `pub(super)`.

pub(crate) mod bash;
mod definition;
pub(crate) mod read_file;
pub(crate) mod write_file;

use std::path::Path;

use serde_json::Value;

use crate::session::Session;
use crate::tool_error::ToolError;
use definition::{Definition, Surroundings};

pub use definition::Tool;

const DEFINITIONS: &[Definition] =
    &[bash::DEFINITION, read_file::DEFINITION, write_file::DEFINITION];

impl Session {
    /// Describes the tools for a model.
    pub fn tools(&self) -> Vec<Tool> {
        let network = self.network_rules();
        describe(&Surroundings {
            session_dir: self.dir(),
            hosts: network.hosts().collect(),
            asks: network.asks,
            file_names: file_names(self.dir()),
            instructions: self.settings.instructions.as_deref(),
        })
    }

    /// Calls a tool by its name, with input of the tool's schema, and returns its output as JSON.
    ///
    /// # Errors
    /// Returns [`ToolError::UnknownTool`] if there is no such tool, [`ToolError::Input`] if the
    /// input does not match the schema, and otherwise the errors of the tool.
    ///
    /// # Cancel safety
    /// Like the tool itself: dropping the future kills a running command.
    pub async fn call(&self, name: &str, input: Value) -> Result<Value, ToolError> {
        match DEFINITIONS.iter().find(|definition| definition.name == name) {
            Some(definition) => (definition.call)(self, input).await,
            None => Err(ToolError::UnknownTool {
                name: name.to_owned(),
                known: DEFINITIONS.iter().map(|definition| definition.name).collect(),
            }),
        }
    }
}

/// Returns the sorted names in a directory; those of directories end with a slash.
fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let slash = if is_dir { "/" } else { "" };
            entry.file_name().to_str().map(|name| format!("{name}{slash}"))
        })
        .collect();
    names.sort();
    names
}

fn describe(surroundings: &Surroundings<'_>) -> Vec<Tool> {
    DEFINITIONS.iter().map(|definition| definition.tool(surroundings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_required_inputs_match_the_reference() {
        let tools = describe(&Surroundings {
            session_dir: Path::new("/s/1"),
            hosts: Vec::new(),
            asks: false,
            file_names: Vec::new(),
            instructions: None,
        });
        for (name, required) in [
            ("bash", r#"["command"]"#),
            ("readFile", r#"["path"]"#),
            ("writeFile", r#"["path","content"]"#),
        ] {
            let tool = tools.iter().find(|tool| tool.name == name).unwrap();
            assert_eq!(tool.input_schema["required"].to_string(), required, "{name}");
        }
        let names: std::collections::BTreeSet<_> = tools.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), tools.len(), "each name is used once");
        assert!(tools.iter().all(|tool| tool.input_schema["additionalProperties"] == false));
    }
}
