//! Events and the result of a command on the caller's streams.

use crate::sandbox::{CommandStatus, Limit, Quarantined, exit_code, limit_reached};

/// A change of an [`AttachedCommand`](super::AttachedCommand).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachedEvent {
    /// The command was stopped: from its terminal, or because the caller has passed on `SIGTSTP`.
    Stopped,
    /// Every process of the command has exited.
    Ended(AttachedOutcome),
}

/// The result of an [`AttachedCommand`](super::AttachedCommand).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachedOutcome {
    /// The exit status.
    pub status: CommandStatus,
    /// Names of the processes that outlived the shell and were killed.
    pub killed: Vec<String>,
    /// The limit that the kernel reports for the command as a whole, or the size of the session
    /// directory.
    pub limit: Option<Limit>,
    /// Like [`CommandOutput::unroutable`](crate::CommandOutput::unroutable).
    pub unroutable: u32,
    /// Files that the command created although the policy denies their paths.
    pub quarantined: Vec<Quarantined>,
    /// The reason for which the sandbox ended after the command, if it did.
    pub sandbox_ended: Option<&'static str>,
}

impl AttachedOutcome {
    /// Creates the result of a command that left nothing behind, for engines and fakes outside
    /// this crate. The fields are public.
    pub fn new(status: CommandStatus) -> Self {
        Self {
            status,
            killed: Vec::new(),
            limit: None,
            unroutable: 0,
            quarantined: Vec::new(),
            sandbox_ended: None,
        }
    }

    /// Returns the exit code, like
    /// [`CommandOutput::exit_code`](crate::CommandOutput::exit_code).
    pub fn exit_code(&self) -> i32 {
        exit_code(self.status, &self.quarantined, self.sandbox_ended)
    }

    /// Returns the limit that the command reached, like
    /// [`CommandOutput::limit_reached`](crate::CommandOutput::limit_reached).
    pub fn limit_reached(&self) -> Option<Limit> {
        limit_reached(self.limit, self.status)
    }
}
