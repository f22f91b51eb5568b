//! The options that select the tools of a session.

use agent_tools::{OptionalTool, ToolSelection, Toolset};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

/// The tools that a model gets.
#[derive(Args, Clone, Debug)]
pub(crate) struct ToolsetArgs {
    /// Optional tool to offer too. Repeatable.
    #[arg(
        long = "tools",
        value_name = "NAME",
        value_parser = optional_tool(),
        value_delimiter = ',',
        env = "AGENT_TOOLS_TOOLS"
    )]
    tools: Vec<OptionalTool>,
    /// Names and inputs of the tools: `standard` is bash, readFile and writeFile, and `anthropic`
    /// is agent_toolset_20260401.
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        default_value = "standard",
        env = "AGENT_TOOLS_TOOLSET"
    )]
    toolset: ToolsetChoice,
}

/// A set of tools with names and inputs that models may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ToolsetChoice {
    Standard,
    Anthropic,
}

impl ToolsetArgs {
    pub(crate) fn selection(&self) -> ToolSelection {
        let toolset = match self.toolset {
            ToolsetChoice::Standard => Toolset::Standard,
            ToolsetChoice::Anthropic => Toolset::Anthropic,
        };
        self.tools.iter().copied().fold(ToolSelection::of(toolset), ToolSelection::with)
    }
}

fn optional_tool() -> impl TypedValueParser<Value = OptionalTool> {
    let names = OptionalTool::all().map(OptionalTool::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<OptionalTool>())
}
