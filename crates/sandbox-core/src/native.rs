//! The native engine: one small init process per session holds all namespaces; a command is a
//! message to it.
//!
//! ```text
//! host process                init (session)                    slot (one command at a time)
//! ────────────                ──────────────                    ────────────────────────────
//! open ── plan ─────────────► namespaces, mounts
//!                             forks a slot ahead ─────────────► own process namespace and /proc,
//!      ◄── ready ──────────────────────────────────────────────  no capabilities, filter loaded
//! exec ── command + descriptors ──────────────────────────────► forks, executes bash
//!                             forks one more if none waits      … kills and reaps what is left
//!      ◄── result on the command's own channel ──────────────── and waits again
//! close: the socket closes ─► ends, and the kernel ends every process of the session
//! ```
//!
//! The host process never forks: the init program is carried inside this crate and started with
//! `posix_spawn`, whose cost does not grow with the host's memory. What init does is in `init/` of
//! this crate.

#![cfg(target_os = "linux")]

mod attached;
mod builder;
mod cgroup;
mod exec;
mod filter;
mod plan;
mod prestart;
mod probe;
mod process;
mod quarantine;
mod refresh;
mod support;
mod temporary;
mod tree;
#[path = "../init/wire.rs"]
#[expect(unreachable_pub, reason = "the file is compiled into the init program too")]
mod wire;
mod wrapped;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use policy::{Access, BindAccess, MountOp, MountOptions, MountPlan, Policy, Unenforced};

use crate::sandbox::{
    Cgroups, CommandOutput, CommandSpec, EngineReport, ExecError, Limits, Sandbox, Weakness,
};
use cgroup::SessionGroup;
use filter::{Attributes, UnixSockets};
use process::InitProcess;
use temporary::TemporaryDir;

pub use attached::AttachedCommand;
pub use builder::NativeSandboxBuilder;
pub use probe::probe;

/// An open sandbox of one session.
///
/// While no command runs, a shell waits for the next one, started with the environment and the
/// working directory of the last: a command that has the same starts in a third of the time. After
/// 30 s without a command it goes, and its memory with it.
#[derive(Debug)]
pub struct NativeSandbox {
    inner: Arc<Inner>,
}

/// What outlives the sandbox by no more than one step of a task of its own.
struct Inner {
    init: InitProcess,
    shell: PathBuf,
    session_dir: PathBuf,
    temporary_dir: PathBuf,
    report: EngineReport,
    policy: Policy,
    /// The directories that the session has for itself.
    private: Vec<PathBuf>,
    has_namespaces: bool,
    mounts: RwLock<Arc<MountPlan>>,
    /// Held while the mounts are brought up to date.
    refreshing: Mutex<()>,
    /// The count of arrivals that the mounts are up to date with.
    compiled_at: AtomicU32,
    null: OwnedFd,
    waiting: prestart::PrestartedShell,
    wrapped: wrapped::Wrapped,
    unchecked: quarantine::Unchecked,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("session_dir", &self.session_dir)
            .field("init", &self.init.pid())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn mounts(&self) -> Arc<MountPlan> {
        Arc::clone(&self.mounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes away and covers what commands have made whose ends were not heard.
    fn recover_unreported(&self) {
        let Some(begun) = self.unchecked.begun() else { return };
        for quarantined in
            self.unchecked.quarantine(&self.mounts().creation_rules.denied_paths, begun)
        {
            tracing::warn!(path = %quarantined.path.display(), "taken away: the policy allows nothing to be made there");
        }
        if let Err(error) = refresh::refresh(self) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the policy could not be refreshed"
            );
        }
    }

    fn set_mounts(&self, mounts: MountPlan) {
        *self.mounts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(mounts);
    }
}

impl NativeSandbox {
    /// Returns a builder with default limits on the namespace tier.
    ///
    /// Commands start in `session_dir` unless they name another directory. The policy decides how
    /// they may use it.
    pub fn builder(policy: &Policy, session_dir: impl Into<PathBuf>) -> NativeSandboxBuilder {
        NativeSandboxBuilder::new(policy, session_dir.into())
    }

    /// As [`NativeSandbox::open`], with limits of the caller's own.
    ///
    /// # Errors
    /// As [`NativeSandbox::open`].
    fn open_with(policy: &Policy, session_dir: &Path, limits: &Limits) -> Result<Self, OpenError> {
        if let Some(what) = support::unsupported_by_native(policy) {
            return Err(OpenError::UnsupportedPolicy { what });
        }
        let private = plan::private_directories();
        let mounts = compile(policy, private.clone())?;
        let protected = cgroup::protected(&mounts);
        let unix_sockets =
            if policy.allows_unix_sockets() { UnixSockets::Allowed } else { UnixSockets::Denied };
        let (init, resources) = start(limits, None, |group| {
            let mounts = if group.is_some() { protected.as_ref() } else { &mounts };
            plan::encode(mounts, limits, unix_sockets, group)
        })?;
        let mounts = match resources {
            Resources::Group => protected.into_owned(),
            Resources::Processes { .. } => {
                drop(protected);
                mounts
            }
        };
        let compiled = Compiled { policy, mounts, private, has_namespaces: true };
        Self::with(
            init,
            session_dir,
            Path::new("/tmp"),
            probe::enforced(unix_sockets, &resources),
            compiled,
        )
    }

