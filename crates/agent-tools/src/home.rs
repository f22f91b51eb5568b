//! The home: the directory that holds all sessions of an embedder or the command, and their state.
//!
//! ```text
//! <home>/sessions/<session id>/   the session directory, which commands read and write
//! <home>/state/<session id>/      the owner, the journal of the log, the installed skills, and the
//!                                 records of calls (`calls.jsonl`) and of connections
//!                                 (`network.jsonl`)
//! <home>/id                       the name under which this home owns sessions in a store
//! <home>/probes.json              detected properties of stores
//! <home>/cache/skills/             downloaded files of skills, shared by all sessions
//! <home>/store/                   the command's default object store
//! <home>/agent-tools.db           the command's default database of variables
//! ```
//!
//! A session's commands can read and write the session directory. They cannot see the rest, and a
//! policy can show them other session directories only. A directory `<session id>~restoring` or
//! `~closing` beside that of a session is incomplete; no session id contains `~`.

mod error;
mod listing;
mod reported;
mod state;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use artifact_sync::internal::store_directory;
use artifact_sync::{HomeId, SyncError};
use policy::Policy;
use sandbox_core::SessionId;

use crate::call_journal::{self, CallRecord};
use crate::network::{NetworkEvent, read_journal};
use crate::workspace::WorkspaceError;

pub use self::error::StateError;
pub use self::listing::{ListedSession, LocalState};
pub(crate) use self::state::{SessionState, StateDir};

/// The end of the name of a directory in which a restore was interrupted or is under way.
const RESTORING: &str = "~restoring";

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

    /// Returns the parent of the certificates of each process, which no session can see.
    pub(crate) fn trust_root(&self) -> PathBuf {
        self.path.join("trust")
    }

    /// Returns the directory of downloaded skills, which all sessions share.
    pub fn skill_cache(&self) -> PathBuf {
        self.path.join("cache/skills")
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

    /// Returns the directory of the state of one session.
    pub(crate) fn state_dir(&self, session: &SessionId) -> PathBuf {
        self.state_root().join(session.as_str())
    }

    /// Returns the records of a session's connections, oldest first, also while another process
    /// serves the session. The files hold the last 1 to 2 MiB.
    ///
    /// # Errors
    /// Returns [`StateError`] if a file cannot be read.
    pub fn network_events(&self, session: &SessionId) -> Result<Vec<NetworkEvent>, StateError> {
        let dir = self.state_dir(session);
        read_journal(&dir).map_err(StateError::io("read connections in", &dir))
    }

    /// Returns the records of a session's calls that have ended, oldest first, also while another
    /// process serves the session. The files hold the last 1 to 2 MiB. Calls that only inspect
    /// files by [`Session::stat`](crate::Session::stat) and the like are not recorded.
    ///
    /// # Errors
    /// Returns [`StateError`] if a file cannot be read.
    pub fn calls(&self, session: &SessionId) -> Result<Vec<CallRecord>, StateError> {
        let dir = self.state_dir(session);
        call_journal::read(&dir).map_err(StateError::io("read calls in", &dir))
    }

    /// Returns whether a session has state on this machine.
    pub(crate) fn has_state(&self, session: &SessionId) -> bool {
        self.state_dir(session).exists()
    }

    /// Returns the directory in which an interrupted restore of a session waits.
    pub(crate) fn restoring_dir(&self, session: &SessionId) -> PathBuf {
        self.sessions_root().join(format!("{session}{RESTORING}"))
    }

    /// Returns whether files of a session are here, if only those of an interrupted restore.
    pub(crate) fn has_files(&self, session: &SessionId) -> bool {
        self.has_place_taken(session) || self.is_half_restored(session)
    }

    /// Returns whether only an interrupted restore of a session is here.
    pub(crate) fn is_half_restored(&self, session: &SessionId) -> bool {
        !self.has_place_taken(session) && self.restoring_dir(session).exists()
    }

    /// Returns whether anything is in the place of a session directory, if only a dangling symlink.
    pub(crate) fn has_place_taken(&self, session: &SessionId) -> bool {
        self.session_dir(session).symlink_metadata().is_ok()
    }

    /// Hides the home from the commands of a policy. No rule shows anything of it, except those for
    /// directories of sessions.
    #[must_use]
    pub fn hide_from(&self, policy: Policy) -> Policy {
        let (home, sessions) = (canonical(self.path.clone()), canonical(self.sessions_root()));
        policy.seal_except(&home, &sessions)
    }

    /// Returns an error if a store is a directory in which this home keeps sessions or their state.
    ///
    /// # Errors
    /// Returns [`WorkspaceError::StoreAmongSessions`].
    pub fn check_store(&self, url: &str) -> Result<(), WorkspaceError> {
        store_directory(url).map_or(Ok(()), |dir| self.check_store_directory(dir))
    }

    /// Like [`Home::check_store`], for the path of a directory, which need not exist.
    pub(crate) fn check_store_directory(&self, dir: PathBuf) -> Result<(), WorkspaceError> {
        let store = canonical(dir);
        let roots = [self.sessions_root(), self.state_root()].map(canonical);
        match roots.into_iter().find(|root| store.starts_with(root)) {
            Some(root) => Err(WorkspaceError::StoreAmongSessions { store, root }),
            None => Ok(()),
        }
    }

    /// Returns the identity under which this home owns sessions in a store. Creates it once.
    ///
    /// # Errors
    /// Returns [`SyncError`] if the file with the identity cannot be read or written.
    pub(crate) fn id(&self) -> Result<HomeId, SyncError> {
        // If the directory cannot be created, neither can the file.
        let _ = self.create();
        HomeId::load_or_create(&self.path.join("id"))
    }

    /// Creates the home and the parent of all session directories, readable by its owner only.
    pub(crate) fn create(&self) -> Result<(), StateError> {
        let root = self.sessions_root();
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
        created.map_err(StateError::io("create", &root))
    }

    /// Creates and removes a directory in the home, or in the nearest directory above it that
    /// exists, to check that sessions can be created.
    ///
    /// # Errors
    /// Returns [`StateError`] if it cannot be created or removed.
    pub fn check_writable(&self) -> Result<(), StateError> {
        let dir = self.path.ancestors().find(|dir| dir.symlink_metadata().is_ok());
        let dir = dir.unwrap_or(&self.path);
        let probe = dir.join(format!(".agent-tools-{}~check", std::process::id()));
        std::fs::create_dir(&probe).map_err(StateError::io("write to", dir))?;
        std::fs::remove_dir(&probe).map_err(StateError::io("remove", &probe))
    }

    /// Returns the sessions that have a directory in this home, sorted. Those whose restore was
    /// interrupted are among them, and those whose close was interrupted are not; see
    /// [`Home::list`].
    ///
    /// # Errors
    /// Returns [`StateError`] if the directory cannot be listed.
    pub fn sessions(&self) -> Result<Vec<SessionId>, StateError> {
        let here = self.list()?.into_iter().filter(|listed| listed.state != LocalState::Closing);
        Ok(here.map(|listed| listed.id).collect())
    }
}

