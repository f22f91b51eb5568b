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
//!    which a file at a denied path could not be moved aside.
//! 4. The Landlock tier cannot revoke access. There, only the creation rules are updated.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use policy::{LaterFiles, MountPlan, Policy};

use super::connection::Connection;
use super::error::{OpenError, host_error};
use super::inner::InnerPaths;
use super::plan;
use super::quarantine::Unchecked;
use super::tree::compile;
use crate::internal::{blocking, lock};
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// The maximum number of times that a policy is compiled, if files vanish meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// A policy compiled for one session.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) policy: Policy,
    pub(super) plan: MountPlan,
    /// Directories that every session has a private copy of.
    pub(super) private: Vec<PathBuf>,
    pub(super) has_namespaces: bool,
    pub(super) later: LaterFiles,
}

/// The mounts and creation rules of an open session.
pub(super) struct Mounts {
    connection: Arc<Connection>,
    policy: Policy,
    private: Vec<PathBuf>,
    has_namespaces: bool,
    later: LaterFiles,
    inner: InnerPaths,
    plan: RwLock<Arc<MountPlan>>,
    /// Held during a reapplication, so that an older plan never replaces a newer one.
    reapplying: Mutex<()>,
    /// Count of watched creations that the plan includes.
    included_creations: AtomicU32,
    unchecked: Unchecked,
}

/// Reasons for which the engine ends a session.
pub(super) const NOT_REFRESHED: &str =
    "the policy could not be applied to files that a command created";
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
        let CompiledPolicy { policy, plan, private, has_namespaces, later } = compiled;
        Self {
            connection,
            policy,
            private,
            has_namespaces,
            later,
            inner: InnerPaths::default(),
            plan: RwLock::new(Arc::new(plan)),
            reapplying: Mutex::default(),
            included_creations: AtomicU32::new(0),
            unchecked: Unchecked::default(),
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
        let _exclusive = lock(&self.reapplying);
        for _ in 1..MAX_ATTEMPTS {
            match self.try_reapply_policy() {
                // Another command has removed or renamed a file since the policy was compiled.
                Err(OpenError::Host { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        self.try_reapply_policy()
    }

    fn try_reapply_policy(&self) -> Result<(), OpenError> {
        let mut fresh = compile(&self.policy, self.private.clone(), self.later)?;
        let old = self.plan();
        let ops = if self.has_namespaces { fresh.restrictions_beyond(&old) } else { Vec::new() };
        if ops.is_empty()
            && fresh.creation_rules == old.creation_rules
            && fresh.repositories == old.repositories
        {
            return Ok(());
        }
        self.connection
            .update(&plan::encode_additions(&ops, &fresh.creation_rules))
            .map_err(host_error("refresh the mounts"))?;
        // Open paths stay open and closed paths stay closed: the old mounts remain, with the new
        // ones over them.
        fresh.ops = old.ops.iter().cloned().chain(ops).collect();
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// Quarantines forbidden paths after a command, and reapplies the policy if commands have
    /// created watched files. If that fails, the sandbox ends. No process of the command may be
    /// alive.
    pub(super) async fn settle(
        self: &Arc<Self>,
        began: SystemTime,
        watched_creations: u32,
    ) -> Settled {
        let quarantined = self.check_paths(began);
        let has_zones = !self.plan().creation_rules.zones.is_empty();
        if !has_zones && !self.has_later_rules() && self.is_settled(&quarantined, watched_creations)
        {
            return Settled { quarantined, sandbox_ended: self.connection.end_reason() };
        }
        let mounts = Arc::clone(self);
        blocking(move || mounts.finish(quarantined, began, watched_creations)).await
    }

    /// Like [`Mounts::settle`], for a thread.
    pub(super) fn settle_blocking(&self, began: SystemTime, watched_creations: u32) -> Settled {
        self.finish(self.check_paths(began), began, watched_creations)
    }

    fn check_paths(&self, began: SystemTime) -> Vec<Quarantined> {
        self.connection.restore_access();
        self.unchecked.quarantine(&self.plan().creation_rules.denied_paths, began)
    }

    /// Returns whether nothing is left to do after a command.
    fn is_settled(&self, quarantined: &[Quarantined], watched_creations: u32) -> bool {
        are_moved(quarantined) && self.includes(watched_creations)
    }

    fn finish(
        &self,
        mut quarantined: Vec<Quarantined>,
        began: SystemTime,
        watched_creations: u32,
    ) -> Settled {
        let plan = self.plan();
        quarantined.extend(self.unchecked.quarantine_in_zones(&plan, began));
        quarantined.extend(self.unchecked.quarantine_indexes(&plan, began));
        quarantined.extend(self.quarantine_later(began));
        let failed = if !are_moved(&quarantined) {
            Err(NOT_MOVED)
        } else if self.includes(watched_creations) {
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
                for later in self.quarantine(began) {
                    quarantined.retain(|earlier| earlier.path != later.path);
                    quarantined.push(later);
                }
            }
        }
        Settled { quarantined, sandbox_ended: self.connection.end_reason() }
    }

    /// Returns whether the plan includes all watched creations.
    fn includes(&self, watched_creations: u32) -> bool {
        // The report of a command whose shell did not start has no count.
        watched_creations == 0
            || self.included_creations.load(Ordering::Relaxed) == watched_creations
    }

    /// Quarantines forbidden paths created since a command began.
    fn quarantine(&self, began: SystemTime) -> Vec<Quarantined> {
        let plan = self.plan();
        let mut quarantined = self.unchecked.quarantine(&plan.creation_rules.denied_paths, began);
        quarantined.extend(self.unchecked.quarantine_in_zones(&plan, began));
        quarantined.extend(self.unchecked.quarantine_indexes(&plan, began));
        quarantined.extend(self.quarantine_later(began));
        quarantined
    }

    /// Quarantines paths that this tier could not hide or protect.
    fn quarantine_later(&self, began: SystemTime) -> Vec<Quarantined> {
        if self.has_later_rules() {
            self.inner.quarantine(&self.policy, self.unchecked.since(began))
        } else {
            Vec::new()
        }
    }

    /// Returns whether a command could create a path that this tier must not have.
    fn has_later_rules(&self) -> bool {
        self.later == LaterFiles::Denied && !self.plan().creation_rules.watched_names.is_empty()
    }

    /// Records the start of a command whose exit may not be reported to the host.
    pub(super) fn expect_unreported(&self, began: SystemTime) {
        self.unchecked.record(began);
    }

    /// Quarantines forbidden paths created by commands whose exit was not reported.
    pub(super) fn quarantine_unreported(&self) -> Vec<Quarantined> {
        self.unchecked.began().map(|began| self.quarantine(began)).unwrap_or_default()
    }

    /// Quarantines forbidden paths created by commands whose exit was not reported, then reapplies
    /// the policy.
    ///
    /// # Errors
    /// Returns the reason for which the sandbox has to end.
    pub(super) fn recover_unreported(&self) -> Result<(), &'static str> {
        if self.unchecked.began().is_none() {
            return Ok(());
        }
        self.connection.restore_access();
        let quarantined = self.quarantine_unreported();
        for file in &quarantined {
            tracing::warn!("quarantined: {file}");
        }
        if !are_moved(&quarantined) {
            return Err(NOT_MOVED);
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

fn warn_not_refreshed(error: &OpenError) {
    tracing::warn!(error = error as &dyn std::error::Error, "the policy could not be refreshed");
}
