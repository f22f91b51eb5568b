//! An open native sandbox.

use std::fmt;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use policy::{Access, CreationRules, MountOp, Unenforced};
use rustix::io::Errno;

use super::attached::{self, AttachedCommand};
use super::connection::Connection;
use super::error::OpenError;
use super::exec;
use super::network::{self, BestCapture, NetworkError, NetworkListeners};
use super::overlay::Overlay;
use super::plan;
use super::prestart::Prestart;
use super::pseudo_terminal::{PseudoTerminal, TerminalSize};
use super::refresh::{CompiledPolicy, Mounts, NOT_REFRESHED};
use super::wrapped::{WrappedCommands, WrappedEnd};
use crate::files::{SessionDir, Usage};
use crate::internal::blocking;
use crate::sandbox::{
    CommandOutput, CommandSpec, EngineReport, ExecError, Quarantined, Sandbox, Tier,
};

/// An open sandbox of one session.
///
/// While no command runs, a prestarted shell waits for the next one. It has the environment and the
/// working directory of the last command. A command that has the same starts in a third of the
/// time. The shell exits after 30 s without a command, which frees its memory.
pub struct NativeSandbox {
    connection: Arc<Connection>,
    mounts: Arc<Mounts>,
    prestart: Arc<Prestart>,
    wrapped: WrappedCommands,
    temporary_dir: PathBuf,
    report: EngineReport,
    best_capture: BestCapture,
    overlays: Vec<Overlay>,
    /// The report since the network was opened.
    report_with_network: Arc<OnceLock<EngineReport>>,
}

