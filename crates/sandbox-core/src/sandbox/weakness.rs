//! What a weaker engine cannot hold, by name, for those who accept it.

use std::fmt;
use std::str::FromStr;

/// Something that a session without namespaces cannot hold. It does not open until each that
/// applies is accepted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// What a policy protects or hides inside a writable directory can be changed and read.
    InnerRules,
    /// Signals reach every process of the same user (before Linux 6.12).
    Signals,
    /// The permissions, times and extended attributes of every file of the same user can be
    /// changed. Without this, nobody's can, and `chmod` fails.
    Attributes,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InnerRules, Self::Signals, Self::Attributes];

    /// The name by which it is accepted.
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

/// What a native sandbox stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Namespaces of the session's own.
    #[default]
    Namespaces,
    /// Landlock, on a host that refuses user namespaces; weaker, and chosen by name only.
    Landlock {
        /// What is accepted not to hold.
        accepted: Vec<Weakness>,
    },
}

/// A name that is none of a [`Weakness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of inner-rules, signals, attributes")]
pub struct UnknownWeakness;
