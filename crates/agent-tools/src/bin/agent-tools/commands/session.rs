//! The subcommand `session`: sessions and the history of their files.

mod close;
mod garbage;
mod history;
mod list;
mod network;
mod restore;
mod sync;

use std::io::IsTerminal;
use std::process::ExitCode;

use agent_tools::{
    LocalState, PendingGroup, RelativePath, SessionId, SessionOwner, SessionStatus, Sessions,
    UserId,
};
use clap::Subcommand;
use clap::builder::TypedValueParser as _;
use serde::Serialize;

pub(crate) use self::close::Closed;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::{WaitArgs, session_path};
use crate::output::outln;
use crate::signals::use_files;
use crate::similar;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions on this machine: at a terminal with user, age, size, pending changes and
    /// owner, and otherwise by their ids.
    #[command(after_help = "Examples:\n  $ agent-tools session list\n  \
                            $ agent-tools session list --user ann --long\n  \
                            $ agent-tools session list --json")]
    List {
        /// List only the sessions of this user.
        #[arg(long, value_name = "ID")]
        user: Option<UserId>,
        /// Show user, time since the last call, size, pending changes and owner.
        #[arg(short, long)]
        long: bool,
    },
    /// Show a session's user, directory, owner, place in its log, and pending changes.
    Show {
        /// Id of the session.
        id: SessionId,
        /// Show the connections of the session instead, with their bytes and durations.
        #[arg(long)]
        network: bool,
    },
    /// Adopt what other programs changed in the store, then upload pending changes.
    Sync {
        /// Id of the session.
        id: SessionId,
        /// Also remove files whose objects vanished from the store in suspiciously large numbers.
        #[arg(long)]
        confirm_removals: bool,
        /// Store the files of this machine again if the store has lost the session.
        #[arg(long)]
        refill: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Upload pending changes, then remove the session from this machine. Any machine can open it
    /// again.
    ///
    /// Prints the files that have no copy in the store. If a file that should have one has none,
    /// the session stays.
    #[command(after_help = "Examples:\n  $ agent-tools session close other\n  \
                            $ agent-tools session close --user ann")]
    Close {
        /// Id of the session.
        #[arg(required_unless_present = "user")]
        id: Option<SessionId>,
        /// User who must own the session. Without an id, all sessions of this user are closed.
        #[arg(long, value_name = "ID")]
        user: Option<UserId>,
        /// Also delete files that have no copy in the store.
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List the retained entries of a session's log, the newest first, and what each changed.
    History {
        /// Id of the session.
        id: SessionId,
        /// List only changes of this file, or of files below this directory.
        #[arg(value_parser = session_path().try_map(path))]
        path: Option<RelativePath>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Restore a file to its content as of an entry of the log.
    Restore {
        /// Id of the session.
        id: SessionId,
        /// File, relative to the session directory.
        #[arg(value_parser = session_path().try_map(path))]
        path: RelativePath,
        /// Number of the entry, as `session history` lists it.
        #[arg(long, value_name = "ENTRY")]
        at: u64,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Bring back removed files: those of the newest removal, or these paths.
    Undelete {
        /// Id of the session.
        id: SessionId,
        /// Removed files and directories, relative to the session directory.
        #[arg(value_parser = session_path().try_map(path))]
        paths: Vec<RelativePath>,
        /// Bring back what this entry of the log removed.
        #[arg(long, value_name = "ENTRY", conflicts_with = "paths")]
        removed_by: Option<u64>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete from the store what was superseded longer ago than --retention.
    Gc {
        /// Id of the session.
        id: SessionId,
        /// Report what would be deleted, and delete nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete a session everywhere, with its history. This cannot be undone. The next session of
    /// the same id is empty.
    Delete {
        /// Id of the session, which must be on this machine.
        id: SessionId,
        /// Do not ask for a confirmation.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Fetch one object of the store into the session directory.
    Pull {
        /// Id of the session.
        id: SessionId,
        /// Key of the object, such as user_local/sessions/default/report.pdf.
        key: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub(crate) async fn run(context: &Context, command: SessionCommand) -> Result<ExitCode, Failure> {
    match command {
        SessionCommand::List { user, long } => {
            let is_long = long || std::io::stdout().is_terminal();
            list::run(context, user.as_ref(), is_long).await
        }
        SessionCommand::Show { id, network: true } => network::show(context, &id).await,
        SessionCommand::Show { id, network: false } => show(context, &id).await,
        SessionCommand::Sync { id, confirm_removals, refill, wait } => {
            sync::run(context, &id, confirm_removals, refill, wait).await
        }
        SessionCommand::History { id, path, wait } => {
            history::run(&context.patient_sessions(wait)?, context, &id, path.as_ref()).await
        }
        SessionCommand::Restore { id, path, at, wait } => {
            restore::restore(&context.patient_sessions(wait)?, context, &id, &path, at).await
        }
        SessionCommand::Undelete { id, paths, removed_by, wait } => {
            let sessions = context.patient_sessions(wait)?;
            restore::undelete(&sessions, context, &id, paths, removed_by).await
        }
        SessionCommand::Gc { id, dry_run, wait } => {
            garbage::run(&context.patient_sessions(wait)?, context, &id, dry_run).await
        }
        SessionCommand::Close { id, user, discard, wait } => {
            close::run(context, id, user.as_ref(), discard, wait).await
        }
        SessionCommand::Delete { id, yes, wait } => {
            close::delete(&context.patient_sessions(wait)?, context, &id, yes).await
        }
        SessionCommand::Pull { id, key, wait } => {
            pull(&context.patient_sessions(wait)?, context, &id, &key).await
        }
    }
    .map_err(Failure::into_failed)
}

/// Parses a path below the session directory. That of a directory may end with a slash.
fn path(text: String) -> Result<RelativePath, String> {
    let path = text.trim_end_matches('/');
    RelativePath::parse(if path.is_empty() { &text } else { path })
        .map_err(|error| agent_tools::with_causes(&error))
}

/// The part of a session that the list has too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    user: Option<String>,
    directory: String,
    state: LocalState,
    /// The directory that an earlier close has left.
    leftover: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    owner: Option<SessionOwner>,
    entry: Option<u64>,
    /// `null` if the process that holds the session does not answer.
    pending: Option<Vec<PendingGroup>>,
    /// True if this machine knows that another home took the session over since `entry`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    taken_over: bool,
    /// Differences of an interrupted opening, or of programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undecided: Vec<PendingGroup>,
}

async fn show(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    let found = context.local_sessions()?.summary(id).await;
    let found = similar::found(&context.home()?, id, found)?;
    let status = found.status.as_ref();
    let shown = Shown {
        listed: Listed {
            id: id.to_string(),
            user: found.user.map(|user| user.to_string()),
            directory: found.dir.to_string_lossy().into_owned(),
            state: found.state,
            leftover: found.leftover.map(|dir| dir.to_string_lossy().into_owned()),
        },
        owner: status.and_then(|status| status.owner.clone()),
        entry: status.map(|status| status.entry),
        pending: status.map(|status| PendingGroup::group(&status.pending)),
        taken_over: status.is_some_and(|status| status.is_taken_over),
        undecided: PendingGroup::group(status.map_or(&[], |status| &status.undecided)),
    };
    context.print(&shown, || {
        let Listed { id, user, directory, state, leftover } = &shown.listed;
        outln!("session    {id}");
        outln!("user       {}", user.as_deref().unwrap_or("none"));
        outln!("directory  {}", agent_tools::printable(directory));
        if let Some(leftover) = leftover {
            let leftover = agent_tools::printable(leftover);
            outln!("leftover   {leftover}; the next close removes what an earlier one left there");
        }
        match (status, state) {
            (Some(status), _) => {
                print_status(status, shown.pending.as_deref().unwrap_or_default());
                shown.undecided.iter().for_each(|group| outln!("undecided  {group}"));
            }
            (None, LocalState::Restoring) => {
                outln!("restore    not finished; the next command in the session continues it");
            }
            (None, LocalState::Closing) => {
                outln!("close      not finished; the next close or command finishes it");
            }
            (None, _) => outln!("pending    unknown: the server of the session does not answer"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print_status(status: &SessionStatus, pending: &[PendingGroup]) {
    match &status.owner {
        _ if status.is_taken_over => {
            outln!("owner      another home, which took the session over after this entry");
        }
        Some(SessionOwner { home, epoch, url, .. }) => {
            let at = url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
            let known = status.entry;
            outln!("owner      home {home}{at}, since entry {epoch} (known as of entry {known})");
        }
        None => outln!("owner      none"),
    }
    outln!("entry      {}", status.entry);
    outln!("pending    {}", status.pending.len());
    pending.iter().for_each(|group| outln!("  {group}"));
}

async fn pull(
    sessions: &Sessions,
    context: &Context,
    id: &SessionId,
    key: &str,
) -> Result<ExitCode, Failure> {
    let pulled =
        use_files(sessions, id, async |files| files.pull(key).await.map_err(Failure::failed))
            .await?;
    let pulled = pulled.map(|path| path.to_string());
    context.print(&serde_json::json!({ "pulled": pulled }), || match &pulled {
        Some(path) => outln!("{}", agent_tools::printable(path)),
        None => outln!("nothing to fetch: the key is a directory marker"),
    })?;
    Ok(ExitCode::SUCCESS)
}
