//! References to skills, as users write them: `ID[@VERSION][=NAME]`.

use std::fmt;
use std::str::FromStr;

use sandbox_core::IdError;

use crate::error_kind::ErrorKind;
use crate::id::{SkillId, Version};
use crate::skill_name::SkillName;

/// Maximum length of a tag.
const MAX_TAG: usize = 64;
/// The word for the latest version, which is no tag.
const LATEST: &str = "latest";

/// A reference to a skill for a session: `ID[@VERSION][=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SkillRef {
    /// The skill.
    pub id: SkillId,
    /// The version. `None` stands for the latest one.
    pub version: Option<VersionSelector>,
    /// The directory in the session. `None` stands for the id of the skill.
    pub name: Option<SkillName>,
}

/// A way to name a version of a skill.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VersionSelector {
    /// The version with a number, such as `3`.
    Number(Version),
    /// The latest complete version: `latest`.
    Latest,
    /// The version that a tag names, such as `stable`.
    Tag(Tag),
}

/// The name of a tag: 1–64 of `[a-z0-9-]`, beginning with a letter. It is neither `latest` nor like
/// `v2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Parses a tag.
    ///
    /// # Errors
    /// Returns [`SkillRefError::Version`] if the text is no tag.
    pub fn parse(input: &str) -> Result<Self, SkillRefError> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_valid = input.starts_with(|c: char| c.is_ascii_lowercase())
            && input.len() <= MAX_TAG
            && input.bytes().all(is_allowed)
            && input != LATEST
            && !is_version_like(input);
        if is_valid { Ok(Self(input.to_owned())) } else { Err(invalid_version(input)) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a tag would be read as a version, such as `v2`.
fn is_version_like(tag: &str) -> bool {
    let digits = tag.strip_prefix('v').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for Tag {
    type Err = SkillRefError;

    fn from_str(input: &str) -> Result<Self, SkillRefError> {
        Self::parse(input)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Version> for VersionSelector {
    fn from(version: Version) -> Self {
        Self::Number(version)
    }
}

impl FromStr for VersionSelector {
    type Err = SkillRefError;

    fn from_str(input: &str) -> Result<Self, SkillRefError> {
        if input == LATEST {
            return Ok(Self::Latest);
        }
        if input.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = input.parse().ok().and_then(Version::new);
            return number.map(Self::Number).ok_or_else(|| invalid_version(input));
        }
        Tag::parse(input).map(Self::Tag)
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(version) => version.fmt(f),
            Self::Latest => f.write_str(LATEST),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl SkillRef {
    /// Refers to a version of a skill.
    pub fn new(id: SkillId, version: impl Into<VersionSelector>) -> Self {
        Self { id, version: Some(version.into()), name: None }
    }

    /// Returns the directory of the skill in the session.
    pub fn name(&self) -> SkillName {
        self.name.clone().unwrap_or_else(|| SkillName::of_id(self.id.as_str()))
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
            Some((id, version)) => (id, Some(version.parse()?)),
            None => (rest, None),
        };
        Ok(Self { id: SkillId::parse(id)?, version, name })
    }
}

impl fmt::Display for SkillRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        if let Some(version) = &self.version {
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
    /// The version is no whole number of 1 or more, `latest` or a tag.
    #[error("{}; a skill is written ID[@VERSION][=NAME], such as pdf@3", version_problem(input))]
    Version {
        /// The start of the text after the `@`.
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

fn version_problem(input: &str) -> String {
    match input.strip_prefix('v').filter(|_| is_version_like(input)) {
        Some(number) => format!("the version {input:?} is written {number}, without a letter"),
        None => format!(
            "the version {input:?} is not a whole number of 1 or more, `latest`, or a tag of \
             lower-case letters, digits and hyphens"
        ),
    }
}

fn invalid_version(input: &str) -> SkillRefError {
    SkillRefError::Version { input: input.chars().take(160).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_displayed_in_the_form_that_was_parsed() {
        for text in
            ["pdf", "pdf@3", "pdf=reports", "a.b_c-1@4294967295=x", "pdf@latest", "pdf@stable-2=x"]
        {
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
            ("a@X", "version \"X\""),
            ("a@+1", "version \"+1\""),
            ("a@1x", "version \"1x\""),
            ("a@v3", "version \"v3\" is written 3, without a letter"),
            ("a@x.y", "version \"x.y\""),
            ("a@4294967296", "version"),
            ("a=", "skill name \"\""),
            ("a=../x", "skill name \"../x\""),
            ("..", "names a directory"),
        ] {
            let error = text.parse::<SkillRef>().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("ID[@VERSION]"), "{text}: {error}");
        }
    }
}
