//! Removal of old sessions, and of remains of killed processes, from this machine.

use std::time::{Duration, SystemTime};

use std::sync::Arc;

use sandbox_core::{SessionId, UserId, with_causes};

use super::Sessions;
use super::files::SessionFiles;
use super::overview::ages;
use crate::home::{LocalState, StateDir, StateError};
use crate::sharing::Claim;
use crate::workspace::CloseReport;

/// The age from which a file of a killed process is a remain.
const REMAIN_AGE: Duration = Duration::from_secs(60 * 60);

/// The sessions that [`Sessions::prune`] closes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// The time without a call after which a session is closed; `None` closes none.
    pub unused_for: Option<Duration>,
    /// The user whose sessions are closed; `None` stands for all users.
    pub user: Option<UserId>,
    /// True to report what would be closed and removed, and to remove nothing. The changes of old
    /// sessions are stored all the same, because a session stays if they cannot be.
    pub is_dry_run: bool,
}

/// The report of [`Sessions::prune`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// The sessions that were closed, with what was deleted without a copy in the store, such as
    /// files that a rule ignores. In a dry run, these would be closed.
    pub closed: Vec<(SessionId, CloseReport)>,
    /// The sessions that are old and stay, with reasons, such as a process that has one open.
    pub kept: Vec<(SessionId, String)>,
    /// The sessions that could not be closed or removed, with the errors, such as that of a store
    /// that cannot be reached. A repeated call tries again.
    pub failed: Vec<(SessionId, String)>,
    /// The sessions whose interrupted close was finished.
    pub finished: Vec<SessionId>,
    /// The number of state directories and files that killed processes had left.
    pub remains: usize,
}

impl Sessions {
    /// Closes sessions that were not used for a time, finishes interrupted closes, and removes the
    /// remains of killed processes from the state. Nothing that is pending is deleted: a session
    /// that has something the store does not have stays, and so does one that is open.
    ///
    /// # Errors
    /// Returns [`StateError`] if the sessions cannot be listed.
    ///
    /// # Cancel safety
    /// Some sessions may be closed. A repeated call continues.
    pub async fn prune(&self, options: &PruneOptions) -> Result<PruneReport, StateError> {
        let mut report = PruneReport::default();
        let now = SystemTime::now();
        for listed in self.home().list()? {
            if options.user.is_some() && listed.user != options.user {
                continue;
            }
            let id = listed.id;
            if listed.state == LocalState::Closing {
                let closed = if options.is_dry_run { Ok(()) } else { self.finish_close(&id).await };
                match closed {
                    Ok(()) => report.finished.push(id),
                    Err(error) => report.failed.push((id, error)),
                }
                continue;
            }
            let (_, last_used) = ages(self.home(), &id);
            let age = last_used.and_then(|used| now.duration_since(used).ok());
            let Some(unused_for) = options.unused_for else { continue };
            match (listed.state, age) {
                (LocalState::Complete, Some(age)) if age >= unused_for => {
                    match self.close_unused(&id, options.is_dry_run).await {
                        Ok(Some(closed)) => report.closed.push((id, closed)),
                        Ok(None) => report.kept.push((id, "a process has it open".to_owned())),
                        Err(error) => report.failed.push((id, error)),
                    }
                }
                (LocalState::Unclaimed, _) => {
                    let reason = "it has no state, so its files may belong to a person";
                    report.kept.push((id, reason.to_owned()));
                }
                (LocalState::Restoring, Some(age)) if age >= unused_for => {
                    report.kept.push((id, "its restore is not finished".to_owned()));
                }
                _ => {}
            }
        }
        self.remove_remains(options.is_dry_run, &mut report)?;
        Ok(report)
    }

    async fn finish_close(&self, id: &SessionId) -> Result<(), String> {
        self.close(id).await.map(drop).map_err(|error| with_causes(&error))
    }

    /// Closes a session, or returns `None` if a process has it open. No process can open it
    /// meanwhile.
    async fn close_unused(
        &self,
        id: &SessionId,
        is_dry_run: bool,
    ) -> Result<Option<CloseReport>, String> {
        // A process that is busy would let this call wait.
        match Claim::try_new(self.home(), id).map_err(|error| with_causes(&error))? {
            Some(claim) => drop(claim),
            None => return Ok(None),
        }
        let files = SessionFiles::open(Arc::clone(&self.opener), id).await;
        let files = files.map_err(|error| with_causes(&error))?;
        let Some(closed) = files.close_unshared(is_dry_run).await else { return Ok(None) };
        if is_dry_run || closed.is_err() {
            // Another machine can open what stays here.
            files.release().await;
        }
        closed.map(Some).map_err(|error| with_causes(&error))
    }

    /// Removes state of which nothing else is here, and files that a killed process was writing.
    fn remove_remains(&self, is_dry_run: bool, report: &mut PruneReport) -> Result<(), StateError> {
        let home = self.home();
        for id in home.sessions_with_state()? {
            let has_files = home.has_files(&id) || home.closing_dir(&id).exists();
            // Taking the lock changes the age.
            let age = StateDir::existing(home, &id).and_then(|dir| dir.unused_for());
            if !has_files && age.is_none_or(|age| age < REMAIN_AGE) {
                continue;
            }
            let Claim { state, door: _door } = match Claim::try_new(home, &id) {
                Ok(Some(claim)) => claim,
                // It is in use.
                Ok(None) => continue,
                Err(error) => {
                    report.failed.push((id, with_causes(&error)));
                    continue;
                }
            };
            if has_files {
                report.remains += state.dir().remove_unfinished(REMAIN_AGE, is_dry_run);
            } else {
                let deleted = if is_dry_run { Ok(()) } else { state.delete() };
                match deleted {
                    Ok(()) => report.remains += 1,
                    Err(error) => report.failed.push((id, with_causes(&error))),
                }
            }
            state.unlock();
        }
        Ok(())
    }
}
