//! The checks of a session after a command, and while commands run.
//!
//! 1. Files at denied paths are quarantined, whatever process has created them.
//! 2. If commands have created watched names, the policy is reapplied.
//! 3. The sandbox ends, with the reason, if that fails, if a file at a denied path could not be
//!    moved aside, or if not every directory was searched.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::{Access, LaterFiles, Unenforced, UnenforcedReason, Zone};

use super::closed::closed_directories;
use super::indexes::Flawed;
use super::outstanding::{Began, Scope};
use super::quarantine::clear;
use super::refresh::{Mounts, NOT_REFRESHED, warn_not_refreshed};
use crate::internal::{blocking, lock};
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// Reasons for which the engine ends a session.
const NOT_SEARCHED: &str =
    "a command has left more directories than can be searched for paths that the policy denies";
const NOT_MOVED: &str = "a file at a path that the policy denies could not be moved aside";

/// The state of a session after a command.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) quarantined: Vec<Quarantined>,
    /// The reason for which the sandbox has ended, if it has.
    pub(super) sandbox_ended: Option<&'static str>,
}

impl Mounts {
    /// Quarantines forbidden paths after a command, and reapplies the policy if commands have
    /// created watched files. If that fails, the sandbox ends. No process of the command may be
    /// alive.
    pub(super) async fn settle(self: &Arc<Self>, began: &Began, watched_creations: u32) -> Settled {
        let quarantined = self.check_paths();
        let has_zones = !self.plan().creation_rules.zones.is_empty();
        let is_complete = !has_zones && !self.has_later_rules();
        let settled = if is_complete && self.is_settled(&quarantined, watched_creations) {
            Settled { quarantined, sandbox_ended: self.connection.end_reason() }
        } else {
            let mounts = Arc::clone(self);
            blocking(move || mounts.finish(quarantined, watched_creations)).await
        };
        began.end();
        settled
    }

    /// Like [`Mounts::settle`], for a thread.
    pub(super) fn settle_blocking(&self, began: &Began, watched_creations: u32) -> Settled {
        let settled = self.finish(self.check_paths(), watched_creations);
        began.end();
        settled
    }

    /// Like [`Mounts::settle_blocking`], while commands run.
    pub(super) fn check_running(&self) -> Vec<Quarantined> {
        // Without an answer, the session has ended.
        let Ok(watched_creations) = self.connection.watched_creations() else { return Vec::new() };
        self.finish(self.check_paths(), watched_creations).quarantined
    }

    fn check_paths(&self) -> Vec<Quarantined> {
        self.connection.restore_access();
        self.scope().map(|scope| self.check_denied_paths(&scope)).unwrap_or_default()
    }

    /// Returns whether nothing is left to do after a command.
    fn is_settled(&self, quarantined: &[Quarantined], watched_creations: u32) -> bool {
        self.connection.is_open() && quarantined.is_empty() && self.includes(watched_creations)
    }

    fn finish(&self, mut quarantined: Vec<Quarantined>, watched_creations: u32) -> Settled {
        let scope = self.scope();
        quarantined.extend(scope.iter().flat_map(|scope| self.check_contents(scope)));
        // A plan that was compiled while a command ran could take a path that the command has
        // created for one of the user, and no longer deny it.
        let is_denied_again = quarantined.is_empty() || scope.is_none_or(|it| it.plans.len() == 1);
        let ended = self.connection.end_reason().map_or(Ok(()), Err);
        let failed = if ended.is_err() || !are_moved(&quarantined) {
            ended.and(Err(NOT_MOVED))
        } else if !self.is_searched() {
            Err(NOT_SEARCHED)
        } else if self.includes(watched_creations) && is_denied_again {
            Ok(())
        } else {
            self.reapply_policy().map_err(|error| {
                warn_not_refreshed(&error);
                NOT_REFRESHED
            })
        };
        match failed {
            // The report of a command whose shell did not start has no count.
            Ok(()) if watched_creations == 0 => {}
            Ok(()) => self.included_creations.store(watched_creations, Ordering::Relaxed),
            Err(reason) => {
                self.connection.end_because(reason);
                // No command can interfere any more.
                for later in self.quarantine_outstanding() {
                    quarantined.retain(|earlier| earlier.path != later.path);
                    quarantined.push(later);
                }
            }
        }
        Settled { quarantined, sandbox_ended: self.connection.end_reason() }
    }

