//! Facts about a session that need no store.

use std::sync::Arc;

use sandbox_core::SessionDir;

use super::Parts;
use crate::builder::MirrorBuilder;
use crate::error::SyncError;
use crate::log::LogWriter;
use crate::mirror::Mirror;
use crate::mirror::shared::{Appender, Tenure};
use crate::report::{Pending, RestoreReport};
use crate::scan::ChangeSource;
use crate::state::{FormerIndex, Ledger, Stage, StateLock};

/// Reason of differences after an interrupted opening.
const UNDECIDED: &str = "an interrupted opening has fetched it, or a program has changed it; the \
                         next command decides";

/// State of a session on this machine, as its journal and its directory show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStatus {
    /// Number of the last entry of the session log that this machine knows.
    pub entry: u64,
    /// Owner of the session as of that entry; `None` if it was released.
    pub owner: Option<SessionOwner>,
    /// Set if this mirror knows that another home took the session over since.
    pub is_taken_over: bool,
    /// Changes that the store does not have.
    pub pending: Vec<Pending>,
    /// Differences that the next opening decides about: an interrupted one has fetched or removed
    /// them, or programs have changed them.
    pub undecided: Vec<Pending>,
}

/// Home that owns a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOwner {
    /// Id of the home.
    pub home: String,
    /// Number of the entry with which it became the owner.
    pub epoch: u64,
    /// Address of the home, if it has one.
    pub url: Option<String>,
}

impl MirrorBuilder {
    /// Describes the session from its journal and its directory. Sends no request, and changes
    /// nothing but modes that a killed process left behind.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the state cannot be used or another mirror has it open, and
    /// [`SyncError::File`] if the directory cannot be opened.
    pub fn inspect(mut self) -> Result<LocalStatus, SyncError> {
        let state_dir = self.take_state_dir()?;
        let opened = StateLock::take(&state_dir).and_then(|mut lock| {
            lock.record_modes(&self.dir)?;
            Ledger::open(lock, self.keys.log.as_ref())
        });
        let mut ledger = opened.map_err(|(path, source)| SyncError::Index { path, source })?;
        if ledger.stage() != Stage::Open
            && let Ok(Some(former)) = FormerIndex::read(&state_dir)
        {
            ledger.assume(&former);
        }
        self.change_source = ChangeSource::Walks;
        let dir = Arc::new(SessionDir::open(&self.dir)?);
        let log = self.log();
        let remote = Arc::new(self.remote());
        let deadline = self.deadline;
        let writer = LogWriter::unproven(log.clone(), ledger.position());
        let appender = Appender { writer, sent: None, own: None };
        let parts = Parts { settings: self, remote, log };
        let fetcher = parts.fetcher(&dir);
        let (shared, _) = parts.shared(dir, fetcher, ledger, appender, Tenure::Free);
        let mirror = Mirror {
            shared,
            opened: RestoreReport::default(),
            deadline,
            uploads: Default::default(),
            retries: Default::default(),
            releases: None,
        };
        Ok(mirror.status())
    }
}

impl Mirror {
    /// Describes the session like [`MirrorBuilder::inspect`]. Blocks while it scans the directory.
    pub fn status(&self) -> LocalStatus {
        let is_taken_over = self.is_lost();
        let mut pending = self.pending();
        let ledger = self.shared.ledger();
        let mut undecided = Vec::new();
        if ledger.was_interrupted() {
            let is_known = |path: &str| ledger.failure(path).is_some() || ledger.is_claimed(path);
            (pending, undecided) =
                pending.into_iter().partition(|change| is_known(change.path.as_str()));
            undecided.iter_mut().for_each(|change| change.reason = UNDECIDED.to_owned());
        }
        let owner = ledger.log().owner.as_ref().map(|owner| SessionOwner {
            home: owner.home.clone(),
            epoch: owner.epoch,
            url: owner.url.clone(),
        });
        let entry = ledger.position().number;
        LocalStatus { entry, owner, is_taken_over, pending, undecided }
    }

    /// Returns the error with which the next call would fail.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another process owns the session now, and
    /// [`SyncError::Closing`] while the mirror is being closed.
    pub fn check(&self) -> Result<(), SyncError> {
        self.shared.access.check(&self.shared.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_send<T: Send>(future: T) -> T {
        future
    }

    /// Callers spawn these futures, so this must compile.
    #[expect(dead_code, reason = "compiling it is the test")]
    async fn futures_can_be_sent(builder: MirrorBuilder, mirror: &Mirror) {
        let _ = check_send(builder.open()).await;
        let _ = check_send(mirror.refresh()).await;
        let _ = check_send(mirror.sync()).await;
        let _ = check_send(mirror.pull_key("")).await;
        let _ = check_send(mirror.erase()).await;
    }
}
