//! The subcommands `session close` and `session delete`.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use agent_tools::{
    CloseMode, CloseReport, ConflictNote, ErrorKind, FileNote, IgnoredContent, ListedSession,
    LocalState, Pending, PendingGroup, SessionId, Sessions, UserId, printable,
};

use crate::context::Context;
use crate::failure::Failure;
use crate::options::WaitArgs;
use crate::output::{errln, outln};
use crate::similar;

/// Closes one session, or all sessions of a user.
pub(super) async fn run(
    context: &Context,
    id: Option<SessionId>,
    user: Option<&UserId>,
    discard: bool,
    wait: WaitArgs,
) -> Result<ExitCode, Failure> {
    let listed = context.home()?.list().map_err(Failure::failed)?;
    let is_of_user = |listed: &&ListedSession| listed.user.as_ref() == user;
    let Some(id) = id else {
        if let Some(user) = user
            && !listed.iter().any(|listed| is_of_user(&listed))
        {
            return Err(Failure::failed_text(format!(
                "no session of user {user} is on this machine; `agent-tools session list` shows \
                 the existing ones"
            )));
        }
        let mut failed = 0;
        let mut results = Vec::new();
        for ListedSession { id, .. } in listed.iter().filter(is_of_user) {
            match close(context, id, discard, wait).await {
                Ok(closed) => {
                    if !context.prints_json() {
                        closed.print();
                    }
                    results.push(closed.result);
                }
                Err(failure) => {
                    failed += 1;
                    failure.report();
                    results.push(serde_json::json!({
                        "id": id.as_str(), "error": failure.message(),
                    }));
                }
            }
        }
        context.print(&results, || ())?;
        return Ok(ExitCode::from(u8::from(failed > 0)));
    };
    if let Some(user) = user
        && let Some(found) = listed.iter().find(|listed| listed.id == id)
        && !is_of_user(&found)
    {
        return Err(Failure::failed_text(format!("session {id} does not belong to user {user}")));
    }
    let closed = close(context, &id, discard, wait).await?;
    context.print(&closed.result, || closed.print())?;
    Ok(ExitCode::SUCCESS)
}

/// A session that was closed.
pub(crate) struct Closed {
    id: SessionId,
    ignored: Vec<IgnoredContent>,
    skipped: Vec<FileNote>,
    discarded: Vec<PendingGroup>,
    conflicts: Vec<ConflictNote>,
    /// The result as JSON.
    result: serde_json::Value,
}

impl Closed {
    pub(crate) fn new(id: &SessionId, report: CloseReport) -> Self {
        let CloseReport { ignored, skipped, discarded, conflicts, .. } = report;
        let skipped: Vec<FileNote> =
            skipped.iter().map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect();
        let discarded = PendingGroup::group(&discarded);
        let result = serde_json::json!({
            "closed": id.as_str(),
            "ignored": ignored,
            "skipped": skipped,
            "discarded": discarded,
            "conflicts": conflicts,
        });
        Self { id: id.clone(), ignored, skipped, discarded, conflicts, result }
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns the result as JSON.
    pub(crate) fn result(&self) -> &serde_json::Value {
        &self.result
    }

    pub(crate) fn print(&self) {
        let Self { id, ignored, skipped, discarded, conflicts, result: _ } = self;
        outln!("closed {id}");
        for ignored in ignored {
            let copy = if ignored.has_stored_version {
                "removed, the store has a version of it"
            } else {
                "removed without a copy"
            };
            errln!("{copy}: {}", text_of(ignored));
        }
        skipped.iter().for_each(|note| errln!("removed without a copy: {note}"));
        discarded.iter().for_each(|group| errln!("discarded: {group}"));
        conflicts.iter().for_each(|conflict| errln!("{conflict}"));
    }
}

async fn close(
    context: &Context,
    id: &SessionId,
    discard: bool,
    wait: WaitArgs,
) -> Result<Closed, Failure> {
    let mode = if discard { CloseMode::Discard } else { CloseMode::KeepPending };
    let (sessions, unstored) = match context.sessions_builder() {
        // The store is not needed to delete what is here.
        Err(_) if discard => {
            (Sessions::builder(context.home()?).build(), unstored(context, id).await)
        }
        sessions => (wait.apply(sessions?).build(), None),
    };
    let closing = sessions.close_with(id, mode);
    let closed = context.bars().during("closing", closing).await;
    let mut closed = match closed {
        Ok(closed) => closed,
        Err(error) => {
            let is_absent = error.kind() == ErrorKind::NotFound;
            let failure = Failure::failed(error);
            return Err(match is_absent {
                true => similar::with_question(&context.home()?, id, failure),
                false => failure,
            });
        }
    };
    if let Some(unstored) = unstored {
        closed.discarded = unstored;
    }
    Ok(Closed::new(id, closed))
}

/// Returns the changes that the store does not have, as far as this machine knows.
async fn unstored(context: &Context, id: &SessionId) -> Option<Vec<Pending>> {
    let found = context.local_sessions().ok()?.summary(id).await.ok()?;
    let status = found.status.filter(|_| found.user.is_some())?;
    (found.state == LocalState::Complete).then_some(status.pending)
}

/// Renders ignored content, such as `node_modules (1,204 files, 12.5 MB): a rule ignores it`.
fn text_of(ignored: &IgnoredContent) -> String {
    let IgnoredContent { relative_path, reason, files, bytes, is_complete, .. } = ignored;
    let at_least = if *is_complete { "" } else { "at least " };
    let files = match files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    format!("{} ({at_least}{files}, {}): {reason}", printable(relative_path), size(*bytes))
}

#[expect(clippy::cast_precision_loss, reason = "one decimal place is shown")]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

pub(super) async fn delete(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    yes: bool,
) -> Result<ExitCode, Failure> {
    let found = similar::found(&context.home()?, id, sessions.summary(id).await)?;
    let user = found.user.map(|user| format!(" of user {user}")).unwrap_or_default();
    if !yes && !confirm(&format!("delete session {id}{user} everywhere, with its history?"))? {
        return Err(Failure::failed_text(format!("session {id} was not deleted")));
    }
    context.bars().during("deleting", sessions.delete(id)).await.map_err(Failure::failed)?;
    context.print(&serde_json::json!({ "deleted": id.as_str() }), || outln!("deleted {id}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a question at the terminal.
fn confirm(question: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::usage("deleting a session needs --yes if no terminal can confirm it"));
    }
    errln!("agent-tools: {question} Type yes to confirm.");
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(Failure::failed)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_place_and_a_unit() {
        for (bytes, expected) in
            [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (12_540_000, "12.5 MB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