    /// Returns whether the last check has covered everything. On the Landlock tier, a warning at
    /// the opening tells if that cannot be.
    fn is_searched(&self) -> bool {
        let is_warned = |rule: &Unenforced| rule.reason == UnenforcedReason::TooLarge;
        (lock(&self.zones).is_complete && lock(&self.indexes).is_complete())
            || self.plan().unenforced.iter().any(is_warned)
    }

    /// Returns whether the plan includes all watched creations.
    fn includes(&self, watched_creations: u32) -> bool {
        // The report of a command whose shell did not start has no count.
        watched_creations == 0
            || self.included_creations.load(Ordering::Relaxed) == watched_creations
    }

    fn scope(&self) -> Option<Scope> {
        self.outstanding.scope(&self.plan())
    }

    fn check_denied_paths(&self, scope: &Scope) -> Vec<Quarantined> {
        let denied = scope.denied_paths();
        lock(&self.denied).quarantine(&denied, scope.since)
    }

    /// Checks the zones and the indexes. Takes some microseconds for each directory of the zones.
    fn check_contents(&self, scope: &Scope) -> Vec<Quarantined> {
        let plan = self.plan();
        // A later mount could cover an entry that an outstanding command has created.
        let oldest = scope.plans.first().unwrap_or(&plan);
        let is_fixed = |path: &Path| {
            oldest.ops.iter().any(|op| op.path() == Some(path))
                || !oldest.allows(path, Access::Write)
        };
        // It could also take a repository that such a command has created for one of the user.
        let is_accepted = |zone: &&Zone| {
            oldest.creation_rules.zones.contains(zone)
                || !oldest.creation_rules.denies(&zone.dir.join("HEAD"))
        };
        let zones: Vec<Zone> =
            plan.creation_rules.zones.iter().filter(is_accepted).cloned().collect();
        let closed = closed_directories(oldest, self.has_namespaces);
        let mut survey = lock(&self.zones);
        let found = survey.new_entries(&zones, &closed, scope.since, is_fixed);
        let mut quarantined: Vec<Quarantined> =
            found.iter().filter_map(|(dir, parent, name)| clear(dir, parent, name)).collect();
        for moved_to in quarantined.iter().filter_map(|file| file.moved_to.as_deref()) {
            survey.leave(moved_to);
        }
        let is_searched = survey.is_complete;
        drop(survey);
        let flawed = lock(&self.indexes).flawed(&plan, scope.since, is_searched);
        quarantined.extend(flawed.into_iter().filter_map(Flawed::clear));
        if self.has_later_rules() {
            quarantined.extend(self.inner.quarantine(&self.policy, scope.since));
        }
        quarantined
    }

    /// Returns whether a command could create a path that this tier must not have.
    fn has_later_rules(&self) -> bool {
        self.later == LaterFiles::Denied && !self.plan().creation_rules.watched_names.is_empty()
    }

    /// Quarantines forbidden paths created by outstanding commands, such as those whose exit was
    /// not reported.
    pub(super) fn quarantine_outstanding(&self) -> Vec<Quarantined> {
        let Some(scope) = self.scope() else { return Vec::new() };
        let mut quarantined = self.check_denied_paths(&scope);
        quarantined.extend(self.check_contents(&scope));
        quarantined
    }

    /// Quarantines forbidden paths created by commands whose exit was not reported, then reapplies
    /// the policy.
    ///
    /// # Errors
    /// Returns the reason for which the sandbox has to end.
    pub(super) fn recover_unreported(&self) -> Result<(), &'static str> {
        if self.outstanding.is_empty() {
            return Ok(());
        }
        self.connection.restore_access();
        let quarantined = self.quarantine_outstanding();
        for file in &quarantined {
            tracing::warn!("quarantined: {file}");
        }
        if !are_moved(&quarantined) {
            return Err(NOT_MOVED);
        }
        if !self.is_searched() {
            return Err(NOT_SEARCHED);
        }
        self.reapply_policy().map_err(|error| {
            warn_not_refreshed(&error);
            NOT_REFRESHED
        })
    }
}

fn are_moved(quarantined: &[Quarantined]) -> bool {
    quarantined.iter().all(|file| file.outcome == QuarantineOutcome::Moved)
}
