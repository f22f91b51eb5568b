//! The state of one session: its lock, its owner, and the directory of its journal.

use std::fs::{DirEntry, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use sandbox_core::internal::{ModeRecords, lock, remove_tree};
use sandbox_core::{SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::{Home, StateError, write_to_disk};

/// The name of the lock file.
const LOCK: &str = "lock";
/// The maximum number of state directories that may disappear while this process locks one.
const MAX_DELETED: usize = 1000;

/// The content of `session.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ownership {
    user: Option<String>,
}

/// The directory with the state of one session, which its commands cannot reach.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    fd: File,
}

impl StateDir {
    /// Opens the directory. Creates it first if it is absent.
    pub(crate) fn create(home: &Home, session: &SessionId) -> Result<Self, StateError> {
        let path = home.state_dir(session);
        let mut attempts = 0;
        loop {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(StateError::io("create", &path))?;
            match File::open(&path) {
                Ok(fd) => return Ok(Self { path, fd }),
                // A process that closes the session has deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < MAX_DELETED => {
                    attempts += 1;
                }
                Err(error) => return Err(StateError::io("open", &path)(error)),
            }
        }
    }

    /// Opens the directory; `None` if it is absent.
    pub(crate) fn existing(home: &Home, session: &SessionId) -> Option<Self> {
        let path = home.state_dir(session);
        Some(Self { fd: File::open(&path).ok()?, path })
    }

    pub(crate) fn try_clone(&self) -> Result<Self, StateError> {
        let fd = self.fd.try_clone().map_err(StateError::io("open", &self.path))?;
        Ok(Self { path: self.path.clone(), fd })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the time at which the session came to this machine.
    pub(crate) fn created(&self) -> Option<SystemTime> {
        self.ownership_path().metadata().ok()?.modified().ok()
    }

    /// Returns the time since a file was created in the directory, or removed from it.
    pub(crate) fn unused_for(&self) -> Option<Duration> {
        self.path.metadata().ok()?.modified().ok()?.elapsed().ok()
    }

    /// Removes files that a killed process was writing, if they are older than `age`. Returns their
    /// number.
    pub(crate) fn remove_unfinished(&self, age: Duration, is_dry_run: bool) -> usize {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return 0 };
        let is_unfinished = |entry: &DirEntry| {
            let is_old = entry.metadata().is_ok_and(|metadata| {
                let modified = metadata.modified().ok().and_then(|time| time.elapsed().ok());
                metadata.is_file() && modified.is_some_and(|time| time >= age)
            });
            is_old && Path::new(&entry.file_name()).extension().is_some_and(|end| end == "new")
        };
        let unfinished = entries.filter_map(Result::ok).filter(is_unfinished);
        unfinished.filter(|entry| is_dry_run || std::fs::remove_file(entry.path()).is_ok()).count()
    }

    /// Creates a file without a name, which ends with its descriptor.
    pub(crate) fn unnamed_file(&self) -> Result<File, StateError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| StateError::io("create", &self.path)(io::Error::other(error)))?;
        let path = self.path.join(format!("{:016x}.new", u64::from_ne_bytes(random)));
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).clone();
        let file = options.open(&path).map_err(StateError::io("create", &path))?;
        std::fs::remove_file(&path).map_err(StateError::io("remove", &path))?;
        Ok(file)
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

    /// Returns the directory of the mirror's journal.
    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.path.join("mirror")
    }

    fn ownership_path(&self) -> PathBuf {
        self.path.join("session.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Locks the state.
    fn try_lock(self) -> Result<Locking, StateError> {
        let path = self.lock_path();
        let file = match File::options().create(true).truncate(false).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Locking::Deleted);
            }
            other => other.map_err(StateError::io("open", &path))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Locking::Held),
            Err(TryLockError::Error(source)) => {
                return Err(StateError::Io { operation: "lock", path, source });
            }
        }
        if !is_at(&file, &path) || !is_at(&self.fd, &self.path) {
            return Ok(Locking::Deleted);
        }
        // The text always has the same length, because truncating the file takes longer.
        let holder = format!("{:10}\n", std::process::id());
        file.write_all_at(holder.as_bytes(), 0).map_err(StateError::io("write", &path))?;
        Ok(Locking::Locked(SessionState {
            dir: self,
            modes: Mutex::default(),
            lock: Mutex::new(Some(file)),
        }))
    }
}