impl fmt::Debug for NativeSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeSandbox")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl NativeSandbox {
    pub(super) fn new(
        connection: Connection,
        compiled: CompiledPolicy,
        temporary_dir: &Path,
        report: EngineReport,
    ) -> Self {
        let connection = Arc::new(connection);
        let mounts = Arc::new(Mounts::new(Arc::clone(&connection), compiled));
        Self {
            connection,
            mounts,
            prestart: Arc::default(),
            wrapped: WrappedCommands::default(),
            temporary_dir: temporary_dir.to_owned(),
            report,
            best_capture: BestCapture::default(),
            overlays: Vec::new(),
            report_with_network: Arc::default(),
        }
    }

    pub(super) fn with_best_capture(self, best_capture: BestCapture) -> Self {
        Self { best_capture, ..self }
    }

    pub(super) fn with_overlays(self, overlays: Vec<Overlay>) -> Self {
        Self { overlays, ..self }
    }

    /// Returns the files that commands see in the place of others.
    pub fn overlays(&self) -> &[Overlay] {
        &self.overlays
    }

    /// Returns the directories, such as `/tmp`, that every session on a tier sees empty instead of
    /// the host's. A policy with [them](policy::Policy::with_private) answers for such paths.
    pub fn private_directories(tier: &Tier) -> Vec<PathBuf> {
        match tier {
            Tier::Namespaces => plan::private_directories(),
            Tier::Landlock { .. } => Vec::new(),
        }
    }

    /// Returns the sandbox's directory for temporary files, as commands see it. `HOME` and `TMPDIR`
    /// should name it. No other session can see its content.
    pub fn temporary_dir(&self) -> &Path {
        &self.temporary_dir
    }

    /// Returns the files of the session's own `/tmp`. `None` if its policy opens the host's `/tmp`,
    /// and on the Landlock tier. After the end of the session, nothing can be opened there.
    ///
    /// Paths are resolved inside that mount alone: what is mounted below is refused.
    pub fn own_tmp(&self) -> Option<&SessionDir> {
        self.connection.tmp()
    }

    /// Returns the path of the shell that runs commands. `SHELL` should name it.
    pub fn shell(&self) -> &Path {
        self.connection.shell()
    }

    /// Returns the process id of the session's init, as the host sees it.
    pub fn init_pid(&self) -> u32 {
        self.connection.init_pid()
    }

    /// Returns whether the mounts and the creation rules of this sandbox let commands read or write
    /// a canonical path.
    ///
    /// The answer does not include file permissions, because no system call is made.
    pub fn allows(&self, path: &Path, access: Access) -> bool {
        self.mounts.plan().permits(path, access)
    }

    /// Returns a path below the canonical `path` that commands cannot read or write, if a rule of
    /// the policy names one. To move or remove `path` would take that path away from its rule.
    pub fn restricted_below(&self, path: &Path) -> Option<PathBuf> {
        let plan = self.mounts.plan();
        let is_restricted = |below: &&Path| {
            *below != path
                && below.starts_with(path)
                && !(plan.permits(below, Access::Read) && plan.permits(below, Access::Write))
        };
        let mut paths = plan.ops.iter().filter_map(MountOp::path);
        paths.find(is_restricted).map(Path::to_owned)
    }

    /// Returns the test for canonical paths that must not be created; `None` if there are no rules.
    pub fn creation_rules(&self) -> Option<CreationRules> {
        let plan = self.mounts.plan();
        (!plan.creation_rules.is_empty()).then(|| plan.creation_rules.clone())
    }

    pub(super) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Opens the listeners of the session's network, inside its network namespace. A session that
    /// never calls this has no network.
    ///
    /// The caller accepts what commands connect to, decides, and connects to the outside for them.
    /// Commands have no other way out. `ports` are those that the policy names. They matter only
    /// for [`Capture::Ports`](crate::Capture::Ports), which also has the ports 22, 53, 80 and 443,
    /// and at most 64 together.
    ///
    /// Takes less than a millisecond, and works while commands run.
    ///
    /// # Errors
    /// Returns [`NetworkError`] on [`Tier::Landlock`], at the second call, and if the session has
    /// ended. A kernel that cannot capture connections is no error; see
    /// [`NetworkListeners::capture`].
    ///
    /// # Cancel safety
    /// After the future is dropped, the listeners may be open and closed again. The session then
    /// has no network until the sandbox is opened again.
    pub async fn open_network(&self, ports: &[u16]) -> Result<NetworkListeners, NetworkError> {
        self.check_network()?;
        let (connection, best) = (Arc::clone(&self.connection), self.best_capture);
        let (ports, reported) = (ports.to_vec(), Arc::clone(&self.report_with_network));
        let report = self.report.clone();
        blocking(move || match connection.ask(|updates| network::open(updates, best, &ports))? {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ALREADY) => {
                Err(NetworkError::AlreadyOpen)
            }
            opened => {
                let listeners = opened.map_err(NetworkError::host("open the listeners"))?;
                let capture = listeners.report();
                let _ = reported.set(EngineReport { capture, ..report });
                Ok(listeners)
            }
        })
        .await
    }

    /// Connects to a port of the session's loopback, on which a command listens. The socket is in
    /// blocking mode. The session needs no network for this.
    ///
    /// Tries `127.0.0.1`, and then `::1`.
    ///
    /// # Errors
    /// Returns [`NetworkError`] on [`Tier::Landlock`], if no command listens on the port, and if
    /// the session has ended.
    ///
    /// # Cancel safety
    /// After the future is dropped, the command may accept a connection that is closed at once.
    pub async fn dial(&self, port: u16) -> Result<TcpStream, NetworkError> {
        self.check_network()?;
        let connection = Arc::clone(&self.connection);
        blocking(move || network::dial(&connection, port)).await
    }

    fn check_network(&self) -> Result<(), NetworkError> {
        if !self.mounts.has_namespaces() {
            return Err(NetworkError::NoNamespace);
        }
        let reason = "this process is a fork of the one that opened it";
        self.connection.check_process().map_err(|_| NetworkError::Ended { reason })
    }

    /// Returns a string that runs a command in this sandbox when any shell of this user on this
    /// host runs the string. It works any number of times while this sandbox is open, until
    /// thousands of other commands were wrapped. Then it fails with the advice to wrap it again.
    ///
    /// The command runs on the standard streams of that shell; the input in `spec` is ignored. The
    /// command's text, directory, environment and timeout stay in this process until the sandbox is
    /// dropped. So quoting cannot go wrong, and no list of processes shows them.
    ///
    /// The exit code is that of the command, or 128 plus the number of the signal that killed it.
    /// It is 124 after a timeout, and 125 if the command could not be run, or if it succeeded and
    /// created a file at a denied path. Signals to the process
    /// that the string starts reach the command. Killing that process kills the command.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command could never be run, or if the host is out of
    /// descriptors.
    pub fn wrap_command(&self, spec: &CommandSpec) -> Result<String, ExecError> {
        self.connection.check_process()?;
        self.wrapped.wrap(&self.connection, &self.mounts, spec)
    }

    /// Tells `observer` of each end of a command of [`NativeSandbox::wrap_command`], before its
    /// client exits. It replaces an earlier observer, and is called in a thread of the client.
    pub fn observe_wrapped_commands(&self, observer: impl Fn(WrappedEnd) + Send + Sync + 'static) {
        self.wrapped.observe(Arc::new(observer));
    }

    /// Returns whether the session directory stays within its limits if the host adds this much to
    /// it, and counts that as added.
    ///
    /// # Cancel safety
    /// After the future is dropped, nothing is added.
    pub async fn reserve(&self, bytes: u64, files: u64) -> bool {
        self.connection.size().reserve(Usage { bytes, files }).await
    }

    /// Returns whether a command of [`NativeSandbox::wrap_command`] is running.
    pub fn runs_wrapped_commands(&self) -> bool {
        self.wrapped.are_running()
    }

    /// Returns the rules of the policy that are not enforced on the current files, with reasons.
    pub fn unenforced(&self) -> Vec<Unenforced> {
        self.mounts.plan().unenforced.clone()
    }

    /// Returns whether creating `path` can activate further rules; if so, call
    /// [`NativeSandbox::refresh`].
    pub fn affects_policy(&self, path: &Path) -> bool {
        self.mounts.plan().creation_rules.affects_policy(path)
    }

    /// Hides and protects the files that the policy covers now and did not cover when it was
    /// compiled last.
    ///
    /// After a command that has created such a file, this happens automatically. A host that writes
    /// files into the session calls it. Blocks for a few milliseconds. A path that the policy
    /// allows, and that was absent, stays closed until the sandbox is opened again.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the policy cannot be compiled, or if the kernel denies a mount. The
    /// sandbox then ends, because new files would not be protected.
    pub fn refresh(&self) -> Result<(), OpenError> {
        self.connection.check_process().map_err(|error| OpenError::Host {
            operation: "use a session of the parent process",
            source: std::io::Error::other(error),
        })?;
        self.mounts.reapply_policy().inspect_err(|_| self.connection.begin_to_end(NOT_REFRESHED))
    }

    /// Starts a command on the caller's standard input, output and error.
    ///
    /// A directory is refused. A file that commands may not write to goes through a pipe, so it is
    /// read ahead.
    ///
    /// Uses the command, the directory and the environment of `spec`. There is no timeout, and no
    /// output is captured. Signals reach the command through [`AttachedCommand::signal`].
    ///
    /// If a stream is a terminal, the command gets a pseudo-terminal in its place, as its
    /// controlling terminal. It is in the foreground from the start if input and output are this
    /// terminal, and otherwise once it uses it. Meanwhile the caller's terminal is in raw mode.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the request could not be sent.
    pub async fn start(
        &self,
        spec: &CommandSpec,
        streams: [std::os::fd::BorrowedFd<'_>; 3],
    ) -> Result<AttachedCommand, ExecError> {
        self.connection.check_process()?;
        attached::start(&self.connection, &self.mounts, spec, streams).await
    }

    /// Starts a command in a pseudo-terminal of its own, as its controlling terminal and its three
    /// streams. Returns the outer end too.
    ///
    /// A shell that stops itself goes on at once, because no other shell could continue it.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the terminal cannot be created, or the request could not be sent.
    pub async fn start_in_terminal(
        &self,
        spec: &CommandSpec,
        size: TerminalSize,
    ) -> Result<(AttachedCommand, PseudoTerminal), ExecError> {
        self.connection.check_process()?;
        attached::start_in_terminal(&self.connection, &self.mounts, spec, size).await
    }

    /// Quarantines files that running commands have created although the policy denies their
    /// paths, and applies the policy to new files, as after every command. Returns the files.
    ///
    /// If that is impossible, the sandbox ends.
    ///
    /// # Cancel safety
    /// The check continues if the caller drops the future.
    pub async fn check_running(&self) -> Vec<Quarantined> {
        let mounts = Arc::clone(&self.mounts);
        blocking(move || mounts.check_running()).await
    }

    /// Kills every process of the session without waiting for that. Later commands fail with this
    /// reason.
    pub fn kill(&self, reason: &'static str) {
        self.connection.begin_to_end(reason);
    }

    /// Runs one command like [`Sandbox::exec`], and kills every process of it once `stop` returns.
    /// The result then has the output until that moment.
    ///
    /// # Errors
    /// Like [`Sandbox::exec`].
    ///
    /// # Cancel safety
    /// Like [`Sandbox::exec`].
    pub async fn exec_until(
        &self,
        command: CommandSpec,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<CommandOutput, ExecError> {
        self.exec_watched(command, stop, &|_| ()).await
    }

    /// Like [`NativeSandbox::exec_until`], and passes each piece of both output streams to `watch`
    /// when it arrives. Output above `max_output_bytes` is not passed.
    ///
    /// # Errors
    /// Like [`Sandbox::exec`].
    ///
    /// # Cancel safety
    /// Like [`Sandbox::exec`].
    pub async fn exec_watched(
        &self,
        command: CommandSpec,
        stop: impl Future<Output = ()> + Send,
        watch: &(dyn Fn(&[u8]) + Sync),
    ) -> Result<CommandOutput, ExecError> {
        self.connection.check_process()?;
        exec::exec(&self.connection, &self.mounts, &self.prestart, command, stop, watch).await
    }
}

#[async_trait]
impl Sandbox for NativeSandbox {
    async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError> {
        self.exec_until(command, std::future::pending()).await
    }

    fn report(&self) -> &EngineReport {
        self.report_with_network.get().unwrap_or(&self.report)
    }

    async fn close(&self) {
        // The session belongs to the parent of this process.
        if self.connection.check_process().is_err() {
            return;
        }
        self.connection.end().await;
        for file in self.mounts.quarantine_outstanding() {
            tracing::warn!("quarantined: {file}");
        }
    }
}
