//! Settings of a native sandbox, and its opening on either tier.

use std::io;
use std::path::{Path, PathBuf};

use policy::{AllowList, BindAccess, LaterFiles, MountOp, MountPlan, Policy};

use super::cgroup;
use super::connection::Connection;
use super::engine::NativeSandbox;
use super::error::{OpenError, host_error};
use super::filter::{Attributes, UnixSockets};
use super::inner;
use super::launch::{Resources, launch};
use super::network::BestCapture;
use super::overlay::{self, Overlay};
use super::plan;
use super::probe;
use super::refresh::CompiledPolicy;
use super::shell;
use super::size::SizeLimit;
use super::support;
use super::temporary::TemporaryDir;
use super::tree::{HostTree, SessionDirectories, compile};
use super::verdict::CLOSED;
use crate::sandbox::{Limits, Tier, Weakness};

/// The maximum number of times that a policy is compiled, if the host removes files meanwhile.
const MAX_ATTEMPTS: usize = 5;

impl NativeSandbox {
    /// Returns a builder with default limits on the namespace tier.
    ///
    /// Commands start in `session_dir` unless they name another directory. The policy decides how
    /// they may use it.
    pub fn builder(policy: &Policy, session_dir: impl Into<PathBuf>) -> NativeSandboxBuilder {
        NativeSandboxBuilder {
            policy: policy.clone(),
            session_dir: session_dir.into(),
            limits: Limits::default(),
            tier: Tier::default(),
            overlays: Vec::new(),
            best_capture: BestCapture::default(),
        }
    }
}

/// Settings of a [`NativeSandbox`] that is not open yet.
#[derive(Clone, Debug)]
pub struct NativeSandboxBuilder {
    policy: Policy,
    session_dir: PathBuf,
    limits: Limits,
    tier: Tier,
    overlays: Vec<Overlay>,
    best_capture: BestCapture,
}

impl NativeSandboxBuilder {
    /// Sets the limits of commands, and the location of the session's control group.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the tier; [`Tier::Namespaces`] by default.
    ///
    /// [`Tier::Landlock`] works on hosts that deny user namespaces, from Linux 6.2. It is weaker,
    /// and is never chosen automatically. [`Sandbox::report`](crate::Sandbox::report) lists its
    /// gaps. For example, commands can probe for denied names. `/proc`, sockets and `chmod` are
    /// unavailable, and [`NativeSandbox::temporary_dir`] replaces `/tmp`.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Shows files in the place of others, where commands can read these. The Landlock tier has no
    /// overlays. [`NativeSandbox::overlays`] returns those in force.
    ///
    /// If the host replaces a file that is covered, the session sees the new one afterwards.
    #[must_use]
    pub fn overlays(mut self, overlays: impl IntoIterator<Item = Overlay>) -> Self {
        self.overlays.extend(overlays);
        self
    }

