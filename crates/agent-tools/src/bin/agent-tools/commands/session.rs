//! The subcommand `session`: listing, showing, syncing and closing sessions.

use std::process::ExitCode;

use agent_tools::{ConflictNote, FileNote, Pending, RemovalMode, SessionId};
use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions on this machine.
    List,
    /// Show a session's user, directory and pending changes.
    Show {
        /// The session.
        id: SessionId,
    },
    /// Fetch new objects from the store, then upload pending changes.
    Sync {
        /// The session.
        id: SessionId,
        /// Also delete the stored copies of files that were deleted in suspiciously large numbers.
        #[arg(long)]
        confirm_removals: bool,
    },
    /// Upload pending changes, then remove the session from this machine. Any machine can open it
    /// again.
    Close {
        /// The session.
        id: SessionId,
    },
    /// Fetch one object of the session's prefix into its directory.
    Pull {
        /// The session.
        id: SessionId,
        /// The object's key, such as user_local/sessions/default/report.pdf.
        key: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionSummary {
    id: String,
    user: Option<String>,
    directory: String,
    /// `null` if the process that holds the session does not answer.
    pending: Option<Vec<FileNote>>,
}

pub(crate) async fn run(context: &Context, command: SessionCommand) -> Result<ExitCode, Failure> {
    match command {
        SessionCommand::List => list(context).await,
        SessionCommand::Show { id } => show(context, &id).await,
        SessionCommand::Sync { id, confirm_removals } => sync(context, &id, confirm_removals).await,
        SessionCommand::Close { id } => close(context, &id).await,
        SessionCommand::Pull { id, key } => pull(context, &id, &key).await,
    }
    .map_err(Failure::into_failed)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let ids = context.home()?.sessions().map_err(Failure::failed)?;
    let ids: Vec<&str> = ids.iter().map(SessionId::as_str).collect();
    context.print(&ids, || ids.iter().for_each(|id| outln!("{id}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    let found = context.sessions()?.summary(id).await.map_err(Failure::failed)?;
    let notes = |pending: Vec<Pending>| {
        pending.iter().map(|change| FileNote::new(&change.path, &change.reason)).collect()
    };
    let summary = SessionSummary {
        id: id.to_string(),
        user: found.user.map(|user| user.to_string()),
        directory: found.dir.to_string_lossy().into_owned(),
        pending: found.pending.map(notes),
    };
    context.print(&summary, || {
        outln!("session    {}", summary.id);
        outln!("user       {}", summary.user.as_deref().unwrap_or("none"));
        outln!("directory  {}", summary.directory);
        match &summary.pending {
            Some(pending) => outln!("pending    {}", pending.len()),
            None => outln!("pending    unknown: the server of the session does not answer"),
        }
        for change in summary.pending.iter().flatten() {
            outln!("  {}: {}", change.relative_path, change.reason);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced {
    restored: Vec<String>,
    stored: Vec<String>,
    removed: Vec<String>,
    removals_held_back: usize,
    pending: Vec<FileNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<ConflictNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<FileNote>,
    problems: Vec<String>,
}

async fn sync(
    context: &Context,
    id: &SessionId,
    confirm_removals: bool,
) -> Result<ExitCode, Failure> {
    let files = context.sessions()?.files(id).await.map_err(Failure::failed)?;
    let fetched = files.refresh().await.map_err(Failure::failed)?;
    let removals = if confirm_removals { RemovalMode::ApplyAll } else { RemovalMode::HoldBackMany };
    let report = files.sync(removals).await.map_err(Failure::failed)?;
    let text = |path: &dyn std::fmt::Display| path.to_string();
    let synced = Synced {
        restored: fetched.restored.iter().map(|path| text(path)).collect(),
        stored: report
            .changed
            .iter()
            .filter(|file| file.key.is_some())
            .map(|file| text(&file.path))
            .collect(),
        removed: report.deleted.iter().map(|path| text(path)).collect(),
        removals_held_back: report.held_back.len(),
        pending: report
            .pending
            .iter()
            .map(|change| FileNote::new(&change.path, &change.reason))
            .collect(),
        conflicts: report
            .conflicts
            .iter()
            .map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as))
            .collect(),
        skipped: report
            .skipped
            .iter()
            .map(|skipped| FileNote::new(&skipped.path, &skipped.reason))
            .collect(),
        problems: fetched.problems(),
    };
    context.print(&synced, || {
        for (label, paths) in [
            ("fetched", &synced.restored),
            ("stored", &synced.stored),
            ("removed", &synced.removed),
        ] {
            paths.iter().for_each(|path| outln!("{label:<10} {path}"));
        }
        if synced.removals_held_back > 0 {
            outln!(
                "held back  {} removals; \
                 `agent-tools session sync {id} --confirm-removals` applies them",
                synced.removals_held_back
            );
        }
        for (label, notes) in [("pending", &synced.pending), ("skipped", &synced.skipped)] {
            for note in notes {
                outln!("{label:<10} {}: {}", note.relative_path, note.reason);
            }
        }
        for note in &synced.conflicts {
            outln!("conflict   {}: kept as {}", note.relative_path, note.kept_as);
        }
        synced.problems.iter().for_each(|problem| errln!("agent-tools: warning: {problem}"));
    })?;
    Ok(ExitCode::from(u8::from(!synced.pending.is_empty())))
}

async fn close(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    let lost = context.sessions()?.close(id).await.map_err(Failure::failed)?;
    let lost: Vec<FileNote> =
        lost.iter().map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect();
    context.print(&serde_json::json!({ "closed": id.as_str(), "skipped": lost }), || {
        outln!("closed {id}");
        for note in &lost {
            errln!("removed without a copy: {}: {}", note.relative_path, note.reason);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn pull(context: &Context, id: &SessionId, key: &str) -> Result<ExitCode, Failure> {
    let pulled = context
        .sessions()?
        .files(id)
        .await
        .map_err(Failure::failed)?
        .pull(key)
        .await
        .map_err(Failure::failed)?;
    let pulled = pulled.map(|path| path.to_string());
    context.print(&serde_json::json!({ "pulled": pulled }), || match &pulled {
        Some(path) => outln!("{path}"),
        None => outln!("nothing to fetch: the key is a directory marker"),
    })?;
    Ok(ExitCode::SUCCESS)
}
