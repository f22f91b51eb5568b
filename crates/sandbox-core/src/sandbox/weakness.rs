//! Tiers of the native engine, and the weaknesses that a caller accepts by name.

use std::fmt;
use std::str::FromStr;

/// A gap of the Landlock tier. A session opens only if the caller accepts each gap that applies by
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// Rules inside writable directories: files that such a rule protects can be changed, and
    /// hidden files can be read. If not accepted, commands cannot create such files.
    InnerRules,
    /// Signals reach every process of the same user before Linux 6.12.
    Signals,
    /// The permissions, times and extended attributes of every file of the same user can be
    /// changed. If not accepted, none can be changed, and `chmod` fails.
    Attributes,
}

impl Weakness {
    /// All weaknesses.
    pub const ALL: [Self; 3] = [Self::InnerRules, Self::Signals, Self::Attributes];

    /// Returns the name by which a caller accepts the weakness.
    pub fn name(self) -> &'static str {
        match self {
            Self::InnerRules => "inner-rules",
            Self::Signals => "signals",
            Self::Attributes => "attributes",
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Weakness {
    type Err = UnknownWeakness;

    fn from_str(name: &str) -> Result<Self, UnknownWeakness> {
        Self::ALL.into_iter().find(|weakness| weakness.name() == name).ok_or(UnknownWeakness)
    }
}

/// The kernel mechanism that confines the commands of a native sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Namespaces of the session.
    #[default]
    Namespaces,
    /// Landlock, for hosts that deny user namespaces. It is weaker, and never chosen automatically.
    Landlock {
        /// Weaknesses that the caller accepts.
        accepted: Vec<Weakness>,
    },
}

/// Error returned for a name that is not the name of a [`Weakness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of inner-rules, signals, attributes")]
pub struct UnknownWeakness;

/// Kinds of [`UnknownWeakness`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownWeaknessKind {
    /// No weakness has this name.
    UnknownName,
}

impl UnknownWeakness {
    /// Returns the kind of the error.
    pub fn kind(&self) -> UnknownWeaknessKind {
        UnknownWeaknessKind::UnknownName
    }

    /// Returns `false`: the same name fails again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