    /// Limits the capture of the session's network, so that tests can have that of another kernel.
    #[doc(hidden)]
    #[must_use]
    pub fn best_capture(mut self, best: BestCapture) -> Self {
        self.best_capture = best;
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
            Tier::Namespaces => Ok(self.open_in_namespaces()?.with_best_capture(self.best_capture)),
            Tier::Landlock { accepted } => self.open_with_landlock(accepted),
        }
    }

    fn open_in_namespaces(&self) -> Result<NativeSandbox, OpenError> {
        for _ in 1..MAX_ATTEMPTS {
            match self.try_open_in_namespaces() {
                Err(error) if is_vanished_target(&error) => {}
                other => return other,
            }
        }
        self.try_open_in_namespaces()
    }

    fn try_open_in_namespaces(&self) -> Result<NativeSandbox, OpenError> {
        let Self { policy, session_dir, limits, .. } = self;
        if let Some(what) = support::unsupported_by_native(policy) {
            return Err(OpenError::UnsupportedPolicy { what });
        }
        let directories = plan::session_directories();
        let later = LaterFiles::Covered;
        let mounts = compile(policy, directories.clone(), later)?;
        shell::check(policy, &mounts, &Tier::Namespaces)?;
        let protected = cgroup::protected(&mounts);
        let overlays = overlay::visible(&self.overlays, &mounts);
        let unix_sockets =
            if policy.allows_unix_sockets() { UnixSockets::allowed() } else { UnixSockets::own() }
                .map_err(host_error("read random numbers"))?;
        let (init, resources) = launch(limits, None, |group| {
            let mounts = if group.is_some() { protected.as_ref() } else { &mounts };
            plan::encode(mounts, &overlays, limits, unix_sockets, group)
        })?;
        let mounts = match resources {
            Resources::Group => protected.into_owned(),
            Resources::Processes { .. } => {
                drop(protected);
                mounts
            }
        };
        let report = probe::enforced(unix_sockets, init.setup, &resources);
        let size = SizeLimit::new(session_dir, limits, &mounts);
        Ok(NativeSandbox::new(
            Connection::new(init, session_dir, size)?,
            CompiledPolicy {
                policy: policy.clone(),
                plan: mounts,
                directories,
                has_namespaces: true,
                later,
            },
            Path::new("/tmp"),
            report,
        )
        .with_overlays(overlays))
    }

    fn open_with_landlock(&self, accepted: &[Weakness]) -> Result<NativeSandbox, OpenError> {
        let Self { policy, session_dir, limits, .. } = self;
        if let Some(what) = support::unsupported_by_landlock(policy) {
            return Err(OpenError::UnsupportedPolicy { what });
        }
        let temporary =
            TemporaryDir::new().map_err(host_error("create a directory for temporary files"))?;
        let temporary_dir = temporary.path().to_owned();
        let later = later_files(accepted);
        let mut mounts = compile(policy, SessionDirectories::default(), later)?;
        let own = MountOp::Bind { path: temporary_dir.clone(), access: BindAccess::ReadWrite };
        mounts.ops.push(own);
        let list = allow_list(&mounts, accepted)?;
        shell::check(policy, &mounts, &self.tier)?;
        let attributes = Attributes::of(accepted);
        let veto = cgroup::is_open_to_commands(&mounts)
            .then_some("the policy lets commands write to control groups");
        let (init, resources) = launch(limits, veto, |group| {
            plan::encode_rules(&list, &mounts.creation_rules, limits, attributes, group)
        })?;
        init.process.keep(temporary);
        check_signals(init.setup.landlock_abi, accepted)?;
        let report = probe::enforced_by_landlock(&list, attributes, init.setup, &resources);
        let policy = policy.clone();
        let size = SizeLimit::new(session_dir, limits, &mounts);
        Ok(NativeSandbox::new(
            Connection::new(init, session_dir, size)?,
            CompiledPolicy {
                policy,
                plan: mounts,
                directories: SessionDirectories::default(),
                has_namespaces: false,
                later,
            },
            &temporary_dir,
            report,
        ))
    }
}

/// Returns whether a file that the policy protects was removed after the policy was compiled.
fn is_vanished_target(error: &OpenError) -> bool {
    let OpenError::LayerUnavailable { step, source, .. } = error else { return false };
    step.starts_with("mount ") && source.kind() == io::ErrorKind::NotFound
}

/// Returns what becomes of files that the Landlock tier cannot cover when a command creates them.
pub(super) fn later_files(accepted: &[Weakness]) -> LaterFiles {
    if accepted.contains(&Weakness::InnerRules) { LaterFiles::Covered } else { LaterFiles::Denied }
}

/// Returns the list that gives the access of a plan, or an error if the list leaves a path open and
/// the caller does not accept that.
pub(super) fn allow_list(plan: &MountPlan, accepted: &[Weakness]) -> Result<AllowList, OpenError> {
    let list = plan
        .allow_list(&HostTree, &CLOSED.map(Path::new))
        .map_err(|source| OpenError::Policy { source: Box::new(source) })?;
    if list.uncovered.iter().any(|path| plan.sealed.contains(path)) {
        let what = "a writable directory contains a path that must stay hidden";
        return Err(OpenError::UnsupportedPolicy { what });
    }
    let weakness = Weakness::InnerRules;
    let mut uncovered = list.uncovered.iter().filter(|path| inner::is_rule(plan, path));
    match uncovered.next() {
        Some(path) if !accepted.contains(&weakness) => {
            let path = path.display();
            let what = format!("{path} lies in a writable directory, and would not be protected");
            Err(OpenError::WeaknessNotAccepted { what, weakness })
        }
        _ => Ok(list),
    }
}

/// Returns an error if the kernel does not confine signals and the caller does not accept that.
fn check_signals(landlock_abi: u32, accepted: &[Weakness]) -> Result<(), OpenError> {
    let weakness = Weakness::Signals;
    if landlock_abi >= probe::SCOPES_SINCE || accepted.contains(&weakness) {
        return Ok(());
    }
    let what =
        "signals of commands would reach every process of the user before Linux 6.12".to_owned();
    Err(OpenError::WeaknessNotAccepted { what, weakness })
}
