//! The subcommand `prune`: removal of old sessions and of remains from this machine.

use std::process::ExitCode;
use std::time::Duration;

use agent_tools::{PruneOptions, SessionId, UserId, printable};
use clap::Args;
use serde_json::json;

use super::session::Closed;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::WaitArgs;
use crate::output::{errln, outln};

#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Close sessions that no call has used for this time, such as 12h or 30d.
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    unused_for: Option<Duration>,
    /// Close only the sessions of this user.
    #[arg(long, value_name = "ID", requires = "unused_for")]
    user: Option<UserId>,
    /// Store changes, report what would be closed and removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text);
    time.map_err(|_| "expected a time such as 30m, 12h or 30d".to_owned())
}

pub(crate) async fn run(context: &Context, args: PruneArgs) -> Result<ExitCode, Failure> {
    let sessions = context.patient_sessions(args.wait)?;
    let mut options = PruneOptions::default();
    (options.unused_for, options.user, options.is_dry_run) =
        (args.unused_for, args.user, args.dry_run);
    let pruning = sessions.prune(&options);
    let report = context.bars().during("closing", pruning).await.map_err(Failure::failed)?;
    let reasons = |sessions: &[(SessionId, String)]| -> Vec<_> {
        let pairs = sessions.iter().map(|(id, reason)| (id.as_str(), reason));
        pairs.map(|(id, reason)| json!({ "id": id, "reason": reason })).collect()
    };
    let (kept, failed) = (reasons(&report.kept), reasons(&report.failed));
    let finished: Vec<_> = report.finished.iter().map(ToString::to_string).collect();
    let closed: Vec<_> =
        report.closed.into_iter().map(|(id, report)| Closed::new(&id, report)).collect();
    let result = json!({
        "closed": closed.iter().map(Closed::result).collect::<Vec<_>>(),
        "finished": finished,
        "kept": kept,
        "failed": failed,
        "remains": report.remains,
        "dryRun": args.dry_run,
    });
    context.print(&result, || {
        let would = if args.dry_run { "would be " } else { "" };
        closed.iter().for_each(|closed| match args.dry_run {
            true => outln!("would be closed: {}", closed.id()),
            false => closed.print(),
        });
        finished.iter().for_each(|id| outln!("close {would}finished: {id}"));
        if report.remains > 0 {
            outln!("{would}removed: {} remains of killed processes", report.remains);
        }
        for (id, reason) in &report.kept {
            errln!("kept: {id}: {}", printable(reason));
        }
        for (id, error) in &report.failed {
            errln!("failed: {id}: {}", printable(error));
        }
        let is_done = !closed.is_empty() || !finished.is_empty() || report.remains > 0;
        if !is_done && report.failed.is_empty() {
            errln!("agent-tools: nothing to remove");
        }
    })?;
    Ok(ExitCode::from(u8::from(!report.failed.is_empty())))
}
