//! Reports of enforcement.

use std::fmt;

use super::capture::CaptureReport;

/// A report of the enforcement on this machine, layer by layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineReport {
    /// The engine's name, such as `native`.
    pub engine: &'static str,
    /// Access of commands to files.
    pub filesystem: Enforcement,
    /// Access of commands to the network.
    pub network: Enforcement,
    /// Capture of connections, if the session has a network. A report without a session is about
    /// the capture that a session would have.
    pub capture: CaptureReport,
    /// Visibility of processes, and the end of all processes of a command.
    pub processes: Enforcement,
    /// Access of commands to system calls.
    pub system_calls: Enforcement,
    /// Limits on time, memory and space.
    pub resources: Enforcement,
}

/// The degree to which one layer is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enforcement {
    /// The layer enforces the policy fully.
    Full,
    /// The layer has gaps.
    Weaker {
        /// The gaps.
        why: String,
    },
    /// The layer is not available. The engine does not open.
    None {
        /// The cause.
        why: String,
        /// Advice to the operator of the host.
        remedy: String,
    },
}

impl EngineReport {
    /// Creates a report that says the same of every layer, for engines and fakes outside this
    /// crate. The fields are public.
    pub fn new(engine: &'static str, enforcement: &Enforcement) -> Self {
        let layer = || enforcement.clone();
        Self {
            engine,
            filesystem: layer(),
            network: layer(),
            capture: CaptureReport::none("the engine has no network"),
            processes: layer(),
            system_calls: layer(),
            resources: layer(),
        }
    }

    /// Returns the layers with their names, in display order.
    pub fn layers(&self) -> [(&'static str, &Enforcement); 5] {
        [
            ("filesystem", &self.filesystem),
            ("network", &self.network),
            ("processes", &self.processes),
            ("system calls", &self.system_calls),
            ("resources", &self.resources),
        ]
    }

    /// Returns whether every layer is enforced at least in part.
    pub fn is_usable(&self) -> bool {
        self.layers().iter().all(|(_, layer)| !matches!(layer, Enforcement::None { .. }))
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Weaker { why } => write!(f, "weaker: {why}"),
            Self::None { why, remedy } => write!(f, "none: {why}; {remedy}"),
        }
    }
}