    /// Opens a sandbox where user namespaces are refused, on Landlock and the system call filter
    /// alone: a weaker tier, which is never chosen by itself. The report says what it does not
    /// hold: what is denied can still be looked for by name, for one, and there is no `/proc`, no
    /// socket, no `chmod` and no `/tmp`, but [`NativeSandbox::temporary_dir`]. Needs Linux 6.2.
    ///
    /// # Errors
    /// As [`NativeSandbox::open`], and [`OpenError::WeaknessNotAccepted`] for a weakness that applies and
    /// is not among `accepted`.
    fn open_landlock(
        policy: &Policy,
        session_dir: &Path,
        limits: &Limits,
        accepted: &[Weakness],
    ) -> Result<Self, OpenError> {
        if let Some(what) = support::unsupported_by_landlock(policy) {
            return Err(OpenError::UnsupportedPolicy { what });
        }
        let temporary = TemporaryDir::new().map_err(|source| OpenError::Host {
            operation: "make a directory for temporary files",
            source,
        })?;
        let temporary_dir = temporary.path().to_owned();
        let mut mounts = compile(policy, Vec::new())?;
        mounts
            .ops
            .push(MountOp::Bind { path: temporary_dir.clone(), access: BindAccess::ReadWrite });
        let closed = ["/proc", "/dev"].map(Path::new);
        let list = mounts
            .allow_list(&tree::HostTree, &closed)
            .map_err(|source| OpenError::Policy { source: Box::new(source) })?;
        if let Some(path) =
            list.uncovered.first().filter(|_| !accepted.contains(&Weakness::InnerRules))
        {
            let what = format!(
                "{} lies in a writable directory, and would not be protected",
                path.display()
            );
            return Err(OpenError::WeaknessNotAccepted { what, weakness: Weakness::InnerRules });
        }
        let attributes = Attributes::of(accepted);
        let open = cgroup::is_open_to_commands(&mounts)
            .then_some("the policy lets commands write to control groups");
        let (init, resources) = start(limits, open, |group| {
            plan::encode_rules(&list, &mounts.creation_rules, limits, attributes, group)
        })?;
        init.keep(temporary);
        let signals_leave = init.landlock_abi() < probe::SCOPES_SINCE;
        if signals_leave && !accepted.contains(&Weakness::Signals) {
            let what =
                "signals of commands would reach every process of the user before Linux 6.12"
                    .to_owned();
            return Err(OpenError::WeaknessNotAccepted { what, weakness: Weakness::Signals });
        }
        let report =
            probe::enforced_by_landlock(&list, attributes, init.landlock_abi(), &resources);
        let compiled = Compiled { policy, mounts, private: Vec::new(), has_namespaces: false };
        Self::with(init, session_dir, &temporary_dir, report, compiled)
    }

    fn with(
        init: InitProcess,
        session_dir: &Path,
        temporary_dir: &Path,
        report: EngineReport,
        compiled: Compiled<'_>,
    ) -> Result<Self, OpenError> {
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|errno| OpenError::Host { operation: "open /dev/null", source: errno.into() })?;
        let Compiled { policy, mounts, private, has_namespaces } = compiled;
        let (waiting, wrapped, unchecked) = Default::default();
        let inner = Inner {
            init,
            shell: shell(),
            session_dir: session_dir.to_owned(),
            temporary_dir: temporary_dir.to_owned(),
            report,
            policy: policy.clone(),
            private,
            has_namespaces,
            mounts: RwLock::new(Arc::new(mounts)),
            refreshing: Mutex::default(),
            compiled_at: AtomicU32::new(0),
            null,
            waiting,
            wrapped,
            unchecked,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory for temporary files of this sandbox, as commands see it: what `HOME` and
    /// `TMPDIR` should name. No other session sees what is in it.
    pub fn temporary_dir(&self) -> &Path {
        &self.inner.temporary_dir
    }

    /// The process id of the session's init, as the host sees it.
    pub fn init_pid(&self) -> u32 {
        self.inner.init.pid()
    }

    /// Whether commands can read a canonical path, or write to it, by the mounts of this sandbox
    /// and by what must not come into being. Asks nothing of the kernel; files have permissions of
    /// their own.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        let mounts = self.inner.mounts();
        mounts.allows(path, access)
            && (access == Access::Read || !mounts.creation_rules.denies(path))
    }

    /// A string which, run by any shell of this user on this host, runs a command in the sandbox,
    /// on the streams of that shell. It works, any number of times, while this sandbox lives.
    ///
    /// The command itself, its directory, environment and timeout stay in this process, so no
    /// quoting can go wrong and no list of processes shows them; what `spec` sets as input does not
    /// count. They are kept until the sandbox is dropped. The exit code is that of the command, 128 plus
    /// the number of the signal that killed it, 124 after a timeout, and 125 when the command
    /// could not be run. Signals to the process that the string starts reach the command; when that
    /// process is killed, the command is.
    ///
    /// # Errors
    /// [`ExecError`] for a command that could never be run, and when the host is out of
    /// descriptors.
    pub fn wrap_command(&self, spec: &CommandSpec) -> Result<String, ExecError> {
        wrapped::wrap(&self.inner, spec)
    }

