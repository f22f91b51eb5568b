//! How a skill is named: its id, its version, and the directory that it gets in a session.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use sandbox_core::{IdError, string_id};
use serde::{Deserialize, Serialize};

string_id! {
    /// The id of a skill in the store.
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String")]
    pub struct SkillId("skill id");
}

string_id! {
    /// The name of a skill in a session: its directory below `skills/`.
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String")]
    pub struct SkillName("skill name");
}

/// A version of a skill, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(NonZeroU32);

impl Version {
    /// The first one.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// A version by its number; `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The version after this one.
    pub(crate) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The version that a directory of keys, such as `v3`, stands for.
    pub(crate) fn from_directory(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('v')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        plain.then(|| digits.parse().ok().and_then(Self::new)).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which skill a session is to have: `ID[@VERSION][=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SkillRef {
    /// The skill.
    pub id: SkillId,
    /// Its version; without one the first is meant.
    pub version: Option<Version>,
    /// The directory that it gets; without one it is called like the skill.
    pub name: Option<SkillName>,
}

impl SkillRef {
    /// The directory that the skill gets.
    pub fn name(&self) -> SkillName {
        self.name.clone().unwrap_or_else(|| SkillName(self.id.0.clone()))
    }
}

impl FromStr for SkillRef {
    type Err = SkillRefError;

    fn from_str(input: &str) -> Result<Self, SkillRefError> {
        let (rest, name) = match input.split_once('=') {
            Some((rest, name)) => (rest, Some(SkillName::parse(name)?)),
            None => (input, None),
        };
        let (id, version) = match rest.split_once('@') {
            Some((id, version)) => {
                let plain = version.bytes().all(|byte| byte.is_ascii_digit());
                let number = version.parse().ok().filter(|_| plain).and_then(Version::new);
                (
                    id,
                    Some(
                        number
                            .ok_or_else(|| SkillRefError::Version { input: version.to_owned() })?,
                    ),
                )
            }
            None => (rest, None),
        };
        Ok(Self { id: SkillId::parse(id)?, version, name })
    }
}

impl fmt::Display for SkillRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        if let Some(version) = self.version {
            write!(f, "@{version}")?;
        }
        match &self.name {
            Some(name) => write!(f, "={name}"),
            None => Ok(()),
        }
    }
}

/// Why a text names no skill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkillRefError {
    /// The id or the name breaks its rule.
    #[error("{source}; a skill is written ID[@VERSION][=NAME], such as pdf@3 or pdf@3=reports")]
    Id {
        /// Which, and why.
        #[from]
        source: IdError,
    },
    /// The version is no number from 1 on.
    #[error(
        "the version {input:?} is no whole number from 1 on; a skill is written ID[@VERSION][=NAME], such as pdf@3"
    )]
    Version {
        /// What stands after the `@`.
        input: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_back_as_they_were_written() {
        for text in ["pdf", "pdf@3", "pdf=reports", "a.b_c-1@4294967295=x"] {
            assert_eq!(text.parse::<SkillRef>().unwrap().to_string(), text);
        }
        assert_eq!("pdf@3".parse::<SkillRef>().unwrap().name().as_str(), "pdf");
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        for (text, expected) in [
            ("a/b", "skill id \"a/b\""),
            ("", "is empty"),
            ("@", "version \"\""),
            ("a@0", "version \"0\""),
            ("a@x", "version \"x\""),
            ("a@+1", "version \"+1\""),
            ("a@4294967296", "version"),
            ("a=", "skill name \"\""),
            ("a=../x", "skill name \"../x\""),
            ("..", "names a directory"),
        ] {
            let error = text.parse::<SkillRef>().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("ID[@VERSION]"), "{text}: {error}");
        }
    }

    #[test]
    fn only_plain_numbers_are_versions_of_the_layout() {
        assert_eq!(Version::from_directory("v12").unwrap().get(), 12);
        for other in ["v0", "v", "v01", "v+1", "1", "v1x", "v99999999999"] {
            assert_eq!(Version::from_directory(other), None, "{other}");
        }
    }
}
