//! The subcommand `session gc`.

use std::process::ExitCode;

use agent_tools::{GarbageOptions, GarbageReport, SessionId};

use super::close::size;
use super::with_files;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::outln;

pub(super) async fn run(
    context: &Context,
    id: &SessionId,
    dry_run: bool,
) -> Result<ExitCode, Failure> {
    let mut options = GarbageOptions::default();
    options.retention = context.retention();
    options.dry_run = dry_run;
    let report = with_files(&context.sessions()?, id, async |files| {
        files.collect_garbage(options).await.map_err(Failure::failed)
    })
    .await?;
    context.print(&report, || {
        let GarbageReport { entries, blobs, bytes, kept_entries, kept_blobs, .. } = &report;
        let deleted = if dry_run { "would delete" } else { "deleted" };
        outln!("{deleted} {entries} entries and {blobs} blobs ({})", size(*bytes));
        outln!("kept {kept_entries} entries and {kept_blobs} blobs ({})", size(report.kept_bytes));
    })?;
    Ok(ExitCode::SUCCESS)
}
