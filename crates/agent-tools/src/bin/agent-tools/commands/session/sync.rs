//! The subcommand `session sync`.

use std::collections::HashSet;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use agent_tools::{
    ConflictNote, FileNote, HistoryKind, HistoryObject, PendingGroup, RemovalMode, RestoreReport,
    SessionFiles, SessionId, Sessions, WorkspaceError, printable,
};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::options::WaitArgs;
use crate::output::{errln, outln};
use crate::signals::use_files;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced {
    restored: Vec<String>,
    stored: Vec<String>,
    /// The number of files that the store had lost and has again.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_again: Option<usize>,
    removed: Vec<String>,
    /// The number of files that stay although their objects vanished.
    removals_held_back: usize,
    pending: Vec<PendingGroup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<ConflictNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<FileNote>,
    problems: Vec<String>,
    entry: u64,
}

impl Synced {
    /// Returns whether there was nothing to do, and nothing to report.
    fn is_idle(&self) -> bool {
        self.removals_held_back == 0
            && self.pending.is_empty()
            && self.conflicts.is_empty()
            && self.skipped.is_empty()
            && [&self.restored, &self.stored, &self.removed, &self.problems]
                .iter()
                .all(|paths| paths.is_empty())
    }
}

pub(super) async fn run(
    context: &Context,
    id: &SessionId,
    confirm_removals: bool,
    refill: bool,
    wait: WaitArgs,
) -> Result<ExitCode, Failure> {
    // The refresh lists the objects, so opening need not.
    let builder = wait.apply(context.sessions_builder()?).listing_age(Duration::MAX);
    let is_lost = refill && has_lost(&builder.clone().build(), id).await;
    let builder = if is_lost { builder.refill() } else { builder };
    let removals = if confirm_removals { RemovalMode::ApplyAll } else { RemovalMode::HoldBackMany };
    let (opened, refreshed, report, stored_again) =
        use_files(&builder.build(), id, async |files| {
            if refill && files.is_served_elsewhere().await {
                return Err(Failure::failed_text(format!(
                    "another process has session {id} open; end it before you use --refill"
                )));
            }
            let opened = files.opened().await.unwrap_or_default();
            let refreshed = files.refresh(removals).await.map_err(Failure::failed)?;
            let report = files.sync().await.map_err(Failure::failed)?;
            let stored_again = if is_lost { Some(stored_files(files).await?) } else { None };
            Ok((opened, refreshed, report, stored_again))
        })
        .await?;
    let problems = refreshed.problems();
    let RestoreReport { restored, removed, conflicts, held_back, .. } = refreshed;
    let both = |before: &[_], after: &[_]| sorted(before.iter().chain(after));
    let conflicts = opened.conflicts.iter().chain(&conflicts).chain(&report.conflicts);
    let skipped = report.skipped.iter();
    let mut stored = report.changed.iter().filter(|file| file.entry.is_some());
    let synced = Synced {
        restored: both(&opened.restored, &restored),
        stored_again,
        stored: sorted(stored.by_ref().map(|file| &file.path)),
        removed: sorted(opened.removed.iter().chain(&removed).chain(&report.deleted)),
        removals_held_back: held_back.len(),
        pending: PendingGroup::group(&report.pending),
        conflicts: conflicts
            .map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as))
            .collect(),
        skipped: skipped.map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect(),
        problems,
        entry: report.entry,
    };
    context.print(&synced, || print(&synced, id))?;
    Ok(ExitCode::from(u8::from(!report.is_complete())))
}

/// Returns whether the store has lost a session of this machine.
async fn has_lost(sessions: &Sessions, id: &SessionId) -> bool {
    use WorkspaceError::{Mirror, StoreLost};
    matches!(sessions.files(id).await, Err(StoreLost { .. } | Mirror { .. }))
}

/// Counts the files that the log has.
async fn stored_files(files: &SessionFiles) -> Result<usize, Failure> {
    let entries = files.history(None).await.map_err(Failure::failed)?;
    let changes = entries.iter().flat_map(|entry| entry.changes.iter().rev());
    // The newest change of a path comes first.
    let mut seen = HashSet::new();
    let newest = changes.filter(|change| seen.insert(&change.path));
    let existing = newest.filter(|change| {
        change.kind != HistoryKind::Removed && change.object == Some(HistoryObject::File)
    });
    Ok(existing.count())
}

/// Returns paths as sorted texts, each once.
fn sorted(paths: impl Iterator<Item = impl Display>) -> Vec<String> {
    let mut paths: Vec<String> = paths.map(|path| path.to_string()).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn print(synced: &Synced, id: &SessionId) {
    for (label, paths) in
        [("fetched", &synced.restored), ("stored", &synced.stored), ("removed", &synced.removed)]
    {
        paths.iter().for_each(|path| outln!("{label:<10} {}", printable(path)));
    }
    if synced.removals_held_back > 0 {
        outln!(
            "held back  {} files vanished from the store; \
             `agent-tools session sync {id} --confirm-removals` removes them here",
            synced.removals_held_back
        );
    }
    synced.pending.iter().for_each(|group| outln!("pending    {group}"));
    synced.skipped.iter().for_each(|note| outln!("skipped    {note}"));
    for ConflictNote { relative_path, kept_as, .. } in &synced.conflicts {
        outln!("conflict   {}: kept as {}", printable(relative_path), printable(kept_as));
    }
    synced.problems.iter().for_each(|problem| errln!("agent-tools: warning: {problem}"));
    if let Some(count) = synced.stored_again {
        let files = if count == 1 { "1 file" } else { &format!("{count} files") };
        outln!("stored again  {files}");
    } else if synced.is_idle() {
        outln!("nothing to do");
    }
}
