//! The id of a skill and the number of a version.

use std::fmt;
use std::num::NonZeroU32;

use sandbox_core::string_id;
use serde::{Deserialize, Serialize};

string_id! {
    /// The id of a skill in the store.
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String")]
    pub struct SkillId("skill id");
}

/// The number of a version of a skill, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(NonZeroU32);

impl Version {
    /// The first version.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Returns the version with a number, or `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the next version, or `None` after the last possible one.
    pub(crate) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// Returns the name of the directory of keys for this version, such as `v3`.
    pub(crate) fn directory(self) -> String {
        format!("v{self}")
    }

    /// Parses the name of a directory of keys.
    pub(crate) fn from_directory(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('v')?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        is_plain.then(|| digits.parse().ok().and_then(Self::new)).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_with_plain_numbers_are_versions() {
        assert_eq!(Version::from_directory("v12").unwrap().get(), 12);
        for other in ["v0", "v", "v01", "v+1", "1", "v1x", "v99999999999"] {
            assert_eq!(Version::from_directory(other), None, "{other}");
        }
    }
}
