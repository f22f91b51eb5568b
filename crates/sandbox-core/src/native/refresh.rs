//! The policy in force in an open sandbox, and its reapplication as files appear.
//!
//! 1. Init counts the files that commands create under a watched name: a repository, a name that is
//!    always protected, a name that a pattern hides. The report of a command contains the count. If
//!    the count has grown, the host recompiles the policy before it returns the result. So new
//!    files are covered before the next command.
//! 2. Init adds only mounts that hide or protect. Running commands see them too, except commands
//!    whose working directory lies below such a mount. A path that the policy allows, and that was
//!    absent at open, becomes accessible when the sandbox is opened next.
//! 3. A sandbox that cannot apply the policy to new files ends, with the reason. So does one in
//!    which a file at a denied path could not be moved aside, or not every directory was searched.
//! 4. Before a command, the mounts that the host has detached by replacing files are made again,
//!    and the policy is reapplied if the host has created a denied path.
//! 5. The Landlock tier cannot revoke access. There, only the creation rules are updated.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use policy::{
    Access, BindAccess, LaterFiles, MountOp, MountPlan, Policy, Unenforced, UnenforcedReason, Zone,
};

use super::anchors::Anchors;
use super::closed::closed_directories;
use super::connection::Connection;
use super::denied_paths::DeniedDirectories;
use super::error::{OpenError, host_error};
use super::indexes::{AcceptedIndexes, Flawed};
use super::inner::InnerPaths;
use super::outstanding::{Began, Outstanding, Scope};
use super::plan;
use super::quarantine::clear;
use super::tree::{SessionDirectories, compile};
use super::zones::Survey;
use crate::internal::{blocking, lock};
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// The maximum number of times that a policy is compiled, if files vanish meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// A policy compiled for one session.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) policy: Policy,
    pub(super) plan: MountPlan,
    pub(super) directories: SessionDirectories,
    pub(super) has_namespaces: bool,
    pub(super) later: LaterFiles,
}

/// The mounts and creation rules of an open session.
pub(super) struct Mounts {
    connection: Arc<Connection>,
    policy: Policy,
    directories: SessionDirectories,
    has_namespaces: bool,
    later: LaterFiles,
    inner: InnerPaths,
    plan: RwLock<Arc<MountPlan>>,
    /// Held during a reapplication, so that an older plan never replaces a newer one.
    reapplying: Mutex<()>,
    /// Count of watched creations that the plan includes.
    included_creations: AtomicU32,
    outstanding: Arc<Outstanding>,
    // The state of the host as of the last check.
    denied: Mutex<DeniedDirectories>,
    zones: Mutex<Survey>,
    indexes: Mutex<AcceptedIndexes>,
    anchors: Mutex<Anchors>,
}

/// Reasons for which the engine ends a session.
pub(super) const NOT_REFRESHED: &str =
    "the policy could not be applied to files that a command created";
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

