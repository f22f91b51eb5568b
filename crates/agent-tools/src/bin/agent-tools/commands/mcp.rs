//! The subcommand `mcp`: one session's tools over the Model Context Protocol.

use std::process::ExitCode;
use std::sync::Arc;

use agent_tools::{PendingGroup, SessionId, SessionSummary};

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::errln;
use crate::signals::{OnSignal, use_session};

pub(crate) async fn run(context: &Context, args: &SessionArgs) -> Result<ExitCode, Failure> {
    let code = use_session(OnSignal::Drain, context.open(args), async |session| {
        agent_tools::mcp::serve_stdio(Arc::clone(session)).await.map_err(Failure::failed)?;
        Ok(ExitCode::SUCCESS)
    })
    .await?;
    // After a signal, the changes that could not be stored were named.
    if code == ExitCode::SUCCESS {
        report_pending(context, &args.session).await;
    }
    Ok(code)
}

/// Names the changes that the end of the client has left behind.
async fn report_pending(context: &Context, id: &SessionId) {
    let Ok(sessions) = context.local_sessions() else { return };
    let Ok(SessionSummary { status: Some(status), .. }) = sessions.summary(id).await else {
        return;
    };
    for group in PendingGroup::group(&status.pending) {
        errln!("agent-tools: pending: {group}");
    }
}
