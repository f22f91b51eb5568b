//! The subcommand `mcp`: one session's tools over the Model Context Protocol.

use std::process::ExitCode;
use std::sync::Arc;

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::signals::{OnSignal, use_session};

pub(crate) async fn run(context: &Context, args: &SessionArgs) -> Result<ExitCode, Failure> {
    use_session(OnSignal::Drain, context.open(args), async |session| {
        agent_tools::mcp::serve_stdio(Arc::clone(session)).await.map_err(Failure::failed)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}