/// Returns whether an open file is the one that has this path now.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The result of locking a state directory.
enum Locking {
    Locked(SessionState),
    /// Another open file holds the lock.
    Held,
    /// The directory or its lock file was deleted meanwhile.
    Deleted,
}

/// The state of one session, locked against other processes until dropped or unlocked.
#[derive(Debug)]
pub(crate) struct SessionState {
    dir: StateDir,
    /// Ends before the lock.
    modes: Mutex<Option<ModeRecords>>,
    lock: Mutex<Option<File>>,
}

impl SessionState {
    /// Locks a session's state. Returns `None` if it is locked already.
    pub(crate) fn try_lock(home: &Home, session: &SessionId) -> Result<Option<Self>, StateError> {
        for _ in 0..MAX_DELETED {
            match StateDir::create(home, session)?.try_lock()? {
                Locking::Locked(state) => return Ok(Some(state)),
                Locking::Held => return Ok(None),
                Locking::Deleted => {}
            }
        }
        Ok(None)
    }

    /// Unlocks the state before this value is dropped.
    pub(crate) fn unlock(&self) {
        lock(&self.modes).take();
        lock(&self.lock).take();
    }

    /// Restores the modes that a killed process left in a session directory without a mirror, and
    /// records changes of modes there until the state is unlocked.
    pub(crate) fn record_modes(&self, session_dir: &Path) -> Result<(), StateError> {
        let records = ModeRecords::begin(session_dir, self.dir.path.join("modes"));
        let failed =
            |(path, source)| StateError::Io { operation: "restore modes by", path, source };
        *lock(&self.modes) = Some(records.map_err(failed)?);
        Ok(())
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
        write_to_disk(&staged, &text).and_then(|()| std::fs::rename(&staged, &path)).map_err(
            |source| {
                let _ = std::fs::remove_file(&staged);
                StateError::Io { operation: "write", path: path.clone(), source }
            },
        )
    }

    /// Deletes the state after the session has left this machine. The lock file goes last, so no
    /// other process sees a part of the state. The lock itself stays until it is unlocked.
    pub(crate) fn delete(&self) -> Result<(), StateError> {
        let path = &self.dir.path;
        let entries = match std::fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StateError::io("list", path))?,
        };
        for entry in entries {
            let entry = entry.map_err(StateError::io("list", path))?;
            if entry.file_name() == LOCK {
                continue;
            }
            let path = entry.path();
            remove_tree(&path).map_err(|error| StateError::io("remove", &path)(error.into()))?;
        }
        let lock = self.dir.lock_path();
        absent(std::fs::remove_file(&lock)).map_err(StateError::io("remove", &lock))?;
        // The next user of the session may have created another lock file.
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => absent(other).map_err(StateError::io("remove", path)),
        }
    }

    /// Returns the directory of the records of installed skills.
    pub(crate) fn skills_dir(&self) -> PathBuf {
        self.dir.path.join("skills")
    }
}

/// Accepts that a removed file was absent already.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_kind::ErrorKind;

    fn session(id: &str) -> SessionId {
        SessionId::parse(id).unwrap()
    }

    fn try_lock(home: &Home) -> Option<SessionState> {
        SessionState::try_lock(home, &session("s")).unwrap()
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
        state.delete().unwrap();
        drop(state);
        let state = try_lock(&home).unwrap();
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
    fn deleting_the_state_leaves_nothing_and_the_next_lock_begins_anew() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let state = try_lock(&home).unwrap();
        testkit::write_file(&state.dir().mirror_dir(), "journal", "x");
        testkit::write_file(state.dir().path(), "token", "x");
        state.delete().unwrap();
        assert!(!state.dir().path().exists());
        // The deleted lock file is still locked, but excludes no process any more.
        let next = try_lock(&home).unwrap();
        assert!(try_lock(&home).is_none());
        drop((state, next));
    }

    #[test]
    fn a_lock_file_that_was_deleted_meanwhile_is_not_a_lock() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::new(home.path());
        let closing = try_lock(&home).unwrap();
        let waiting = StateDir::create(&home, &session("s")).unwrap();
        closing.delete().unwrap();
        closing.unlock();
        // Another process has opened the session again under the same paths.
        let next = try_lock(&home).unwrap();
        next.unlock();
        assert!(matches!(waiting.try_lock().unwrap(), Locking::Deleted));
        let gone = StateDir::create(&home, &session("s")).unwrap();
        next.delete().unwrap();
        assert!(matches!(gone.try_lock().unwrap(), Locking::Deleted));
    }
}
