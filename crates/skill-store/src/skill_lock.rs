//! Lockfiles: the exact versions and contents of skills, `skills.lock` by convention.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::SkillError;
use crate::error_kind::ErrorKind;
use crate::id::{SkillId, Version};
use crate::resolve::Identity;
use crate::skill_name::SkillName;
use crate::skill_ref::SkillRef;
use crate::store::SkillStore;

/// Name of the format. A later format gets another name.
const FORMAT: &str = "skills-lock-1";

/// The content of a lockfile: skills with their versions and digests, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkillLock {
    skills: Vec<LockedSkill>,
}

/// A skill in a lockfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LockedSkill {
    /// The skill.
    pub id: SkillId,
    /// The version.
    pub version: Version,
    /// The digest of its manifest. For a version without one, of a manifest of its content.
    #[serde(rename = "sha256")]
    pub digest: Digest,
    /// The directory below `skills/`, if it is not the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SkillName>,
}

/// Errors of a lockfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkillLockError {
    /// The text is no lockfile.
    #[error("it is no lockfile of skills: {problem}")]
    Syntax {
        /// The message of the parser.
        problem: String,
    },
    /// The lockfile has another format.
    #[error("it has the format {format:?}, which this version does not know; use a later one")]
    UnknownFormat {
        /// The start of the name of the format.
        format: String,
    },
    /// Two skills have the same directory.
    #[error("two skills have the name {name}")]
    DuplicateName {
        /// The directory below `skills/`.
        name: SkillName,
    },
}

impl SkillLockError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    skills: Vec<LockedSkill>,
}

/// Refuses lists in the place of objects, which serde also reads.
fn check_objects(document: &Value) -> Result<(), SkillLockError> {
    let skills = document.get("skills").and_then(Value::as_array);
    if skills.is_some_and(|skills| skills.iter().all(Value::is_object)) {
        return Ok(());
    }
    let problem = "`skills` is no list of objects".to_owned();
    Err(SkillLockError::Syntax { problem })
}

impl LockedSkill {
    /// Returns the directory below `skills/`.
    pub fn name(&self) -> SkillName {
        self.name.clone().unwrap_or_else(|| SkillName::of_id(self.id.as_str()))
    }
}

impl SkillLock {
    /// Parses the text of a lockfile.
    ///
    /// # Errors
    /// Returns [`SkillLockError`] if the text is no lockfile.
    pub fn parse(text: &str) -> Result<Self, SkillLockError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }

        let syntax = |error: serde_json::Error| {
            let problem = error.to_string().chars().take(160).collect();
            SkillLockError::Syntax { problem }
        };
        let document: Value = serde_json::from_str(text).map_err(syntax)?;
        if !document.is_object() {
            let problem = "it is no object".to_owned();
            return Err(SkillLockError::Syntax { problem });
        }
        let head: Head = serde_json::from_value(document.clone()).map_err(syntax)?;
        if head.format != FORMAT {
            let format = head.format.chars().take(160).collect();
            return Err(SkillLockError::UnknownFormat { format });
        }
        check_objects(&document)?;
        // From the text, because a value forgets keys that are given twice.
        let wire: Wire = serde_json::from_str(text).map_err(syntax)?;
        let mut lock = Self::default();
        for skill in wire.skills {
            if let Some(name) = lock.insert(skill) {
                return Err(SkillLockError::DuplicateName { name: name.name() });
            }
        }
        Ok(lock)
    }

    /// Returns the text of the lockfile.
    pub fn to_json(&self) -> String {
        let wire = Wire { format: FORMAT.to_owned(), skills: self.skills.clone() };
        let text = serde_json::to_string_pretty(&wire).expect("strings and numbers are JSON");
        text + "\n"
    }

    /// Returns the skills, sorted by name.
    pub fn skills(&self) -> &[LockedSkill] {
        &self.skills
    }

    /// Adds a skill. Returns the skill that had its name before.
    pub fn insert(&mut self, skill: LockedSkill) -> Option<LockedSkill> {
        match self.skills.binary_search_by_key(&skill.name(), LockedSkill::name) {
            Ok(at) => Some(std::mem::replace(&mut self.skills[at], skill)),
            Err(at) => {
                self.skills.insert(at, skill);
                None
            }
        }
    }
}

impl SkillStore {
    /// Returns the version and content that a reference names now, for a lockfile. With keys, one
    /// of them must have signed it. Downloads a version only if it has no manifest.
    ///
    /// # Errors
    /// Like [`SkillStore::read`](SkillStore::read), without the file.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn lock(&self, skill: &SkillRef) -> Result<LockedSkill, SkillError> {
        let resolved = self.resolve(skill).await?;
        let digest = match &resolved.identity {
            Identity::Manifest { digest, .. } => {
                if !self.keys.is_empty() {
                    let blobs = self.open_blobs(None, &mut Vec::new()).await?;
                    self.check_signature(&resolved, &blobs).await?;
                }
                *digest
            }
            Identity::Objects(_) => self.verified_manifest(&resolved).await?.0.digest(),
        };
        let (id, version) = (resolved.id, resolved.version);
        let name = skill.name.clone().filter(|name| name.as_str() != id.as_str());
        Ok(LockedSkill { id, version, digest, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lockfile_is_parsed_from_its_text() {
        let skill = |id: &str, name: Option<&str>| LockedSkill {
            id: SkillId::parse(id).unwrap(),
            version: Version::FIRST,
            digest: Digest::of(id.as_bytes()),
            name: name.map(|name| SkillName::parse(name).unwrap()),
        };
        let mut lock = SkillLock::default();
        for added in [skill("b", None), skill("c", Some("a"))] {
            assert_eq!(lock.insert(added), None);
        }
        assert_eq!(lock.insert(skill("x", Some("b"))), Some(skill("b", None)));
        assert_eq!(lock.skills(), [skill("c", Some("a")), skill("x", Some("b"))]);
        assert_eq!(SkillLock::parse(&lock.to_json()), Ok(lock.clone()));
        let other = lock.to_json().replace("lock-1", "lock-9");
        assert!(matches!(SkillLock::parse(&other), Err(SkillLockError::UnknownFormat { .. })));
        for text in [
            r#"["skills-lock-1",[]]"#,
            r#"{"format":"skills-lock-1","skills":[["a",1,"0"]]}"#,
            r#"{"format":"skills-lock-1","skills":{}}"#,
        ] {
            let error = SkillLock::parse(text).unwrap_err();
            assert!(matches!(error, SkillLockError::Syntax { .. }), "{error}");
        }
        let twice = lock.to_json().replace("\"a\"", "\"b\"");
        assert!(matches!(SkillLock::parse(&twice), Err(SkillLockError::DuplicateName { .. })));
    }
}
