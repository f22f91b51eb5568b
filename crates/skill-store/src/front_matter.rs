//! The front matter of SKILL.md, which the Agent Skills specification defines (agentskills.io).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter};

use crate::error_kind::ErrorKind;

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION: usize = 1024;
const MAX_COMPATIBILITY: usize = 500;

/// The front matter of SKILL.md.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FrontMatter {
    /// Name of the skill: 1–64 lower-case letters, digits and single hyphens.
    pub name: String,
    /// Purpose of the skill and occasions to use it, at most 1,024 characters.
    pub description: String,
    /// Licence of the skill.
    #[serde(default)]
    pub license: Option<String>,
    /// Requirements of the skill, at most 500 characters.
    #[serde(default)]
    pub compatibility: Option<String>,
    /// Further values, for clients that know them.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Tools that the skill may use, separated by spaces.
    #[serde(default)]
    pub allowed_tools: Option<String>,
}

/// Errors of a SKILL.md.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrontMatterError {
    /// The file is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The file has no front matter.
    #[error(
        "it does not begin with front matter: a line `---`, then `name: …` and `description: …`, \
         then a line `---`"
    )]
    Absent,
    /// The front matter is not YAML, or its fields are wrong.
    #[error("its front matter cannot be read: {problem}")]
    Yaml {
        /// The message of the parser.
        problem: String,
    },
    /// A field breaks its rule.
    #[error("its {field} {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// The rule that it breaks.
        problem: &'static str,
    },
}

impl FrontMatterError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl FrontMatter {
    /// Parses the front matter of SKILL.md and checks it strictly.
    ///
    /// # Errors
    /// Returns [`FrontMatterError`] if the front matter is absent or breaks the specification.
    pub fn parse(skill_file: &[u8]) -> Result<Self, FrontMatterError> {
        let yaml = front_matter(skill_file)?;
        let parsed: Self = serde_saphyr::from_str(yaml).map_err(|error| yaml_error(&error))?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), FrontMatterError> {
        let field = |field, problem| Err(FrontMatterError::Field { field, problem });
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return field("name", "must have 1 to 64 characters");
        }
        if !self.name.chars().all(allowed) {
            return field("name", "may have lower-case letters, digits and hyphens only");
        }
        if self.name.starts_with('-') || self.name.ends_with('-') || self.name.contains("--") {
            return field("name", "must not begin or end with a hyphen, nor have two in a row");
        }
        if self.description.trim().is_empty() || self.description.chars().count() > MAX_DESCRIPTION
        {
            return field("description", "must have 1 to 1,024 characters");
        }
        let compatibility = self.compatibility.as_ref().map(|text| text.chars().count());
        if compatibility.is_some_and(|count| count == 0 || count > MAX_COMPATIBILITY) {
            return field("compatibility", "must have 1 to 500 characters where it stands");
        }
        Ok(())
    }
}

/// Returns the description in a SKILL.md, also if other fields break the specification.
pub(crate) fn description(skill_file: &[u8]) -> Result<String, FrontMatterError> {
    #[derive(Deserialize)]
    struct Lenient {
        description: String,
    }
    let lenient: Lenient =
        serde_saphyr::from_str(front_matter(skill_file)?).map_err(|error| yaml_error(&error))?;
    Ok(lenient.description.chars().take(MAX_DESCRIPTION).collect())
}

fn yaml_error(error: &serde_saphyr::Error) -> FrontMatterError {
    // Without the position, which counts from the line after `---`, and without the quoted text.
    let problem = DefaultMessageFormatter.format_message(error.without_snippet());
    FrontMatterError::Yaml { problem: problem.lines().next().unwrap_or_default().to_owned() }
}

/// Returns the YAML between the two lines `---`.
fn front_matter(skill_file: &[u8]) -> Result<&str, FrontMatterError> {
    let text = std::str::from_utf8(skill_file).map_err(|_| FrontMatterError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split_inclusive('\n');
    let first =
        lines.next().filter(|line| line.trim_end() == "---").ok_or(FrontMatterError::Absent)?;
    let mut end = first.len();
    for line in lines {
        if line.trim_end() == "---" {
            return Ok(&text[first.len()..end]);
        }
        end += line.len();
    }
    Err(FrontMatterError::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill(yaml: &str) -> Vec<u8> {
        format!("---\n{yaml}\n---\n# Body\n").into_bytes()
    }

    #[test]
    fn every_field_of_the_specification_is_parsed() {
        let text = "name: pdf-2\ndescription: >-\n  Reads PDF files.\n  Use it for them.\n\
                    license: MIT\ncompatibility: poppler\n\
                    metadata:\n  author: ann\n  version: \"1.0\"\nallowed-tools: Bash Read";
        let parsed = FrontMatter::parse(&skill(text)).unwrap();
        assert_eq!(parsed.description, "Reads PDF files. Use it for them.");
        assert_eq!(
            (parsed.metadata["author"].as_str(), parsed.allowed_tools.as_deref()),
            ("ann", Some("Bash Read"))
        );
        let windows = b"\xef\xbb\xbf---\r\nname: a\r\ndescription: b\r\n---\r\n";
        assert_eq!(FrontMatter::parse(windows).unwrap().name, "a");
    }

    #[test]
    fn an_error_names_the_broken_rule() {
        let long = format!("name: {}\ndescription: x", "a".repeat(65));
        let wordy = format!("name: a\ndescription: {}", "x".repeat(1025));
        for (yaml, expected) in [
            ("description: x", "name"),
            ("name: a", "description"),
            ("name: Upper\ndescription: x", "lower-case"),
            ("name: -a\ndescription: x", "hyphen"),
            ("name: a--b\ndescription: x", "hyphen"),
            ("name: a/b\ndescription: x", "lower-case"),
            ("name: a\ndescription: ''", "1 to 1,024"),
            ("name: a\ndescription: ~", "front matter cannot be read"),
            ("name: a\ndescription: Use when: x", "front matter cannot be read"),
            ("name: a\ndescription: b\nauthor: c", "author"),
            ("name: a\nname: b\ndescription: c", "name"),
            (&long, "1 to 64"),
            (&wordy, "1 to 1,024"),
        ] {
            let error = FrontMatter::parse(&skill(yaml)).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
        assert_eq!(
            FrontMatter::parse(&skill("name: a")).unwrap_err().to_string(),
            "its front matter cannot be read: missing field `description`"
        );
        for text in ["# No front matter", "", "---\nname: a\ndescription: never closed"] {
            assert_eq!(
                FrontMatter::parse(text.as_bytes()),
                Err(FrontMatterError::Absent),
                "{text}"
            );
        }
        assert_eq!(FrontMatter::parse(b"---\n\xff\n---\n"), Err(FrontMatterError::NotUtf8));
    }

    #[test]
    fn a_description_is_read_from_an_invalid_front_matter() {
        assert_eq!(
            description(&skill("name: Not Allowed\ndescription: x\nextra: [1]")).unwrap(),
            "x"
        );
        assert!(description(b"no front matter").is_err());
    }
}
