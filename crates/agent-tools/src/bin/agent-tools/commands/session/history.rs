//! The subcommand `session history`.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use agent_tools::{
    HistoryChange, HistoryEntry, HistoryKind, HistoryObject, HistoryOrigin, RelativePath,
    SessionId, SessionSummary, Sessions, printable,
};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
use crate::signals::use_files;
use crate::similar;

pub(super) async fn run(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    path: Option<&RelativePath>,
) -> Result<ExitCode, Failure> {
    let entries = match read(sessions, id, path).await? {
        Some(entries) => entries,
        None => {
            use_files(sessions, id, async |files| {
                files.history(path).await.map_err(Failure::failed)
            })
            .await?
        }
    };
    let homes: HashSet<&str> =
        entries.iter().filter_map(|entry| entry.owned_by.as_deref()).collect();
    let several = homes.len() > 1;
    context.print(&entries, || {
        entries.iter().for_each(|entry| print(entry, several));
        match path {
            _ if !entries.is_empty() => {}
            Some(path) => {
                errln!("agent-tools: no retained entry changed {}", printable(path.as_str()));
            }
            None => errln!("agent-tools: the log of session {id} has no entry"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the log without opening the session, which another machine may have open. Returns `None`
/// if only opening can tell what is wrong.
async fn read(
    sessions: &Sessions,
    id: &SessionId,
    path: Option<&RelativePath>,
) -> Result<Option<Vec<HistoryEntry>>, Failure> {
    let SessionSummary { user, status, .. } =
        similar::found(sessions.home(), id, sessions.summary(id).await)?;
    let (Some(user), Some(status)) = (user, status) else { return Ok(None) };
    let Ok(view) = sessions.view(id, &user, None).await else { return Ok(None) };
    // Another store, or one that was emptied or set back.
    if view.entry() < status.entry {
        return Ok(None);
    }
    view.history(path).await.map(Some).map_err(Failure::failed)
}

/// Prints an entry, with its owner if several homes have owned the session or nothing changed.
fn print(entry: &HistoryEntry, several_homes: bool) {
    let HistoryEntry {
        number, time, changes, owned_by, is_release, is_snapshot, is_erased, ..
    } = entry;
    let notes = [
        owned_by
            .as_ref()
            .filter(|_| several_homes || changes.is_empty())
            .map(|home| format!("owned by home {}", printable(home))),
        is_release.then(|| "released".to_owned()),
        is_snapshot.then(|| "snapshot".to_owned()),
        is_erased.then(|| "session deleted".to_owned()),
    ];
    let notes: String = notes.into_iter().flatten().map(|note| format!(", {note}")).collect();
    outln!("entry {number}, {}{notes}", utc(*time));
    changes.iter().for_each(|change| outln!("  {}", describe(change)));
}

/// Renders a change, such as `changed   report.md (1204 bytes) by another program`.
fn describe(change: &HistoryChange) -> String {
    let kind = match change.kind {
        HistoryKind::Created => "created",
        HistoryKind::Changed => "changed",
        HistoryKind::Removed => "removed",
        _ => "other",
    };
    let detail = match (change.size, change.object) {
        (Some(1), _) => " (1 byte)".to_owned(),
        (Some(size), _) => format!(" ({size} bytes)"),
        (None, Some(HistoryObject::Directory)) => "/".to_owned(),
        (None, Some(HistoryObject::Symlink)) => " (symlink)".to_owned(),
        _ => String::new(),
    };
    let author = match change.origin {
        HistoryOrigin::External => " by another program",
        HistoryOrigin::Engine => " for a conflict",
        _ => "",
    };
    format!("{kind:<8} {}{detail}{author}", printable(&change.path))
}

/// Renders seconds since 1970, such as `2026-05-01T10:00:00Z`.
fn utc(seconds: i64) -> humantime::Rfc3339Timestamp {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds))
}