/// Returns the canonical form of a path. The path may not exist yet, and its parents may be
/// symlinks.
pub(crate) fn canonical(path: PathBuf) -> PathBuf {
    let existing =
        path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above.to_owned())));
    match existing {
        Some((canonical, above)) if above == path => canonical,
        Some((canonical, above)) => canonical.join(path.strip_prefix(above).unwrap_or(&path)),
        None => path,
    }
}

/// Writes a file that a loss of power must not cut off after it gets its name.
pub(crate) fn write_to_disk(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str) -> SessionId {
        SessionId::parse(id).unwrap()
    }

    #[test]
    fn sessions_are_listed_by_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert_eq!(home.sessions().unwrap(), []);
        for name in ["b", "a", "not an id", "c~restoring", "a~restoring", "d~closing"] {
            std::fs::create_dir_all(home.sessions_root().join(name)).unwrap();
        }
        let expected = ["a", "b", "c"].map(session);
        assert_eq!(home.sessions().unwrap(), expected);
        let state = home.state_dir(&session("b"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("session.json"), r#"{"user":"ann"}"#).unwrap();
        let listed = home.list().unwrap();
        let states: Vec<_> = listed.iter().map(|listed| listed.state).collect();
        use LocalState::{Closing, Complete, Restoring, Unclaimed};
        assert_eq!(states, [Unclaimed, Complete, Restoring, Closing]);
        assert_eq!(listed[1].user.as_ref().unwrap().as_str(), "ann");
        assert!(!home.has_state(&session("a")), "listing creates nothing");
    }
}
