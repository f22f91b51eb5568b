//! What an engine really enforces.

use std::fmt;

/// What an engine enforces on this machine, layer by layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineReport {
    /// The engine's name, such as `native`.
    pub engine: &'static str,
    /// Which files a command can read and write.
    pub filesystem: Enforcement,
    /// Whom it can talk to.
    pub network: Enforcement,
    /// Which processes it sees, and that none outlives it.
    pub processes: Enforcement,
    /// Which calls into the kernel it can make.
    pub system_calls: Enforcement,
    /// How much time, memory and space it can use.
    pub resources: Enforcement,
}

/// How far one layer is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enforcement {
    /// As the policy says.
    Full,
    /// With a gap.
    Weaker {
        /// The gap.
        why: String,
    },
    /// Not at all; an engine with this refuses to open.
    None {
        /// What is missing.
        why: String,
        /// How to get it.
        remedy: String,
    },
}

impl EngineReport {
    /// The layers with their names, in the order in which they are shown.
    pub fn layers(&self) -> [(&'static str, &Enforcement); 5] {
        [
            ("filesystem", &self.filesystem),
            ("network", &self.network),
            ("processes", &self.processes),
            ("system calls", &self.system_calls),
            ("resources", &self.resources),
        ]
    }

    /// Whether every layer is enforced at least in part.
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
