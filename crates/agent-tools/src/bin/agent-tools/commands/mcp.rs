//! The subcommand `mcp`: one session's tools over the Model Context Protocol.

use std::process::ExitCode;

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;

pub(crate) async fn run(context: &Context, args: &SessionArgs) -> Result<ExitCode, Failure> {
    let session = context.open(args).await?;
    agent_tools::mcp::serve_stdio(session).await.map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}
