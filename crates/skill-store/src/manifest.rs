//! Manifests: the files of a version with their digests.

use serde::{Deserialize, Serialize};

use sandbox_core::RelativePath;

use crate::cautions::repository_in;
use crate::digest::Digest;
use crate::error_kind::ErrorKind;
use crate::id::{SkillId, Version};
use crate::layout::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES, SKILL_FILE};
use crate::names::has_deceptive;

/// Name of the format. A later format gets another name.
const FORMAT: &str = "skill-manifest-1";
/// Maximum size of a manifest: 512 files with paths of 512 bytes, each escaped sixfold.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 2 << 20;

/// The manifest of a version: the path, size, mode and SHA-256 digest of every file.
///
/// It is stored as JSON, and the digest of that text identifies the version. It names its skill and
/// version, so a manifest is not valid at the place of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The skill.
    pub skill: SkillId,
    /// The version.
    pub version: Version,
    /// The files, sorted by path.
    pub files: Vec<ManifestFile>,
}

/// A file in a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestFile {
    /// The path in the skill.
    pub path: RelativePath,
    /// The digest of the content.
    pub sha256: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The mode: `true` for 0755, and `false` for 0644.
    pub is_executable: bool,
}

/// Errors of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is no JSON of this form.
    #[error("it cannot be read: {problem}")]
    Syntax {
        /// The message of the parser.
        problem: String,
    },
    /// The manifest has another format.
    #[error("it has the format {format:?}, which this version does not know; use a later one")]
    UnknownFormat {
        /// The start of the name of the format.
        format: String,
    },
    /// The manifest describes another version.
    #[error("it describes version {version} of the skill {skill}")]
    OtherVersion {
        /// The skill that it names.
        skill: SkillId,
        /// The version that it names.
        version: Version,
    },
    /// A file breaks a rule.
    #[error("{path:?} {problem}")]
    InvalidFile {
        /// The start of the path.
        path: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// There is no SKILL.md, so it is no skill.
    #[error("it has no SKILL.md")]
    NoSkillFile,
    /// The files exceed a limit.
    #[error("it has more than {limit}")]
    TooLarge {
        /// The limit.
        limit: &'static str,
    },
}

impl ManifestError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unusable
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
    skill: SkillId,
    version: Version,
    files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    path: String,
    sha256: Digest,
    size: u64,
    mode: String,
}

impl Manifest {
    /// Parses the text of a manifest, and checks every rule and limit.
    ///
    /// # Errors
    /// Returns [`ManifestError`] if the text breaks a rule.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }

        if text.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { limit: "2 MiB of text" });
        }
        let syntax = |error: serde_json::Error| ManifestError::Syntax {
            problem: beginning(&error.to_string()),
        };
        let head: Head = serde_json::from_slice(text).map_err(syntax)?;
        if head.format != FORMAT {
            return Err(ManifestError::UnknownFormat { format: beginning(&head.format) });
        }
        let wire: Wire = serde_json::from_slice(text).map_err(syntax)?;
        let files = wire.files.into_iter().map(WireFile::parse).collect::<Result<Vec<_>, _>>()?;
        let manifest = Self { skill: wire.skill, version: wire.version, files };
        manifest.check()?;
        // One manifest has one text, so that its digest identifies it.
        if manifest.to_json() != text {
            let problem = "it is not in the form that skill-store writes".to_owned();
            return Err(ManifestError::Syntax { problem });
        }
        Ok(manifest)
    }

    /// Returns the text that is stored.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            format: FORMAT.to_owned(),
            skill: self.skill.clone(),
            version: self.version,
            files: self.files.iter().map(WireFile::new).collect(),
        };
        let mut text = serde_json::to_vec_pretty(&wire).expect("strings and numbers are JSON");
        text.push(b'\n');
        text
    }

    /// Returns the digest of the text, which identifies the version.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }

    /// Returns the file with a path.
    pub fn file(&self, path: &RelativePath) -> Option<&ManifestFile> {
        self.files.binary_search_by(|file| file.path.cmp(path)).ok().map(|at| &self.files[at])
    }

    /// Returns the size of all files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.files.len() > MAX_FILES {
            return Err(ManifestError::TooLarge { limit: "512 files" });
        }
        let bytes = self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        if bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(ManifestError::TooLarge { limit: "16 MiB" });
        }
        for pair in self.files.windows(2) {
            if pair[0].path >= pair[1].path {
                return Err(invalid(pair[1].path.as_str(), "is not after the file before it"));
            }
        }
        let paths: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        if let Some(path) = repository_in(&paths) {
            return Err(invalid(path, "is part of a Git repository, which can run programs"));
        }
        for file in &self.files {
            let mut parent = file.path.parent();
            while let Some(path) = parent {
                if self.file(&path).is_some() {
                    return Err(invalid(path.as_str(), "is a file and a directory"));
                }
                parent = path.parent();
            }
        }
        Ok(())
    }

    /// Checks that the files are a skill. A version that another program stored without a manifest
    /// need not have SKILL.md.
    pub(crate) fn check_skill_file(&self) -> Result<(), ManifestError> {
        let has_skill_file = self.files.iter().any(|file| file.path.as_str() == SKILL_FILE);
        if has_skill_file { Ok(()) } else { Err(ManifestError::NoSkillFile) }
    }

    /// Checks that the manifest is the one of a version.
    pub(crate) fn check_version(
        &self,
        skill: &SkillId,
        version: Version,
    ) -> Result<(), ManifestError> {
        if (&self.skill, self.version) == (skill, version) {
            return Ok(());
        }
        Err(ManifestError::OtherVersion { skill: self.skill.clone(), version: self.version })
    }
}

