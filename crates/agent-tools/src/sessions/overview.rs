//! The list of the sessions on this machine, with their ages and sizes.

use std::path::PathBuf;
use std::time::SystemTime;

use sandbox_core::internal::{blocking, tree_usage};
use sandbox_core::{SessionId, UserId};

use super::{SessionStatus, Sessions};
use crate::call_journal;
use crate::home::{Home, ListedSession, LocalState, StateDir, StateError};

/// A session on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOverview {
    /// The session.
    pub id: SessionId,
    /// The user who owns the session, if its state names one.
    pub user: Option<UserId>,
    /// The session directory.
    pub dir: PathBuf,
    /// The part of the session that is here.
    pub state: LocalState,
    /// The directory that an earlier close of the session has left, if there is one.
    pub leftover: Option<PathBuf>,
    /// The time at which the session came to this machine, if its state has it.
    pub created: Option<SystemTime>,
    /// The end of the last recorded call, or otherwise `created`.
    pub last_used: Option<SystemTime>,
    /// The space that the session directory takes on the disk, in bytes.
    pub bytes: u64,
    /// The number of files, directories and links below the session directory.
    pub files: u64,
    /// The session's place in the log, and its pending changes; `None` if the process that holds
    /// the session does not answer, if the session is incomplete, or if its state is damaged.
    pub status: Option<SessionStatus>,
}

impl Sessions {
    /// Describes the sessions on this machine, sorted by id; with a user, only that one's sessions.
    /// Opens none of them, and walks each session directory once.
    ///
    /// # Errors
    /// Returns [`StateError`] if the sessions cannot be listed.
    pub async fn list(&self, user: Option<&UserId>) -> Result<Vec<SessionOverview>, StateError> {
        let mut overviews = Vec::new();
        for listed in self.home().list()? {
            if user.is_some() && listed.user.as_ref() != user {
                continue;
            }
            overviews.push(self.overview(listed).await);
        }
        Ok(overviews)
    }

    async fn overview(&self, listed: ListedSession) -> SessionOverview {
        let (created, last_used) = ages(self.home(), &listed.id);
        let status = match listed.state {
            LocalState::Complete => {
                self.summary(&listed.id).await.ok().and_then(|summary| summary.status)
            }
            LocalState::Unclaimed => Some(SessionStatus::default()),
            _ => None,
        };
        let dir = listed.dir.clone();
        let (bytes, files) = blocking(move || tree_usage(&dir)).await.unwrap_or_default();
        let ListedSession { id, user, dir, state, leftover } = listed;
        SessionOverview { id, user, dir, state, leftover, created, last_used, bytes, files, status }
    }
}

/// Returns when a session came to this machine, and when it was used last.
pub(super) fn ages(home: &Home, id: &SessionId) -> (Option<SystemTime>, Option<SystemTime>) {
    let Some(state) = StateDir::existing(home, id) else { return (None, None) };
    let created = state.created();
    let called = call_journal::last_call(state.path());
    (created, called.max(created))
}
