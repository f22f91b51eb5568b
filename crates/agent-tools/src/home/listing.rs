//! The list of the sessions of a home.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use sandbox_core::{SessionId, UserId};
use serde::Serialize;

use super::{Home, RESTORING, StateDir, StateError};

/// The end of the name of a directory whose removal was interrupted or is under way.
const CLOSING: &str = "~closing";

/// A session of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedSession {
    /// The session.
    pub id: SessionId,
    /// The user who owns the session, if its state names one.
    pub user: Option<UserId>,
    /// The session directory, which is absent unless the session is complete.
    pub dir: PathBuf,
    /// The part of the session that is here.
    pub state: LocalState,
    /// The directory that an earlier close of the session has left, if there is one.
    pub leftover: Option<PathBuf>,
}

/// The part of a session that is on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LocalState {
    /// The session directory, with the state.
    Complete,
    /// Part of the files. A restore is under way, or was interrupted; the next command in the
    /// session continues it.
    Restoring,
    /// Part of the files. A close is under way, or was interrupted; the next close or the next
    /// command in the session finishes it.
    Closing,
    /// A directory without state, which a person may have made. The next command in the session
    /// begins with its files.
    Unclaimed,
}

impl fmt::Display for LocalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Restoring => "restore not finished",
            Self::Closing => "close not finished",
            Self::Unclaimed => "no state",
        })
    }
}

impl Home {
    /// Returns all sessions of which something is in this home, sorted. Opens none of them.
    ///
    /// # Errors
    /// Returns [`StateError`] if the directory cannot be listed.
    pub fn list(&self) -> Result<Vec<ListedSession>, StateError> {
        let root = self.sessions_root();
        let error = |source| StateError::Io { operation: "list", path: root.clone(), source };
        let entries = match std::fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(error)?,
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = [RESTORING, CLOSING].iter().find_map(|end| name.strip_suffix(end));
            ids.extend(SessionId::parse(id.unwrap_or(name)));
        }
        let listed = ids.into_iter().filter_map(|id| {
            let state = self.local_state(&id)?;
            let user = StateDir::existing(self, &id).and_then(|dir| dir.user().ok()?);
            let (dir, leftover) = (self.session_dir(&id), self.leftover(&id));
            Some(ListedSession { user, dir, state, leftover, id })
        });
        Ok(listed.collect())
    }

    /// Returns the sessions that have state in this home, sorted.
    pub(crate) fn sessions_with_state(&self) -> Result<BTreeSet<SessionId>, StateError> {
        let root = self.state_root();
        let error = |source| StateError::Io { operation: "list", path: root.clone(), source };
        let entries = match std::fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(error)?,
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            ids.extend(name.to_str().and_then(|name| SessionId::parse(name).ok()));
        }
        Ok(ids)
    }

    /// Returns the part of a session that is here; `None` if nothing is.
    pub(crate) fn local_state(&self, id: &SessionId) -> Option<LocalState> {
        if self.has_place_taken(id) {
            let is_claimed = StateDir::existing(self, id).is_some_and(|dir| dir.is_claimed());
            Some(if is_claimed { LocalState::Complete } else { LocalState::Unclaimed })
        } else if self.restoring_dir(id).exists() {
            Some(LocalState::Restoring)
        } else {
            self.closing_dir(id).exists().then_some(LocalState::Closing)
        }
    }

    /// Returns the directory that an earlier close of a session has left.
    pub(crate) fn leftover(&self, id: &SessionId) -> Option<PathBuf> {
        Some(self.closing_dir(id)).filter(|dir| dir.exists())
    }

    /// Returns the directory in which the rest of an interrupted removal of a session waits.
    pub(crate) fn closing_dir(&self, session: &SessionId) -> PathBuf {
        self.sessions_root().join(format!("{session}{CLOSING}"))
    }
}
