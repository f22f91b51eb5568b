//! The name of a skill in a session.

use std::fmt;

use sandbox_core::IdError;
use sandbox_core::internal::check_id;
use serde::{Deserialize, Serialize};

use crate::names::has_deceptive;

/// Maximum length of a name in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The name of a skill in a session: its directory below `skills/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SkillName(String);

impl SkillName {
    /// Parses a text: 1–128 of `[A-Za-z0-9._-]`, not `.` or `..`, not starting with `-`.
    ///
    /// # Errors
    /// Returns [`IdError`] if the text breaks this rule.
    pub fn parse(input: &str) -> Result<Self, IdError> {
        check_id("skill name", input).map(|()| Self(input.to_owned()))
    }

    /// Parses the name of a directory that may have spaces and letters of any script.
    ///
    /// It has 1–128 bytes, no `/`, `\` or `~`, and no control character or one that hides
    /// or reorders text. It does not start with `-` or a space, end with a space, and is not `.`
    /// or `..`. Commands must quote such a name.
    ///
    /// # Errors
    /// Returns [`SkillNameError`] if the text breaks this rule.
    pub fn parse_directory(input: &str) -> Result<Self, SkillNameError> {
        let is_forbidden = |c: char| matches!(c, '/' | '\\' | '~');
        let is_valid = (1..=MAX_NAME_BYTES).contains(&input.len())
            && input != "."
            && input != ".."
            && !input.starts_with(['-', ' '])
            && !input.ends_with(' ')
            && !input.contains(is_forbidden)
            && !has_deceptive(input);
        if is_valid { Ok(Self(input.to_owned())) } else { Err(SkillNameError) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether git takes the directory above one of this name for a repository, and runs
    /// the programs that its files name.
    pub(crate) fn is_reserved(&self) -> bool {
        self.0.eq_ignore_ascii_case(".git")
    }

    /// Uses a text that is a valid id.
    pub(crate) fn of_id(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// The error returned for a text that is no name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "the name of a skill has 1 to 128 bytes, no control character, `/`, `\\` or `~`, does not \
     start with `-`, and has no space at its ends"
)]
pub struct SkillNameError;

impl TryFrom<String> for SkillName {
    type Error = SkillNameError;

    fn try_from(input: String) -> Result<Self, SkillNameError> {
        Self::parse_directory(&input)
    }
}

impl fmt::Display for SkillName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for SkillName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_may_have_spaces_and_never_leads_elsewhere() {
        for name in ["a", "My Skill", "Größe 2", ".hidden", "a..b"] {
            assert_eq!(SkillName::parse_directory(name).unwrap().as_str(), name);
        }
        for name in
            ["", ".", "..", "a/b", "-a", " a", "a ", "a\nb", "a\0", "a\\b", "~a", "a\u{202e}b"]
        {
            assert!(SkillName::parse_directory(name).is_err(), "{name:?}");
        }
        assert!(SkillName::parse_directory(&"x".repeat(129)).is_err());
        assert!(SkillName::parse("My Skill").is_err());
    }
}
