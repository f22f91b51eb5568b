//! The subcommands `session restore` and `session undelete`.

use std::process::ExitCode;

use agent_tools::{
    ConflictNote, RelativePath, SessionId, Sessions, Undelete, UndeleteReport, printable,
};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
use crate::signals::use_files;

pub(super) async fn restore(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    path: &RelativePath,
    at: u64,
) -> Result<ExitCode, Failure> {
    let restoring = use_files(sessions, id, async |files| {
        files.restore_version(path, at).await.map_err(Failure::failed)
    });
    let restored = context.bars().during("restoring", restoring).await?;
    context.print(&restored, || {
        let outcome = if restored.is_unchanged { "unchanged" } else { "restored " };
        outln!("{outcome}  {}", printable(path.as_str()));
        for conflict in &restored.conflicts {
            outln!("{}", ConflictNote::new(&conflict.path, &conflict.kept_as));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn undelete(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    paths: Vec<RelativePath>,
    removed_by: Option<u64>,
) -> Result<ExitCode, Failure> {
    let selection = match removed_by {
        Some(entry) => Undelete::RemovedBy(entry),
        None if paths.is_empty() => Undelete::LastRemoval,
        None => Undelete::Paths(paths),
    };
    let restoring = use_files(sessions, id, async |files| {
        files.undelete(selection).await.map_err(Failure::failed)
    });
    let report = context.bars().during("restoring", restoring).await?;
    context.print(&report, || print(&report))?;
    Ok(ExitCode::from(u8::from(!(report.unknown.is_empty() && report.failed.is_empty()))))
}

fn print(report: &UndeleteReport) {
    let UndeleteReport { restored, existing, unknown, failed, conflicts, .. } = report;
    restored.iter().for_each(|path| outln!("restored   {}", printable(path.as_str())));
    existing.iter().for_each(|path| outln!("exists     {}", printable(path.as_str())));
    for conflict in conflicts {
        outln!("{}", ConflictNote::new(&conflict.path, &conflict.kept_as));
    }
    for path in unknown {
        errln!("agent-tools: no removal of {} is retained", printable(path.as_str()));
    }
    for failure in failed {
        let (path, reason) = (printable(&failure.key), printable(&failure.reason));
        errln!("agent-tools: cannot bring {path} back: {reason}");
    }
    if restored.is_empty() && existing.is_empty() && unknown.is_empty() && failed.is_empty() {
        outln!("no removal is retained");
    }
}
