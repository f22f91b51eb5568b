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
//! A session's commands can read and write the session directory. They cannot see the rest, and no
//! policy can show them `state/`.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sandbox_core::internal::lock;
use sandbox_core::{SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::error_kind::ErrorKind;

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

    /// Returns the parent of the state of all sessions, which no session can see.
    pub fn state_root(&self) -> PathBuf {
        self.path.join("state")
    }

    fn state_dir(&self, session: &SessionId) -> PathBuf {
        self.state_root().join(session.as_str())
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

/// The directory with the state of one session, which its commands cannot reach.
#[derive(Debug)]
pub(crate) struct StateDir {
    session: SessionId,
    path: PathBuf,
    fd: File,
}

impl StateDir {
    /// Opens the directory. Creates it first if it is absent.
    pub(crate) fn create(home: &Home, session: &SessionId) -> Result<Self, StateError> {
        let path = home.state_dir(session);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(StateError::io("create", &path))?;
        let fd = File::open(&path).map_err(StateError::io("open", &path))?;
        Ok(Self { session: session.clone(), path, fd })
    }

    pub(crate) fn try_clone(&self) -> Result<Self, StateError> {
        let fd = self.fd.try_clone().map_err(StateError::io("open", &self.path))?;
        Ok(Self { session: self.session.clone(), path: self.path.clone(), fd })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the process that holds the lock, as far as it is known.
    pub(crate) fn holder(&self) -> Option<u32> {
        std::fs::read_to_string(self.lock_path()).ok()?.trim().parse().ok()
    }

    /// Returns whether the session is on this machine.
    pub(crate) fn is_claimed(&self) -> bool {
        self.ownership_path().exists()
    }

    /// Returns the user who owns the session; `None` if it has no user or is new.
    pub(crate) fn user(&self) -> Result<Option<UserId>, StateError> {
        let path = self.ownership_path();
        let damaged = || StateError::Damaged { path: path.clone() };
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StateError::io("read", &path))?,
        };
        let ownership: Ownership = serde_json::from_str(&text).map_err(|_| damaged())?;
        ownership.user.map(|user| UserId::parse(&user).map_err(|_| damaged())).transpose()
    }

    fn ownership_path(&self) -> PathBuf {
        self.path.join("session.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The state of one session, locked against other processes until dropped or unlocked.
#[derive(Debug)]
pub(crate) struct SessionState {
    dir: StateDir,
    lock: Mutex<Option<File>>,
}

impl SessionState {
    /// Locks a session's state. Returns `None` if it is locked already.
    pub(crate) fn try_lock(dir: StateDir) -> Result<Option<Self>, StateError> {
        let path = dir.lock_path();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StateError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(StateError::Io { operation: "lock", path, source });
            }
        }
        // The text always has the same length, because truncating the file takes longer.
        let holder = format!("{:10}\n", std::process::id());
        file.write_all_at(holder.as_bytes(), 0).map_err(StateError::io("write", &path))?;
        Ok(Some(Self { dir, lock: Mutex::new(Some(file)) }))
    }

    /// Unlocks the state before this value is dropped.
    pub(crate) fn unlock(&self) {
        lock(&self.lock).take();
    }

    pub(crate) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Returns the user who owns the session; `None` if it has no user or is new.
    pub(crate) fn user(&self) -> Result<Option<UserId>, StateError> {
        self.dir.user()
    }

    /// Records the user who owns the session.
    ///
    /// A session never changes its owner: a second user would see the first user's files.
    pub(crate) fn claim(
        &self,
        session: &SessionId,
        user: Option<&UserId>,
    ) -> Result<(), StateError> {
        let path = self.dir.ownership_path();
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
        let staged = self.dir.path.join("session.json.new");
        std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &path)).map_err(
            |source| {
                let _ = std::fs::remove_file(&staged);
                StateError::Io { operation: "write", path: path.clone(), source }
            },
        )
    }

    /// Deletes the record of the owner after the session has left this machine.
    pub(crate) fn disclaim(&self) -> Result<(), StateError> {
        let path = self.dir.ownership_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { operation: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Returns the directory of the mirror's index.
    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.dir.path.join("mirror")
    }

    /// Returns the directory of the records of installed skills.
    pub(crate) fn skills_dir(&self) -> PathBuf {
        self.dir.path.join("skills")
    }
}

/// Errors returned when the state of sessions is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process holds the session and does not serve it.
    #[error(
        "session {session} is in use by {}, which does not answer; \
         wait until that process ends, or use another session",
        match pid {
            Some(pid) => format!("process {pid}"),
            None => "another process".to_owned(),
        }
    )]
    InUse {
        /// The session.
        session: SessionId,
        /// The process, if it is known.
        pid: Option<u32>,
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
    pub(crate) fn in_use(session: &SessionId, pid: Option<u32>) -> Self {
        Self::InUse { session: session.clone(), pid }
    }

    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

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

    fn try_lock(home: &Home) -> Option<SessionState> {
        SessionState::try_lock(StateDir::create(home, &session("s")).unwrap()).unwrap()
    }

    #[test]
    fn a_session_belongs_to_its_first_user_until_it_leaves() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let state = try_lock(&home).unwrap();
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

    #[test]
    fn the_lock_separates_two_open_files_of_one_process_and_names_the_holder() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let first = try_lock(&home).unwrap();
        assert!(try_lock(&home).is_none());
        assert_eq!(first.dir().holder(), Some(std::process::id()));
        first.unlock();
        let second = try_lock(&home).unwrap();
        assert!(try_lock(&home).is_none());
        drop(second);
        try_lock(&home).unwrap();
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