impl fmt::Debug for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounts").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Mounts {
    pub(super) fn new(connection: Arc<Connection>, compiled: CompiledPolicy) -> Self {
        let CompiledPolicy { policy, plan, directories, has_namespaces, later } = compiled;
        let denied = Mutex::new(DeniedDirectories::of(&plan));
        let zones = Mutex::new(Survey::of(&plan, has_namespaces));
        let indexes = Mutex::new(AcceptedIndexes::of(&plan));
        let anchors =
            Mutex::new(if has_namespaces { Anchors::of(&plan) } else { Anchors::default() });
        Self {
            connection,
            policy,
            directories,
            has_namespaces,
            later,
            inner: InnerPaths::default(),
            plan: RwLock::new(Arc::new(plan)),
            reapplying: Mutex::default(),
            included_creations: AtomicU32::new(0),
            outstanding: Arc::default(),
            denied,
            zones,
            indexes,
            anchors,
        }
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn has_namespaces(&self) -> bool {
        self.has_namespaces
    }

    /// Returns the current plan.
    pub(super) fn plan(&self) -> Arc<MountPlan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Recompiles the policy against the host's current files, then hides and protects new ones.
    /// Blocks for a few milliseconds.
    pub(super) fn reapply_policy(&self) -> Result<(), OpenError> {
        self.reapply_policy_on(&[])
    }

    /// Reapplies the policy, and makes the mounts at and below replaced paths again.
    fn reapply_policy_on(&self, replaced: &[PathBuf]) -> Result<(), OpenError> {
        let _exclusive = lock(&self.reapplying);
        for _ in 1..MAX_ATTEMPTS {
            match self.try_reapply_policy(replaced) {
                // Another command has removed or renamed a file since the policy was compiled.
                Err(OpenError::Host { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        self.try_reapply_policy(replaced)
    }

    fn try_reapply_policy(&self, replaced: &[PathBuf]) -> Result<(), OpenError> {
        let mut fresh = compile(&self.policy, self.directories.clone(), self.later)?;
        let old = self.plan();
        let ops = if self.has_namespaces { fresh.restrictions_beyond(&old) } else { Vec::new() };
        let again = fresh.ops.iter().filter(|op| {
            let is_detached =
                |path: &Path| replaced.iter().any(|replaced| path.starts_with(replaced));
            op.path().is_some_and(is_detached) && is_again(op, &fresh) && !ops.contains(op)
        });
        let again: Vec<MountOp> = again.cloned().collect();
        if again.is_empty()
            && ops.is_empty()
            && fresh.creation_rules == old.creation_rules
            && fresh.repositories == old.repositories
        {
            return Ok(());
        }
        let additions = [&again[..], &ops].concat();
        // Open paths stay open and closed paths stay closed: the old mounts remain, with the new
        // ones over them.
        fresh.ops = old.ops.iter().cloned().chain(ops).collect();
        // A file that is replaced afterwards differs from what is recorded here.
        let anchors = if self.has_namespaces { Anchors::of(&fresh) } else { Anchors::default() };
        self.connection
            .update(&plan::encode_additions(&additions, &fresh.creation_rules))
            .map_err(host_error("refresh the mounts"))?;
        *lock(&self.anchors) = anchors;
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// Covers what the host has replaced or created. If that fails, the sandbox ends.
    fn follow_host(&self) {
        let moved = lock(&self.anchors).moved();
        // A file at a denied path may be that of a running command, and is no longer denied then.
        let has_new = moved.has_new && self.outstanding.is_empty();
        if moved.replaced.is_empty() && !has_new {
            return;
        }
        if let Err(error) = self.reapply_policy_on(&moved.replaced) {
            warn_not_refreshed(&error);
            self.connection.end_because(NOT_REFRESHED);
        }
    }

    /// Records a command that is about to begin.
    pub(super) fn begin(&self) -> Began {
        self.follow_host();
        self.outstanding.begin(self.plan())
    }

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

/// Returns whether an operation is performed again if the host has replaced its mount point. A
/// directory that the policy makes writable, with nothing writable above, opens with the next
/// session only.
fn is_again(op: &MountOp, plan: &MountPlan) -> bool {
    match op {
        MountOp::Root | MountOp::RootWritable | MountOp::Private { .. } => false,
        MountOp::HideDirectory { .. } | MountOp::HideFile { .. } | MountOp::PinLink { .. } => true,
        MountOp::Bind { access: BindAccess::ReadOnly, .. } => true,
        MountOp::Bind { path, .. } => {
            path.parent().is_some_and(|above| plan.allows(above, Access::Write))
        }
        _ => false,
    }
}

fn are_moved(quarantined: &[Quarantined]) -> bool {
    quarantined.iter().all(|file| file.outcome == QuarantineOutcome::Moved)
}

fn warn_not_refreshed(error: &OpenError) {
    tracing::warn!(error = error as &dyn std::error::Error, "the policy could not be refreshed");
}
