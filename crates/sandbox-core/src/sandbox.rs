//! The contract between a session and whatever confines its commands.

mod command;
mod limits;
mod report;
#[cfg(any(feature = "native", feature = "srt"))]
pub(crate) mod streams;
mod weakness;

use async_trait::async_trait;

pub use command::{
    CapturedStream, CommandOutput, CommandSpec, CommandStatus, ExecError, ExecErrorKind,
    Quarantined,
};
pub use limits::{Cgroups, Limit, Limits};
pub use report::{Enforcement, EngineReport};
pub use weakness::{Tier, UnknownWeakness, Weakness};

/// Runs commands of one session under one policy.
///
/// The policy and the session directory are fixed when an engine is opened. Commands may overlap.
#[async_trait]
pub trait Sandbox: std::fmt::Debug + Send + Sync {
    /// Runs one command to its end. When this returns, no process of the command is alive.
    ///
    /// A non-zero exit, a signal and a timeout are results, not errors.
    ///
    /// # Errors
    /// [`ExecError`] when the command could not be started, or the engine broke down under it.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command and all that it started.
    async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError>;

    /// What the engine enforces on this machine.
    fn report(&self) -> &EngineReport;

    /// Ends every process of the session; later commands fail. Dropping the engine does the same,
    /// without waiting.
    async fn close(&self);
}
