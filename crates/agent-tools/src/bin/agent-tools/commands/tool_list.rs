//! The subcommand `tools`: the tools of a session, described for a model.

use std::cell::Cell;
use std::process::ExitCode;

use agent_tools::{CloseMode, Effects, Sessions, Tool};
use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::print_json;
use crate::signals::{OnSignal, use_session};
use crate::toolset_args::ToolsetArgs;

#[derive(Args, Debug)]
pub(crate) struct ToolListArgs {
    #[command(flatten)]
    tools: ToolsetArgs,
    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) async fn run(context: &Context, args: ToolListArgs) -> Result<ExitCode, Failure> {
    let existed = context.has_session(&args.session).await?;
    let open = context.open_with(&args.session, |builder| builder.tools(args.tools.selection()));
    let is_unused = Cell::new(false);
    let listed = use_session(OnSignal::Kill, open, async |session| {
        let entries = std::fs::read_dir(session.dir());
        let is_empty = entries.is_ok_and(|mut entries| entries.next().is_none());
        is_unused.set(is_empty && !session.is_served_elsewhere());
        let tools: Vec<Value> = session.tools().iter().map(described).collect();
        let text = if context.prints_json() {
            serde_json::to_string(&tools)
        } else {
            serde_json::to_string_pretty(&tools)
        };
        print_json(&text.map_err(Failure::failed)?);
        Ok(ExitCode::SUCCESS)
    })
    .await
    .map_err(Failure::into_failed)?;
    if !existed && is_unused.get() {
        // It was only opened to describe its tools. It stays if another process has written files
        // to it by now.
        let sessions = Sessions::builder(context.home()?).build();
        let _ = sessions.close_with(&args.session.session, CloseMode::KeepPending).await;
    }
    Ok(listed)
}

/// Describes a tool with the fields that MCP has.
fn described(tool: &Tool) -> Value {
    json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": {
            "readOnlyHint": tool.effects == Effects::None,
            "destructiveHint": tool.effects != Effects::None,
            "idempotentHint": tool.effects != Effects::Any,
            "openWorldHint": tool.is_open_world,
        },
    })
}