impl WireFile {
    fn new(file: &ManifestFile) -> Self {
        Self {
            path: file.path.as_str().to_owned(),
            sha256: file.sha256,
            size: file.size,
            mode: if file.is_executable { "755" } else { "644" }.to_owned(),
        }
    }

    fn parse(self) -> Result<ManifestFile, ManifestError> {
        let path = RelativePath::parse(&self.path)
            .map_err(|_| invalid(&self.path, "is no path of a file"))?;
        // Another spelling, such as `a//b`, would be the same file twice.
        if path.as_str() != self.path {
            return Err(invalid(&self.path, "is not the plain form of its path"));
        }
        if has_deceptive(&self.path) {
            return Err(invalid(&self.path, "has a character that changes how its name is shown"));
        }
        if self.path.len() > MAX_PATH_BYTES {
            return Err(invalid(&self.path, "is longer than 512 bytes"));
        }
        let is_executable = match &*self.mode {
            "755" => true,
            "644" => false,
            _ => return Err(invalid(&self.path, "has a mode other than 644 and 755")),
        };
        Ok(ManifestFile { path, sha256: self.sha256, size: self.size, is_executable })
    }
}

fn invalid(path: &str, problem: &'static str) -> ManifestError {
    ManifestError::InvalidFile { path: beginning(path), problem }
}

/// Returns the start of a text that the store has chosen.
fn beginning(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| ManifestFile {
            path: RelativePath::parse(path).unwrap(),
            sha256: Digest::of(path.as_bytes()),
            size: 1,
            is_executable: path.ends_with(".sh"),
        };
        Manifest {
            skill: SkillId::parse("greet").unwrap(),
            version: Version::FIRST,
            files: paths.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_manifest_is_parsed_from_its_text() {
        let manifest = manifest(&["SKILL.md", "a/b \"é\".sh"]);
        assert_eq!(Manifest::parse(&manifest.to_json()), Ok(manifest));
    }

    #[test]
    fn a_manifest_that_breaks_a_rule_is_an_error() {
        let text = String::from_utf8(manifest(&["SKILL.md", "a/b.sh"]).to_json()).unwrap();
        for (from, to, expected) in [
            ("a/b.sh", "../b.sh", "is no path"),
            ("a/b.sh", "/b.sh", "path"),
            ("a/b.sh", "a//b.sh", "path"),
            ("a/b.sh", "a/b\u{202e}.sh", "is shown"),
            ("a/b.sh", "SKILL.md", "is not after"),
            ("a/b.sh", "SKILL.md/x", "is a file and a directory"),
            ("a/b.sh", "a/.git/config", "Git repository"),
            ("\"755\"", "\"4755\"", "mode"),
            ("skill-manifest-1", "skill-manifest-2", "format"),
            ("\"size\": 1", "\"size\": 18446744073709551615", "16 MiB"),
            ("\"version\": 1", "\"version\": 0", "cannot be read"),
            ("\"version\": 1", "\"extra\": 1, \"version\": 1", "cannot be read"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Manifest::parse(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{to}: {error}");
        }
        let paths: Vec<String> = (0..513).map(|number| format!("f{number:03}")).collect();
        let many = manifest(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(Manifest::parse(&many.to_json()).unwrap_err().to_string().contains("512 files"));
        let deep = "[".repeat(100_000);
        assert!(matches!(Manifest::parse(deep.as_bytes()), Err(ManifestError::Syntax { .. })));
    }
}
