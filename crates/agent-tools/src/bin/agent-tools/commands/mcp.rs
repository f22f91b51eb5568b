//! The subcommand `mcp`: one session's tools over the Model Context Protocol.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::signals::{OnSignal, use_session};

/// The time that running calls have to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(context: &Context, args: &SessionArgs) -> Result<ExitCode, Failure> {
    use_session(OnSignal::Drain { grace: GRACE }, context.open(args), async |session| {
        agent_tools::mcp::serve_stdio(Arc::clone(session)).await.map_err(Failure::failed)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}
