//! `session`: what is on this machine, and ending it.

use std::process::ExitCode;

use agent_tools::{FileNote, RemovalMode, SessionId};
use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions that are on this machine.
    List,
    /// Show one session: its user, its directory, and what is not in the store yet.
    Show {
        /// The session.
        id: SessionId,
    },
    /// Make a session's directory and the store equal: fetch what is new, upload what is pending.
    Sync {
        /// The session.
        id: SessionId,
        /// Also carry out removals that were held back because they were so many at one time.
        #[arg(long)]
        confirm_removals: bool,
    },
    /// Upload what is pending, then remove the session from this machine; it can be opened again
    /// anywhere.
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
struct Shown {
    id: String,
    user: Option<String>,
    directory: String,
    pending: Vec<FileNote>,
}

pub(crate) async fn run(context: &Context, command: SessionCommand) -> Result<ExitCode, Failure> {
    match command {
        SessionCommand::List => list(context).await,
        SessionCommand::Show { id } => show(context, &id).await,
        SessionCommand::Sync { id, confirm_removals } => sync(context, &id, confirm_removals).await,
        SessionCommand::Close { id } => close(context, &id).await,
        SessionCommand::Pull { id, key } => pull(context, &id, &key).await,
    }
    .map_err(Failure::plain)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let ids = context.home()?.sessions().map_err(Failure::new)?;
    let ids: Vec<&str> = ids.iter().map(SessionId::as_str).collect();
    context.print(&ids, || ids.iter().for_each(|id| println!("{id}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    let workspace = context.sessions()?.workspace(id).await.map_err(Failure::new)?;
    let pending = workspace.pending();
    let shown = Shown {
        id: id.to_string(),
        user: workspace.user().map(ToString::to_string),
        directory: workspace.dir().to_string_lossy().into_owned(),
        pending: pending.iter().map(|change| FileNote::new(&change.path, &change.reason)).collect(),
    };
    context.print(&shown, || {
        println!("session    {}", shown.id);
        println!("user       {}", shown.user.as_deref().unwrap_or("none"));
        println!("directory  {}", shown.directory);
        println!("pending    {}", shown.pending.len());
        for change in &shown.pending {
            println!("  {}: {}", change.relative_path, change.reason);
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
    problems: Vec<String>,
}

async fn sync(
    context: &Context,
    id: &SessionId,
    confirm_removals: bool,
) -> Result<ExitCode, Failure> {
    let workspace = context.sessions()?.workspace(id).await.map_err(Failure::new)?;
    let fetched = workspace.refresh().await.map_err(Failure::new)?;
    let removals = if confirm_removals { RemovalMode::ApplyAll } else { RemovalMode::HoldBackMany };
    let report = workspace.sync(removals).await.map_err(Failure::new)?;
    let text = |path: &dyn std::fmt::Display| path.to_string();
    let synced = Synced {
        restored: fetched.restored.iter().map(|path| text(path)).collect(),
        stored: report
            .changed
            .iter()
            .filter(|it| it.key.is_some())
            .map(|it| text(&it.path))
            .collect(),
        removed: report.deleted.iter().map(|path| text(path)).collect(),
        removals_held_back: report.held_back.len(),
        pending: report
            .pending
            .iter()
            .map(|change| FileNote::new(&change.path, &change.reason))
            .collect(),
        problems: fetched.problems(),
    };
    context.print(&synced, || {
        for (what, paths) in [
            ("fetched", &synced.restored),
            ("stored", &synced.stored),
            ("removed", &synced.removed),
        ] {
            paths.iter().for_each(|path| println!("{what:<10} {path}"));
        }
        if synced.removals_held_back > 0 {
            println!(
                "held back  {} removals; --confirm-removals carries them out",
                synced.removals_held_back
            );
        }
        synced
            .pending
            .iter()
            .for_each(|note| println!("pending    {}: {}", note.relative_path, note.reason));
        synced.problems.iter().for_each(|problem| eprintln!("agent-tools: warning: {problem}"));
    })?;
    Ok(ExitCode::from(u8::from(!synced.pending.is_empty())))
}

async fn close(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    let lost = context.sessions()?.close(id).await.map_err(Failure::new)?;
    let lost: Vec<FileNote> =
        lost.iter().map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect();
    context.print(&serde_json::json!({ "closed": id.as_str(), "skipped": lost }), || {
        println!("closed {id}");
        for note in &lost {
            eprintln!("removed without a copy: {}: {}", note.relative_path, note.reason);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn pull(context: &Context, id: &SessionId, key: &str) -> Result<ExitCode, Failure> {
    let pulled = context
        .sessions()?
        .workspace(id)
        .await
        .map_err(Failure::new)?
        .pull(key)
        .await
        .map_err(Failure::new)?;
    let pulled = pulled.map(|path| path.to_string());
    context.print(&serde_json::json!({ "pulled": pulled }), || match &pulled {
        Some(path) => println!("{path}"),
        None => println!("nothing to fetch: the key is a directory marker"),
    })?;
    Ok(ExitCode::SUCCESS)
}
