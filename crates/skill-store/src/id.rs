//! Names of a skill: its id, its version, and its directory in a session.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use sandbox_core::{IdError, string_id};
use serde::{Deserialize, Serialize};

use crate::error_kind::ErrorKind;

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

/// A reference to a skill for a session: `ID[@VERSION][=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SkillRef {
    /// The skill.
    pub id: SkillId,
    /// The version. `None` stands for the first one.
    pub version: Option<Version>,
    /// The directory in the session. `None` stands for the id of the skill.
    pub name: Option<SkillName>,
}

impl SkillRef {
    /// Returns the directory of the skill in the session.
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
                let is_plain = version.bytes().all(|byte| byte.is_ascii_digit());
                let number = version.parse().ok().filter(|_| is_plain).and_then(Version::new);
                let invalid = || SkillRefError::Version { input: version.to_owned() };
                (id, Some(number.ok_or_else(invalid)?))
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

/// Errors returned for an invalid skill reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkillRefError {
    /// The id or the name is invalid.
    #[error("{problem}; a skill is written ID[@VERSION][=NAME], such as pdf@3 or pdf@3=reports")]
    Id {
        /// The error of the id or the name. It is part of the text, because a parser of command
        /// lines shows only that.
        problem: IdError,
    },
    /// The version is not a whole number of 1 or more.
    #[error(
        "the version {input:?} is not a whole number of 1 or more; a skill is written \
         ID[@VERSION][=NAME], such as pdf@3"
    )]
    Version {
        /// The text after the `@`.
        input: String,
    },
}

impl SkillRefError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl From<IdError> for SkillRefError {
    fn from(problem: IdError) -> Self {
        Self::Id { problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_displayed_in_the_form_that_was_parsed() {
        for text in ["pdf", "pdf@3", "pdf=reports", "a.b_c-1@4294967295=x"] {
            assert_eq!(text.parse::<SkillRef>().unwrap().to_string(), text);
        }
        assert_eq!("pdf@3".parse::<SkillRef>().unwrap().name().as_str(), "pdf");
    }

    #[test]
    fn the_error_of_a_reference_has_the_problem_and_the_syntax() {
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
    fn only_directories_with_plain_numbers_are_versions() {
        assert_eq!(Version::from_directory("v12").unwrap().get(), 12);
        for other in ["v0", "v", "v01", "v+1", "1", "v1x", "v99999999999"] {
            assert_eq!(Version::from_directory(other), None, "{other}");
        }
    }
}
