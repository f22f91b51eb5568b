//! The engine that confines a session's commands: the native one, or one of the embedder.

mod native;
mod substitute;

use std::fmt::Debug;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use policy::{Access, CreationRules, Policy, Unenforced, Verdict};
use sandbox_core::internal::blocking;
use sandbox_core::{
    AttachedEvent, CommandOutput, CommandSpec, EngineReport, ExecError, NativeSandbox,
    NetworkError, NetworkListeners, OpenError, Overlay, PseudoTerminal, Quarantined, Sandbox,
    SessionDir, TerminalSize, WrappedEnd,
};

use self::substitute::Substitute;
use crate::session::{SessionSettings, Stop};

/// Opens the sandboxes of sessions in the place of the native engine, for example a fake one in the
/// tests of an embedder. See [`SessionsBuilder::engine`](crate::SessionsBuilder::engine).
///
/// All tools of a session work with an engine that only runs commands. The policy answers for the
/// paths of files, and a process of [`Session::spawn`](crate::Session::spawn) is one command: it
/// begins after the end of its input, and its output comes at its end. Such a session has no
/// network, no terminals, no [`Session::wrap_command`](crate::Session::wrap_command), and its file
/// tools do not reach `/tmp`.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use agent_tools::policy::Policy;
/// use agent_tools::{
///     CapturedStream, CloseMode, CommandOutput, CommandSpec, CommandStatus, EngineReport,
///     Enforcement, ExecError, Home, OpenError, Sandbox, SandboxFactory, SessionId, SessionSpec,
///     Sessions, Spawn,
/// };
/// use tokio::io::AsyncReadExt;
///
/// /// Prints each command instead of running it.
/// #[derive(Debug)]
/// struct Echo(EngineReport);
///
/// #[async_trait::async_trait]
/// impl Sandbox for Echo {
///     async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError> {
///         let mut output = CommandOutput::new(CommandStatus::Exited(3));
///         output.stdout = CapturedStream::new(command.command);
///         Ok(output)
///     }
///
///     fn report(&self) -> &EngineReport {
///         &self.0
///     }
///
///     async fn close(&self) {}
/// }
///
/// #[derive(Debug)]
/// struct Echoes;
///
/// #[async_trait::async_trait]
/// impl SandboxFactory for Echoes {
///     async fn open(&self, _: &Policy, _: &Path) -> Result<Arc<dyn Sandbox>, OpenError> {
///         let nothing = Enforcement::Weaker { why: "it runs nothing".to_owned() };
///         Ok(Arc::new(Echo(EngineReport::new("echo", &nothing))))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let home = Home::new(dir.path().join("home"));
/// let sessions = Sessions::builder(home).engine(Arc::new(Echoes)).build();
/// let session = sessions.open(SessionSpec::new(SessionId::parse("s1")?)).await?;
/// let ran = session.bash("make").await?;
/// assert_eq!((ran.stdout.as_str(), ran.exit_code), ("make", 3));
///
/// let mut process = session.spawn(Spawn::command("make test")).await?;
/// let mut output = String::new();
/// process.take_stdout().expect("a pipe").read_to_string(&mut output).await?;
/// assert_eq!((output.as_str(), process.wait().await?.exit_code), ("make test", 3));
///
/// session.write_file("notes.txt", b"the files are real").await?;
/// assert_eq!(session.read_file("/notes.txt").await?.content, "the files are real");
/// // Without a store, the files have no copy.
/// sessions.close_with(session.id(), CloseMode::Discard).await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait SandboxFactory: Debug + Send + Sync {
    /// Opens the sandbox of a session with this policy, in its directory. Called again after the
    /// sandbox has ended.
    ///
    /// # Errors
    /// Returns [`OpenError`] if there can be no sandbox. The session is not opened then.
    async fn open(
        &self,
        policy: &Policy,
        session_dir: &Path,
    ) -> Result<Arc<dyn Sandbox>, OpenError>;
}

/// Gets each piece of the output of a command.
pub(crate) type Watch<'w> = dyn Fn(&[u8]) + Sync + 'w;

/// Learns of each end of a wrapped command.
pub(crate) type WrappedObserver = Box<dyn Fn(WrappedEnd) + Send + Sync>;

/// An engine as a session uses it. See [`NativeSandbox`] for the methods.
#[async_trait]
pub(crate) trait Engine: Debug + Send + Sync {
    fn report(&self) -> &EngineReport;

    /// Runs a command until its end, or until it is stopped.
    async fn exec(
        &self,
        command: CommandSpec,
        stop: Stop,
        watch: &Watch<'_>,
    ) -> Result<CommandOutput, ExecError>;

    async fn start(
        &self,
        command: &CommandSpec,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<Box<dyn RunningCommand>, ExecError>;

    async fn start_in_terminal(
        &self,
        command: &CommandSpec,
        size: TerminalSize,
    ) -> Result<(Box<dyn RunningCommand>, PseudoTerminal), ExecError>;

    fn wrap_command(&self, command: &CommandSpec) -> Result<String, ExecError>;

    fn observe_wrapped_commands(&self, observer: WrappedObserver);

    fn runs_wrapped_commands(&self) -> bool;

    async fn check_running(&self) -> Vec<Quarantined>;

    fn kill(&self, reason: &'static str);

    async fn close(&self);

    fn allows(&self, path: &Path, access: Access) -> bool;

    fn explain(&self, path: &Path, access: Access) -> Verdict;

    fn restricted_below(&self, path: &Path) -> Option<PathBuf>;

    fn protected_inside(&self, dir: &Path) -> Option<PathBuf>;

    fn creation_rules(&self) -> Option<CreationRules>;

    fn affects_policy(&self, path: &Path) -> bool;

    fn unenforced(&self) -> Vec<Unenforced>;

    /// Blocks for a few milliseconds.
    fn refresh(&self) -> Result<(), OpenError>;

    async fn reserve(&self, bytes: u64, files: u64) -> bool;

    fn temporary_dir(&self) -> &Path;

    fn own_tmp(&self) -> Option<&SessionDir>;

    fn shell(&self) -> &Path;

    fn overlays(&self) -> &[Overlay];

    async fn open_network(&self, ports: &[u16]) -> Result<NetworkListeners, NetworkError>;

    async fn dial(&self, port: u16) -> Result<TcpStream, NetworkError>;
}

/// A command that runs on streams of the host. Dropping it kills the command. See
/// [`AttachedCommand`](sandbox_core::AttachedCommand).
#[async_trait]
pub(crate) trait RunningCommand: Send {
    fn signal(&mut self, number: i32);

    fn kill(&mut self);

    fn extend_linger(&mut self);

    /// # Cancel safety
    /// After the future is dropped, it can be called again.
    async fn next_event(&mut self) -> Result<AttachedEvent, ExecError>;
}

impl SessionSettings {
    /// Opens the sandbox of a session.
    pub(crate) async fn open_engine(
        &self,
        policy: &Policy,
        dir: &Path,
        overlays: Vec<Overlay>,
    ) -> Result<Arc<dyn Engine>, OpenError> {
        if let Some(factory) = &self.engine {
            let sandbox = factory.open(policy, dir).await?;
            return Ok(Arc::new(Substitute::new(sandbox, policy.clone())));
        }
        let builder = NativeSandbox::builder(policy, dir).limits(self.limits.clone());
        let builder = builder.tier(self.tier.clone()).overlays(overlays);
        Ok(Arc::new(blocking(move || builder.open()).await?))
    }
}
