//! The contract between a session and the engine that confines its commands.

mod capture;
mod command;
mod limits;
mod report;
#[cfg(any(feature = "native", feature = "srt"))]
pub(crate) mod streams;
mod weakness;

use async_trait::async_trait;

pub use capture::{Capture, CaptureReport};
pub use command::{
    CapturedStream, CommandOutput, CommandSpec, CommandStatus, ExecError, ExecErrorKind,
    QuarantineOutcome, Quarantined,
};
#[cfg(feature = "native")]
pub(crate) use command::{REFUSED, exit_code, limit_reached};
pub use limits::{Cgroups, Limit, Limits};
pub use report::{Enforcement, EngineReport};
pub use weakness::{Tier, UnknownWeakness, UnknownWeaknessKind, Weakness};

/// Runs commands of one session under one policy.
///
/// The policy and the session directory are fixed when an engine opens. Commands may overlap.
///
/// An embedder that holds an `Arc<dyn Sandbox>` can replace the engine in its tests:
///
/// ```
/// use std::sync::Arc;
///
/// use sandbox_core::{
///     CapturedStream, CommandOutput, CommandSpec, CommandStatus, EngineReport, Enforcement,
///     ExecError, Sandbox,
/// };
///
/// /// Answers each command with its text.
/// #[derive(Debug)]
/// struct Echo(EngineReport);
///
/// #[async_trait::async_trait]
/// impl Sandbox for Echo {
///     async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError> {
///         let mut output = CommandOutput::new(CommandStatus::Exited(0));
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
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ExecError> {
/// let nothing = Enforcement::Weaker { why: "it runs nothing".to_owned() };
/// let sandbox: Arc<dyn Sandbox> = Arc::new(Echo(EngineReport::new("echo", &nothing)));
/// let output = sandbox.exec(CommandSpec::new("make")).await?;
/// assert_eq!((output.exit_code(), &output.stdout.bytes[..]), (0, &b"make"[..]));
/// assert!(sandbox.report().is_usable());
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Sandbox: std::fmt::Debug + Send + Sync {
    /// Runs one command until every process of it has exited.
    ///
    /// A non-zero exit code, a signal and a timeout are results, not errors.
    ///
    /// # Errors
    /// Returns [`ExecError`] if the command could not be started, or if the engine ended under it.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command and every process that it started.
    async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError>;

    /// Returns a report of the enforcement on this machine.
    fn report(&self) -> &EngineReport;

    /// Ends every process of the session and waits for that. Later commands fail. Dropping the
    /// engine does the same without waiting.
    async fn close(&self);
}
