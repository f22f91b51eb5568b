//! The subcommand `session list`.

use std::process::ExitCode;
use std::time::SystemTime;

use agent_tools::{LocalState, PendingGroup, SessionOverview, SessionOwner, UserId};
use serde::Serialize;

use super::close::size;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
use crate::times::{age, utc};

/// A session in the list. The first fields are those of `session show`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    user: Option<String>,
    directory: String,
    state: LocalState,
    leftover: Option<String>,
    created: Option<String>,
    last_used: Option<String>,
    bytes: u64,
    files: u64,
    /// `null` if the process that holds the session does not answer.
    pending: Option<Vec<PendingGroup>>,
    owner: Option<SessionOwner>,
}

impl From<&SessionOverview> for Row {
    fn from(found: &SessionOverview) -> Self {
        let status = found.status.as_ref();
        let time = |time: Option<SystemTime>| {
            time.map(|time| humantime::format_rfc3339_seconds(time).to_string())
        };
        Self {
            id: found.id.to_string(),
            user: found.user.as_ref().map(ToString::to_string),
            directory: found.dir.to_string_lossy().into_owned(),
            state: found.state,
            leftover: found.leftover.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            created: time(found.created),
            last_used: time(found.last_used),
            bytes: found.bytes,
            files: found.files,
            pending: status.map(|status| PendingGroup::group(&status.pending)),
            owner: status.and_then(|status| status.owner.clone()),
        }
    }
}

pub(super) async fn run(
    context: &Context,
    user: Option<&UserId>,
    is_long: bool,
) -> Result<ExitCode, Failure> {
    let found = context.local_sessions()?.list(user).await.map_err(Failure::failed)?;
    let rows: Vec<Row> = found.iter().map(Row::from).collect();
    context.print(&rows, || {
        if is_long && !found.is_empty() {
            outln!("{}", columns(["SESSION", "USER", "USED", "SIZE", "PENDING", "OWNER", "STATE"]));
        }
        for session in &found {
            if is_long {
                outln!("{}", long(session).trim_end());
            } else {
                outln!("{}", short(session));
            }
        }
        if found.is_empty() {
            let of = user.map_or(String::new(), |user| format!(" of user {user}"));
            errln!("agent-tools: no session{of} is on this machine");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn short(session: &SessionOverview) -> String {
    let SessionOverview { id, state, leftover, .. } = session;
    match (state, leftover) {
        (LocalState::Complete, None) => id.to_string(),
        (LocalState::Closing, _) | (_, None) => format!("{id} ({state})"),
        (_, Some(_)) => format!("{id} ({state}; an earlier close left {id}~closing)"),
    }
}

fn long(session: &SessionOverview) -> String {
    let used = session.last_used.map_or_else(
        || "-".to_owned(),
        |used| used.elapsed().map_or_else(|_| utc(used), |elapsed| format!("{} ago", age(elapsed))),
    );
    let status = session.status.as_ref();
    let pending = status.map_or_else(|| "?".to_owned(), |status| status.pending.len().to_string());
    let owner = match status.map(|status| (&status.owner, status.is_taken_over)) {
        None => "?",
        Some((_, true)) => "another home",
        Some((Some(SessionOwner { home, .. }), false)) => home,
        Some((None, false)) => "none",
    };
    columns([
        session.id.as_str(),
        session.user.as_ref().map_or("-", UserId::as_str),
        &used,
        &size(session.bytes),
        &pending,
        owner,
        &session.state.to_string(),
    ])
}

fn columns([id, user, used, size, pending, owner, state]: [&str; 7]) -> String {
    format!("{id:<24} {user:<12} {used:<9} {size:>10} {pending:>7}  {owner:<36} {state}")
}
