//! The description of a session that is on this machine.

use std::path::PathBuf;

use artifact_sync::{LocalStatus, Pending};
use sandbox_core::{SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::opener::Opener;
use crate::home::{LocalState, StateDir};
use crate::sharing::{Claim, ReportStatus, visit};
use crate::workspace::{Workspace, WorkspaceError};

/// The description of a session that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionSummary {
    /// The user who owns the session.
    pub user: Option<UserId>,
    /// The session directory.
    pub dir: PathBuf,
    /// The part of the session that is here.
    pub state: LocalState,
    /// The directory that an earlier close of the session has left, if there is one.
    pub leftover: Option<PathBuf>,
    /// The session's place in the log; `None` if the process that holds the session does not
    /// answer.
    pub status: Option<SessionStatus>,
}

/// A session's place in its log, and the changes that are not in the store yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The number of the last log entry that this machine knows; 0 without a store.
    pub entry: u64,
    /// The owner as of that entry; `None` without a store, or if the session was released.
    pub owner: Option<SessionOwner>,
    /// True if this machine knows that another home took the session over since.
    pub is_taken_over: bool,
    /// The changes that are not in the store yet, with reasons.
    pub pending: Vec<Pending>,
    /// The differences that the next command decides about, because an opening was interrupted.
    pub undecided: Vec<Pending>,
}

/// The home that owns a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionOwner {
    /// The id of the home.
    pub home: String,
    /// The number of the log entry with which it became the owner.
    pub epoch: u64,
    /// The address of the home, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl From<LocalStatus> for SessionStatus {
    fn from(status: LocalStatus) -> Self {
        let LocalStatus { entry, owner, is_taken_over, pending, undecided, .. } = status;
        let owner = owner.map(|artifact_sync::SessionOwner { home, epoch, url, .. }| {
            SessionOwner { home, epoch, url }
        });
        Self { entry, owner, is_taken_over, pending, undecided }
    }
}

/// Describes a session from the files of its state, and asks the process that serves it, if there
/// is one.
pub(super) async fn summary(
    opener: &Opener,
    id: &SessionId,
) -> Result<SessionSummary, WorkspaceError> {
    let home = &opener.settings.home;
    let path = home.session_dir(id);
    let Some(state) = home.local_state(id) else {
        return Err(WorkspaceError::NoSession { id: id.clone(), path });
    };
    let dir = StateDir::create(home, id)?;
    let (user, leftover) = (dir.user()?, home.leftover(id));
    if matches!(state, LocalState::Restoring | LocalState::Closing) {
        return Ok(SessionSummary { user, dir: path, state, leftover, status: None });
    }
    let status = match visit(&dir, id).await? {
        Some(client) => client.call(&ReportStatus {}).await.ok(),
        None => match Claim::try_new(home, id)? {
            Some(Claim { state, door: _door }) => {
                Some(Workspace::inspect(home, opener.backends(), &state, id).await?)
            }
            None => None,
        },
    };
    Ok(SessionSummary { user, dir: path, state, leftover, status })
}
