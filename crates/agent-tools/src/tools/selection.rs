//! The tools that a session offers.

use std::str::FromStr;

use super::definition::Definition;
use super::{anthropic, bash, edit_file, grep, list_files, processes, read_file, write_file};

/// The tools that every session has.
const STANDARD: &[Definition] = &[bash::DEFINITION, read_file::DEFINITION, write_file::DEFINITION];

/// The tools that a session has on request.
const OPTIONAL: &[Definition] = &[
    edit_file::DEFINITION,
    list_files::DEFINITION,
    grep::DEFINITION,
    processes::START,
    processes::READ,
    processes::STOP,
];

/// The tools that a session offers to a model: those of a [`Toolset`], and optional ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSelection {
    toolset: Toolset,
    /// The places of the optional tools in [`OPTIONAL`].
    optional: Vec<usize>,
}

/// A set of tools with names and inputs that models may know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Toolset {
    /// `bash`, `readFile` and `writeFile`.
    #[default]
    Standard,
    /// `bash`, `read`, `write`, `edit`, `glob` and `grep`, with the inputs of Anthropic's
    /// `agent_toolset_20260401`.
    Anthropic,
}

/// Error returned for a name that is no optional tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no optional tool {name:?}; there are {}", known.join(", "))]
#[non_exhaustive]
pub struct UnknownOptionalTool {
    /// The name.
    pub name: String,
    /// The names of the optional tools.
    pub known: Vec<&'static str>,
}

/// The name of an optional tool, such as `editFile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalTool(usize);

impl OptionalTool {
    /// Returns all optional tools.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..OPTIONAL.len()).map(Self)
    }

    /// Returns the name of the tool.
    pub fn name(self) -> &'static str {
        OPTIONAL[self.0].name
    }
}

impl FromStr for OptionalTool {
    type Err = UnknownOptionalTool;

    fn from_str(name: &str) -> Result<Self, UnknownOptionalTool> {
        Self::all().find(|tool| tool.name() == name).ok_or_else(|| UnknownOptionalTool {
            name: name.chars().take(100).collect(),
            known: Self::all().map(Self::name).collect(),
        })
    }
}

impl ToolSelection {
    /// Selects the tools of a set.
    pub fn of(toolset: Toolset) -> Self {
        Self { toolset, optional: Vec::new() }
    }

    /// Adds an optional tool. One whose name the set has already changes nothing.
    #[must_use]
    pub fn with(mut self, tool: OptionalTool) -> Self {
        if !self.definitions().any(|definition| definition.name == tool.name()) {
            self.optional.push(tool.0);
        }
        self
    }

    /// Returns the selected tools.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &'static Definition> {
        let toolset = match self.toolset {
            Toolset::Standard => STANDARD,
            Toolset::Anthropic => anthropic::DEFINITIONS,
        };
        toolset.iter().chain(self.optional.iter().map(|place| &OPTIONAL[*place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &ToolSelection) -> String {
        let names: Vec<_> = selection.definitions().map(|definition| definition.name).collect();
        names.join(" ")
    }

    #[test]
    fn optional_tools_follow_those_of_the_set_and_no_name_is_there_twice() {
        let all = |selection| OptionalTool::all().fold(selection, ToolSelection::with);
        let standard = all(all(ToolSelection::default()));
        assert!(names(&standard).starts_with("bash readFile writeFile editFile listFiles grep"));
        let anthropic = all(ToolSelection::of(Toolset::Anthropic));
        assert!(names(&anthropic).starts_with("bash read write edit glob grep editFile listFiles"));
        for selection in [standard, anthropic] {
            let names: Vec<_> = selection.definitions().map(|tool| tool.name).collect();
            let distinct: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{names:?}");
        }
        let error = "rm".parse::<OptionalTool>().unwrap_err().to_string();
        assert!(error.contains(r#""rm"; there are editFile, listFiles, grep"#), "{error}");
    }
}
