//! Settings of a native sandbox before it opens.

use std::path::PathBuf;

use policy::Policy;

use super::{NativeSandbox, OpenError};
use crate::sandbox::{Limits, Tier};

/// Settings of a [`NativeSandbox`] that is not open yet.
#[derive(Clone, Debug)]
pub struct NativeSandboxBuilder {
    policy: Policy,
    session_dir: PathBuf,
    limits: Limits,
    tier: Tier,
}

impl NativeSandboxBuilder {
    pub(super) fn new(policy: &Policy, session_dir: PathBuf) -> Self {
        let (limits, tier) = Default::default();
        Self { policy: policy.clone(), session_dir, limits, tier }
    }

    /// Sets the limits of commands, and the location of the session's control group.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the tier; [`Tier::Namespaces`] by default.
    ///
    /// [`Tier::Landlock`] works on hosts that refuse user namespaces, from Linux 6.2. It is weaker,
    /// and is never chosen automatically. [`Sandbox::report`](crate::Sandbox::report) lists its
    /// gaps. For example, commands can probe for denied names. `/proc`, sockets and `chmod` are
    /// unavailable, and [`NativeSandbox::temporary_dir`] replaces `/tmp`.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Opens the sandbox.
    ///
    /// Compiles the policy against the current files of the host, starts the session's init, and
    /// waits until init accepts commands. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// Returns [`OpenError`] with the unavailable layer, the cause, and the remedy. On
    /// [`Tier::Landlock`], returns [`OpenError::WeaknessNotAccepted`] if a weakness applies that
    /// the tier does not accept by name.
    pub fn open(self) -> Result<NativeSandbox, OpenError> {
        match &self.tier {
            Tier::Namespaces => {
                NativeSandbox::open_with(&self.policy, &self.session_dir, &self.limits)
            }
            Tier::Landlock { accepted } => {
                let Self { policy, session_dir, limits, .. } = &self;
                NativeSandbox::open_landlock(policy, session_dir, limits, accepted)
            }
        }
    }
}
