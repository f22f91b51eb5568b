//! The one directory under which an embedder or the command keeps everything, and each session's
//! state in it.
//!
//! ```text
//! <home>/sessions/<session id>/   the session directory: all that a command may write to, and the model sees
//! <home>/state/<session id>/      whose session it is, what the store holds, which skills are installed
//! <home>/store/                   the default object store of the command
//! <home>/agent-tools.db           the default database of variables of the command
//! ```
//!
//! A session's commands can read and write the first and see nothing of the others.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox_core::{SessionId, UserId};
use serde::{Deserialize, Serialize};

/// How long an open waits for another process that has the session.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Where the state of sessions lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// Uses a directory, which is made when it is first needed, for its owner alone.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's own: `$XDG_DATA_HOME/agent-tools`, or `~/.local/share/agent-tools` (XDG Base
    /// Directory Specification 0.8). `None` where the user has no home directory.
    pub fn for_current_user() -> Option<Self> {
        let data =
            std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| {
            Some(std::env::home_dir()?.join(".local/share")).filter(|path| path.is_absolute())
        })?;
        Some(Self::new(data.join("agent-tools")))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory whose children are the session directories.
    pub fn sessions_root(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// The directory of one session.
    pub fn session_dir(&self, session: &SessionId) -> PathBuf {
        self.sessions_root().join(session.as_str())
    }

    fn state_dir(&self, session: &SessionId) -> PathBuf {
        self.path.join("state").join(session.as_str())
    }

    /// The sessions that have a directory here, in order.
    ///
    /// # Errors
    /// [`StateError`] when the directory cannot be listed.
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

/// What is remembered of a session on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    user: Option<String>,
}

/// The state of one session, out of its commands' reach, held by this process alone until it is
/// dropped.
#[derive(Debug)]
pub(crate) struct SessionState {
    dir: PathBuf,
    _lock: File,
}

impl SessionState {
    /// Takes a session's state over; waits for a moment when another process has it.
    pub(crate) async fn take(home: &Home, session: &SessionId) -> Result<Self, StateError> {
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
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StateError::InUse { session: session.clone() });
                }
                Err(TryLockError::Error(source)) => return Err(error("lock", &path)(source)),
            }
        }
    }

    /// Whose session it is; `None` when nobody's, or new.
    pub(crate) fn user(&self) -> Result<Option<UserId>, StateError> {
        let path = self.record_path();
        let damaged = || StateError::Damaged { path: path.clone() };
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| StateError::Io {
                operation: "read",
                path: path.clone(),
                source,
            })?,
        };
        let record: Record = serde_json::from_str(&text).map_err(|_| damaged())?;
        record.user.map(|user| UserId::parse(&user).map_err(|_| damaged())).transpose()
    }

    /// Notes whose session it is.
    ///
    /// A session belongs to one user for good: another one would be shown the first one's files.
    pub(crate) fn claim(
        &self,
        session: &SessionId,
        user: Option<&UserId>,
    ) -> Result<(), StateError> {
        let path = self.record_path();
        if path.exists() {
            let owner = self.user()?;
            return if owner.as_ref() == user {
                Ok(())
            } else {
                Err(StateError::WrongUser { session: session.clone() })
            };
        }
        let record = Record { user: user.map(|user| user.as_str().to_owned()) };
        let text = serde_json::to_string(&record).unwrap_or_default();
        let staged = self.dir.join("session.json.new");
        std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &path)).map_err(
            |source| {
                let _ = std::fs::remove_file(&staged);
                StateError::Io { operation: "write", path: path.clone(), source }
            },
        )
    }

    /// Forgets the owner, when the session has left this machine.
    pub(crate) fn disclaim(&self) -> Result<(), StateError> {
        let path = self.record_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { operation: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Where the mirror keeps what it knows of the store.
    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.dir.join("mirror")
    }

    /// Where it is kept which skills are installed.
    pub(crate) fn skills_dir(&self) -> PathBuf {
        self.dir.join("skills")
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join("session.json")
    }
}

/// Why the state of a session cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has the session open.
    #[error(
        "session {session} is in use by another process; wait until it is closed there, or take another session"
    )]
    InUse {
        /// The session.
        session: SessionId,
    },
    /// The session on this machine is another user's.
    #[error("session {session} belongs to another user; close it first, or take another session")]
    WrongUser {
        /// The session.
        session: SessionId,
    },
    /// A file of the state is not what was written there.
    #[error("{} is damaged; remove it if the session may be opened by any user again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
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
        let state = SessionState::take(&home, &session("s")).await.unwrap();
        state.claim(&session("s"), Some(&ann)).unwrap();
        state.claim(&session("s"), Some(&ann)).unwrap();
        assert!(matches!(
            state.claim(&session("s"), Some(&bob)),
            Err(StateError::WrongUser { .. })
        ));
        assert!(matches!(state.claim(&session("s"), None), Err(StateError::WrongUser { .. })));
        state.disclaim().unwrap();
        state.claim(&session("s"), Some(&bob)).unwrap();
        assert_eq!(state.user().unwrap(), Some(bob));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_holder_is_told_that_the_session_is_in_use() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let first = SessionState::take(&home, &session("s")).await.unwrap();
        // The lock belongs to the open file, so a second opening stands for another process.
        let id = session("s");
        let busy = SessionState::take(&home, &id);
        let busy = tokio::time::timeout(Duration::from_millis(100), busy).await;
        assert!(busy.is_err(), "it waits");
        drop(first);
        SessionState::take(&home, &session("s")).await.unwrap();
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
