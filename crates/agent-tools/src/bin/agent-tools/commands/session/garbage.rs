//! The subcommand `session gc`.

use std::process::ExitCode;

use agent_tools::{GarbageOptions, GarbageReport, SessionId, Sessions};

use super::close::size;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::outln;
use crate::signals::use_files;

pub(super) async fn run(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    dry_run: bool,
) -> Result<ExitCode, Failure> {
    let mut options = GarbageOptions::default();
    options.retention = context.retention();
    options.dry_run = dry_run;
    let report = use_files(sessions, id, async |files| {
        files.collect_garbage(options).await.map_err(Failure::failed)
    })
    .await?;
    context.print(&report, || {
        let GarbageReport { entries, blobs, bytes, kept_entries, kept_blobs, .. } = &report;
        let deleted = if dry_run { "would delete" } else { "deleted" };
        let counted = |entries: usize, blobs: usize| {
            let entries = if entries == 1 { "1 entry" } else { &format!("{entries} entries") };
            let blobs = if blobs == 1 { "1 blob" } else { &format!("{blobs} blobs") };
            format!("{entries} and {blobs}")
        };
        outln!("{deleted} {} ({})", counted(*entries, *blobs), size(*bytes));
        outln!("kept {} ({})", counted(*kept_entries, *kept_blobs), size(report.kept_bytes));
    })?;
    Ok(ExitCode::SUCCESS)
}
