//! The home: the directory that holds all sessions of an embedder or the command, and their state.
//!
//! ```text
//! <home>/sessions/<session id>/   the session directory, which commands read and write
//! <home>/state/<session id>/      the owner, the index of the store and the installed skills
//! <home>/probes.json              detected properties of stores
//! <home>/store/                   the command's default object store
//! <home>/agent-tools.db           the command's default database of variables
//! ```
//!
//! A session's commands can read and write the session directory. They cannot see the rest.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox_core::{SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::error_kind::ErrorKind;

/// The time that opening a session waits for another process to release it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The directory under which sessions and their state live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// Uses a directory. The first session creates it, readable by its owner only.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the current user's home: `$XDG_DATA_HOME/agent-tools`, or
    /// `~/.local/share/agent-tools` (XDG Base Directory Specification 0.8). Returns `None` if the
    /// user has no home directory.
    pub fn for_current_user() -> Option<Self> {
        let data =
            std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| {
            Some(std::env::home_dir()?.join(".local/share")).filter(|path| path.is_absolute())
        })?;
        Some(Self::new(data.join("agent-tools")))
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file of the stores' detected properties.
    pub(crate) fn probe_file(&self) -> PathBuf {
        self.path.join("probes.json")
    }

    /// Returns the parent of all session directories.
    pub fn sessions_root(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// Returns the directory of one session.
    pub fn session_dir(&self, session: &SessionId) -> PathBuf {
        self.sessions_root().join(session.as_str())
    }

    fn state_dir(&self, session: &SessionId) -> PathBuf {
        self.path.join("state").join(session.as_str())
    }

    /// Returns the sessions that have a directory in this home, sorted.
    ///
    /// # Errors
    /// Returns [`StateError`] if the directory cannot be listed.
    pub fn sessions(&self) -> Result<Vec<SessionId>, StateError> {
        let root = self.sessions_root();
        let error = |source| StateError::Io { operation: "list", path: root.clone(), source };
        let entries = match std::fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(error)?,
        };
        let mut sessions = Vec::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            sessions.extend(name.to_str().and_then(|name| SessionId::parse(name).ok()));
        }
        sessions.sort();
        Ok(sessions)
    }
}

/// The content of `session.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ownership {
    user: Option<String>,
}

/// The state of one session, which its commands cannot reach. Locked against other processes until
/// dropped.
#[derive(Debug)]
pub(crate) struct SessionState {
    dir: PathBuf,
    _lock: File,
}

impl SessionState {
    /// Locks a session's state. Waits up to [`LOCK_TIMEOUT`] for another process.
    pub(crate) async fn acquire(home: &Home, session: &SessionId) -> Result<Self, StateError> {
        let dir = home.state_dir(session);
        let error = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { operation, path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(error("create", &dir))?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(error("open", &path))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { dir, _lock: lock }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_TIMEOUT => {
                    tokio::time::sleep(LOCK_POLL_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StateError::InUse { session: session.clone() });
                }
                Err(TryLockError::Error(source)) => return Err(error("lock", &path)(source)),
            }
        }
    }

    /// Returns the user who owns the session; `None` if it has no user or is new.
    pub(crate) fn user(&self) -> Result<Option<UserId>, StateError> {
        let path = self.ownership_path();
        let damaged = || StateError::Damaged { path: path.clone() };
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| StateError::Io {
                operation: "read",
                path: path.clone(),
                source,
            })?,
        };
        let ownership: Ownership = serde_json::from_str(&text).map_err(|_| damaged())?;
        ownership.user.map(|user| UserId::parse(&user).map_err(|_| damaged())).transpose()
    }

    /// Records the user who owns the session.
    ///
    /// A session never changes its owner: a second user would see the first user's files.
    pub(crate) fn claim(
        &self,
        session: &SessionId,
        user: Option<&UserId>,
    ) -> Result<(), StateError> {
        let path = self.ownership_path();
        if path.exists() {
            let owner = self.user()?;
            return if owner.as_ref() == user {
                Ok(())
            } else {
                Err(StateError::WrongUser { session: session.clone() })
            };
        }
        let ownership = Ownership { user: user.map(|user| user.as_str().to_owned()) };
        let text = serde_json::to_string(&ownership).unwrap_or_default();
        let staged = self.dir.join("session.json.new");
        std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &path)).map_err(
            |source| {
                let _ = std::fs::remove_file(&staged);
                StateError::Io { operation: "write", path: path.clone(), source }
            },
        )
    }

    /// Deletes the record of the owner after the session has left this machine.
    pub(crate) fn disclaim(&self) -> Result<(), StateError> {
        let path = self.ownership_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { operation: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Returns the directory of the mirror's index.
    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.dir.join("mirror")
    }

    /// Returns the directory of the records of installed skills.
    pub(crate) fn skills_dir(&self) -> PathBuf {
        self.dir.join("skills")
    }

    fn ownership_path(&self) -> PathBuf {
        self.dir.join("session.json")
    }
}

/// Errors returned when the state of sessions is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has the session open.
    #[error(
        "session {session} is in use by another process; \
         wait until that process ends, or use another session"
    )]
    InUse {
        /// The session.
        session: SessionId,
    },
    /// The session on this machine belongs to another user.
    #[error("session {session} belongs to another user; close it first, or use another session")]
    WrongUser {
        /// The session.
        session: SessionId,
    },
    /// A file of the state has invalid content.
    #[error("{} is damaged; remove it to let any user open the session", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation, such as `read`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl StateError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::InUse,
            Self::WrongUser { .. } => ErrorKind::Denied,
            Self::Damaged { .. } | Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str) -> SessionId {
        SessionId::parse(id).unwrap()
    }

    #[tokio::test]
    async fn a_session_belongs_to_its_first_user_until_it_leaves() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let state = SessionState::acquire(&home, &session("s")).await.unwrap();
        state.claim(&session("s"), Some(&ann)).unwrap();
        state.claim(&session("s"), Some(&ann)).unwrap();
        assert!(matches!(
            state.claim(&session("s"), Some(&bob)),
            Err(StateError::WrongUser { .. })
        ));
        let error = state.claim(&session("s"), None).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, false));
        state.disclaim().unwrap();
        state.claim(&session("s"), Some(&bob)).unwrap();
        assert_eq!(state.user().unwrap(), Some(bob));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_process_waits_for_the_session() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let first = SessionState::acquire(&home, &session("s")).await.unwrap();
        // The lock belongs to the open file, so a second open file acts like another process.
        let id = session("s");
        let busy = SessionState::acquire(&home, &id);
        let busy = tokio::time::timeout(Duration::from_millis(100), busy).await;
        assert!(busy.is_err(), "it waits");
        drop(first);
        SessionState::acquire(&home, &session("s")).await.unwrap();
    }

    #[test]
    fn sessions_are_listed_by_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert_eq!(home.sessions().unwrap(), []);
        for name in ["b", "a", "not an id"] {
            std::fs::create_dir_all(home.sessions_root().join(name)).unwrap();
        }
        assert_eq!(home.sessions().unwrap(), [session("a"), session("b")]);
    }
}