    /// Rules of the policy that do not hold as things stood when it was compiled last, and why.
    pub fn unenforced(&self) -> Vec<Unenforced> {
        self.inner.mounts().unenforced.clone()
    }

    /// Whether the policy may cover more once something is at this path; then
    /// [`NativeSandbox::refresh`] is due.
    pub fn affects_policy(&self, path: &Path) -> bool {
        self.inner.mounts().creation_rules.affects_policy(path)
    }

    /// Hides and protects what the policy covers by now, and did not when it was compiled last.
    /// This happens by itself after a command that has brought such a thing; a host that has put
    /// files into the session calls it. Blocks for some milliseconds.
    ///
    /// What the policy allows and was absent stays closed until the sandbox is opened next.
    ///
    /// # Errors
    /// [`OpenError`] when the policy cannot be compiled, or the kernel refuses a mount; then
    /// everything is as it was.
    pub fn refresh(&self) -> Result<(), OpenError> {
        refresh::refresh(&self.inner)
    }
}

#[async_trait]
impl Sandbox for NativeSandbox {
    async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError> {
        exec::exec(&self.inner, command).await
    }

    fn report(&self) -> &EngineReport {
        &self.inner.report
    }

    async fn close(&self) {
        self.inner.init.end().await;
        if let Some(begun) = self.inner.unchecked.begun() {
            self.inner
                .unchecked
                .quarantine(&self.inner.mounts().creation_rules.denied_paths, begun);
        }
    }
}

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The policy cannot be carried out on this machine.
    #[error("the policy cannot be turned into mounts")]
    Policy {
        /// What is wrong with it.
        source: Box<policy::MountError>,
    },
    /// The policy asks for something that this engine does not do; ignoring it would change what
    /// the policy means.
    #[error("the native engine cannot carry out the policy: {what}")]
    UnsupportedPolicy {
        /// The setting.
        what: &'static str,
    },
    /// The weaker tier cannot hold something of the policy, and it was not accepted by name.
    #[error(
        "{what}; accept the weakness `{weakness}` by name, or use a host that has user namespaces"
    )]
    WeaknessNotAccepted {
        /// What would not hold.
        what: String,
        /// Its name.
        weakness: Weakness,
    },
    /// The kernel refuses a layer; running without it would not be a sandbox.
    #[error("cannot {step}; {remedy}")]
    LayerUnavailable {
        /// What was tried, with the path in question.
        step: String,
        /// How to get it.
        remedy: String,
        /// The system's own error.
        source: io::Error,
    },
    /// The engine is not built for this machine.
    #[error("the native engine is built for Linux on x86-64 only")]
    Unsupported,
    /// The host is out of something, such as descriptors or memory.
    #[error("cannot {operation} for the sandbox")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// The system's own error.
        source: io::Error,
    },
}

/// A policy, and what was made of it.
struct Compiled<'p> {
    policy: &'p Policy,
    mounts: MountPlan,
    private: Vec<PathBuf>,
    has_namespaces: bool,
}

/// The mounts of a policy as things stand.
fn compile(policy: &Policy, private: Vec<PathBuf>) -> Result<MountPlan, OpenError> {
    policy
        .mounts(&tree::HostTree, &MountOptions { private })
        .map_err(|source| OpenError::Policy { source: Box::new(source) })
}

/// What holds the resources of commands.
enum Resources {
    /// A control group of the session's own.
    Group,
    /// The limits of each process, for want of a group.
    Processes {
        /// Why there is none.
        why: String,
    },
}

/// Starts init in a control group of its own, where one can be had and nothing is said against it;
/// `plan` encodes what it is to do.
fn start(
    limits: &Limits,
    against: Option<&str>,
    plan: impl Fn(Option<&SessionGroup>) -> Vec<u8>,
) -> Result<(InitProcess, Resources), OpenError> {
    let why = match SessionGroup::make(limits, against)? {
        Ok(group) => {
            let plan = plan(Some(&group));
            match InitProcess::start(&plan, Some(group)) {
                Ok(init) => return Ok((init, Resources::Group)),
                Err(OpenError::LayerUnavailable { step, source, .. })
                    if step == probe::GROUP_STEP && limits.cgroups == Cgroups::Automatic =>
                {
                    format!("cannot {step}: {source}")
                }
                Err(error) => return Err(error),
            }
        }
        Err(why) => why,
    };
    Ok((InitProcess::start(&plan(None), None)?, Resources::Processes { why }))
}

/// Where bash is: `/bin/bash` nearly everywhere, else the first on the host's `PATH`.
fn shell() -> PathBuf {
    let usual = PathBuf::from("/bin/bash");
    if usual.exists() {
        return usual;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("bash"))
        .find(|bash| bash.is_file())
        .unwrap_or(usual)
}
