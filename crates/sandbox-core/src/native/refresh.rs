//! The policy in force in an open sandbox, and its reapplication as files appear.
//!
//! 1. Init counts the files that commands create under a watched name: a repository, a name that is
//!    always protected, a name that a pattern hides. The report of a command contains the count. If
//!    the count has grown, the host recompiles the policy before it returns the result. So new
//!    files are covered before the next command.
//! 2. Init adds only mounts that hide or protect. Running commands see them too, except commands
//!    whose working directory lies below such a mount. A path that the policy allows, and that was
//!    absent at open, becomes accessible when the sandbox is opened next.
//! 3. A sandbox that cannot apply the policy to new files ends, with the reason.
//! 4. Before a command, the mounts that the host has detached by replacing files are made again,
//!    and the policy is reapplied if the host has created a denied path.
//! 5. The Landlock tier cannot revoke access. There, only the creation rules are updated.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use policy::{Access, BindAccess, LaterFiles, MountOp, MountPlan, Policy};

use super::anchors::Anchors;
use super::connection::Connection;
use super::denied_paths::DeniedDirectories;
use super::error::{OpenError, host_error};
use super::indexes::AcceptedIndexes;
use super::inner::InnerPaths;
use super::outstanding::{Began, Outstanding};
use super::plan;
use super::tree::{SessionDirectories, compile};
use super::zones::Survey;
use crate::internal::lock;

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
    pub(super) connection: Arc<Connection>,
    pub(super) policy: Policy,
    directories: SessionDirectories,
    pub(super) has_namespaces: bool,
    pub(super) later: LaterFiles,
    pub(super) inner: InnerPaths,
    plan: RwLock<Arc<MountPlan>>,
    /// Held during a reapplication, so that an older plan never replaces a newer one.
    reapplying: Mutex<()>,
    /// Count of watched creations that the plan includes.
    pub(super) included_creations: AtomicU32,
    pub(super) outstanding: Arc<Outstanding>,
    // The state of the host as of the last check.
    pub(super) denied: Mutex<DeniedDirectories>,
    pub(super) zones: Mutex<Survey>,
    pub(super) indexes: Mutex<AcceptedIndexes>,
    anchors: Mutex<Anchors>,
}

/// Reason for which the engine ends a session.
pub(super) const NOT_REFRESHED: &str =
    "the policy could not be applied to files that a command created";

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

pub(super) fn warn_not_refreshed(error: &OpenError) {
    tracing::warn!(error = error as &dyn std::error::Error, "the policy could not be refreshed");
}
