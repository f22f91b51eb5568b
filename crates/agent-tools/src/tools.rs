//! The tools of a session: one file per tool, and the list that a model, MCP and [`Session::call`]
//! work from.
//!
//! To add a tool, write its file, declare it here, and add its row to a list in `selection.rs`.
//! Models and MCP clients then see it, and [`Session::call`] runs it. Its items are `pub` only if
//! `lib.rs` exports them for callers in Rust; otherwise they are private or `pub(super)`.

mod anthropic;
pub(crate) mod bash;
mod call;
mod definition;
pub(crate) mod edit_file;
pub(crate) mod grep;
pub(crate) mod list_files;
pub(crate) mod location;
pub(crate) mod processes;
pub(crate) mod read_file;
mod selection;
mod subtree;
pub(crate) mod write_file;

use std::path::Path;

use sandbox_core::Tier;
use serde_json::Value;

use crate::rules::Rules;
use crate::runtimes::HostRuntimes;
use crate::session::Session;
use crate::tool_error::ToolError;
use definition::Surroundings;

pub use call::{CallOptions, ToolContent, ToolResult};
pub use definition::{Effects, Tool};
pub use selection::{OptionalTool, ToolSelection, Toolset, UnknownOptionalTool};

impl Session {
    /// Describes the tools for a model.
    pub fn tools(&self) -> Vec<Tool> {
        let network = self.network_rules();
        let surroundings = Surroundings {
            session_dir: self.dir(),
            hosts: network.hosts().collect(),
            asks: network.asks,
            file_names: file_names(self.dir()),
            skills: self.skills(),
            runtimes: self.runtimes(),
            tier: &self.settings.tier,
            rules: self.settings.rules,
            instructions: self.settings.instructions.as_deref(),
        };
        describe(&self.settings.tools, &surroundings)
    }

    /// Calls a tool by its name, with input of the tool's schema, and returns its output as JSON.
    ///
    /// # Errors
    /// Like [`Session::call_with`].
    ///
    /// # Cancel safety
    /// Like [`Session::call_with`].
    pub async fn call(&self, name: &str, input: Value) -> Result<Value, ToolError> {
        Ok(self.call_with(name, input, CallOptions::default()).await?.object)
    }

    /// Calls a tool by its name, with input of the tool's schema. Returns its output as JSON, and
    /// for a model.
    ///
    /// # Errors
    /// Returns [`ToolError::UnknownTool`] if there is no such tool, [`ToolError::Input`] if the
    /// input does not match the schema, and otherwise the errors of the tool.
    ///
    /// # Cancel safety
    /// Like the tool itself: dropping the future kills a running command.
    pub async fn call_with(
        &self,
        name: &str,
        input: Value,
        options: CallOptions,
    ) -> Result<ToolResult, ToolError> {
        let tools = &self.settings.tools;
        let called = match tools.definitions().find(|definition| definition.name == name) {
            Some(definition) => (definition.call)(self, input, options).await,
            None => Err(ToolError::UnknownTool {
                name: name.to_owned(),
                known: tools.definitions().map(|definition| definition.name).collect(),
            }),
        };
        called.map_err(|error| self.echo_error(error))
    }

    /// Returns the names of the runtimes that commands can start.
    fn runtimes(&self) -> Vec<&'static str> {
        let runtimes = HostRuntimes::find(|name| std::env::var_os(name));
        runtimes.reachable(self.policy()).into_iter().map(|(name, _)| name).collect()
    }
}

/// Returns the rules for the paths of the file tools, as a model has to know them.
fn path_rules(surroundings: &Surroundings<'_>) -> String {
    let dir = surroundings.session_dir.display();
    let temporary = match (surroundings.rules, surroundings.tier) {
        (Rules::Reference, _) => "",
        (_, Tier::Landlock { .. }) => "Files below /tmp and $TMPDIR cannot be reached. ",
        (_, Tier::Namespaces) => "A path below /tmp is the file that bash sees there. ",
    };
    let other = if temporary.is_empty() { "A" } else { "Any other" };
    format!(
        "A path is relative to {dir}. {temporary}{other} leading slash stands for that directory \
         too: the files of the system are reached by bash only."
    )
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

fn describe(selection: &ToolSelection, surroundings: &Surroundings<'_>) -> Vec<Tool> {
    selection.definitions().map(|definition| definition.tool(surroundings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(tier: &Tier) -> Vec<Tool> {
        let every_tool = OptionalTool::all().fold(ToolSelection::default(), ToolSelection::with);
        describe(
            &every_tool,
            &Surroundings {
                session_dir: Path::new("/s/1"),
                hosts: Vec::new(),
                asks: false,
                file_names: Vec::new(),
                skills: Vec::new(),
                runtimes: Vec::new(),
                tier,
                rules: Rules::Standard,
                instructions: None,
            },
        )
    }

    #[test]
    fn names_and_required_inputs_match_the_reference() {
        let tools = described(&Tier::Namespaces);
        for (name, required) in [
            ("bash", r#"["command"]"#),
            ("readFile", r#"["path"]"#),
            ("writeFile", r#"["path","content"]"#),
            ("editFile", r#"["path","oldString","newString"]"#),
            ("listFiles", "[]"),
            ("grep", r#"["pattern"]"#),
            ("startProcess", r#"["command"]"#),
            ("readProcess", r#"["processId"]"#),
            ("stopProcess", r#"["processId"]"#),
        ] {
            let tool = tools.iter().find(|tool| tool.name == name).unwrap();
            assert_eq!(tool.input_schema["required"].to_string(), required, "{name}");
        }
        let names: std::collections::BTreeSet<_> = tools.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), tools.len(), "each name is used once");
        assert!(tools.iter().all(|tool| tool.input_schema["additionalProperties"] == false));
    }

    #[test]
    fn the_file_tools_state_the_rules_for_paths() {
        let runs_commands = |tool: &&Tool| tool.name == "bash" || tool.name.ends_with("Process");
        for tool in described(&Tier::Namespaces).iter().filter(|tool| !runs_commands(tool)) {
            assert!(tool.description.contains("relative to /s/1."), "{}", tool.description);
            assert!(tool.description.contains("below /tmp is the file that bash sees"));
            assert!(tool.description.contains("leading slash stands for that directory"));
        }
        let landlock = Tier::Landlock { accepted: Vec::new() };
        for tool in described(&landlock).iter().filter(|tool| !runs_commands(tool)) {
            assert!(tool.description.contains("/tmp and $TMPDIR cannot be reached"));
        }
    }
}
