//! The subcommand `logs`: the recorded calls of a session.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use agent_tools::{CallRecord, SessionId, printable};
use clap::Args;
use sandbox_core::Limit;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
use crate::similar;
use crate::times::{duration, utc};

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Id of the session.
    #[arg(value_name = "ID", default_value = "default", env = "AGENT_TOOLS_SESSION")]
    session: SessionId,
    /// Show only the last calls.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = count)]
    last: Option<NonZeroUsize>,
    /// Show only calls that failed, timed out, had another exit code than 0, or were denied
    /// something.
    #[arg(long)]
    failed: bool,
}

fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number above 0".to_owned())
}

pub(crate) async fn run(context: &Context, args: &LogsArgs) -> Result<ExitCode, Failure> {
    let home = context.home()?;
    let mut calls = home.calls(&args.session).map_err(Failure::failed)?;
    if calls.is_empty() {
        let found = context.local_sessions()?.summary(&args.session).await;
        similar::found(&home, &args.session, found)?;
    }
    let is_recorded = !calls.is_empty();
    if args.failed {
        calls.retain(has_failed);
    }
    let skipped = args.last.map_or(0, |last| calls.len().saturating_sub(last.get()));
    let calls = &calls[skipped..];
    context.print(&calls, || {
        for call in calls {
            let subject = printable(&call.subject);
            let (time, took) = (utc(call.at), duration(call.took));
            outln!("{time}  {took:>8}  {:<8}  {}: {subject}", outcome(call), call.call);
            if let Some(limit) = &call.limit_reached {
                let known = Limit::ALL.into_iter().find(|known| known.key() == limit);
                outln!("    limit reached: {}", known.map_or(&**limit, |known| known.name()));
            }
            for denied in &call.denied {
                outln!("    denied: {}", printable(denied));
            }
            for line in call.hint.iter().flat_map(|hint| hint.lines()) {
                outln!("    hint: {}", printable(line));
            }
            if let Some(error) = &call.error {
                outln!("    error: {}", printable(error));
            }
        }
        if calls.is_empty() && is_recorded && args.failed {
            errln!("agent-tools: no call of session {} that is recorded here failed", args.session);
        } else if calls.is_empty() {
            errln!("agent-tools: no call of session {} is recorded here", args.session);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn has_failed(call: &CallRecord) -> bool {
    let has_other_code = call.exit_code.is_some_and(|code| code != 0);
    has_other_code || call.timed_out || call.error.is_some() || !call.denied.is_empty()
}

fn outcome(call: &CallRecord) -> String {
    match (call.exit_code, &call.error) {
        _ if call.timed_out => "timeout".to_owned(),
        (Some(code), _) => format!("exit {code}"),
        (None, Some(_)) => "error".to_owned(),
        (None, None) => "done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_above_zero() {
        assert_eq!(count("20").map(NonZeroUsize::get), Ok(20));
        for wrong in ["0", "-1", "x"] {
            assert_eq!(count(wrong), Err("expected a whole number above 0".to_owned()));
        }
    }
}
