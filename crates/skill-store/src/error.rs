//! Errors returned by [`SkillStore`](crate::SkillStore).

use std::io;
use std::path::{Path, PathBuf};

use sandbox_core::{FileError, IdError, PathError, RelativePath};

use crate::archive::ArchiveError;
use crate::digest::Digest;
use crate::error_kind::ErrorKind;
use crate::front_matter::FrontMatterError;
use crate::id::{SkillId, Version};
use crate::manifest::ManifestError;
use crate::skill_ref::Tag;

/// Errors returned by [`SkillStore`](crate::SkillStore).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// A file or directory to publish cannot be read.
    #[error("cannot read {}", shown(path))]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file or directory is not allowed in a skill.
    #[error("{} cannot be published: {problem}", shown(path))]
    InvalidSource {
        /// The file or directory.
        path: PathBuf,
        /// The reason, with a remedy.
        problem: String,
    },
    /// SKILL.md is invalid.
    #[error("{} is not valid", shown(path))]
    InvalidSkillFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: FrontMatterError,
    },
    /// A zip archive is invalid.
    #[error("{} cannot be published", shown(path))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The reason.
        source: ArchiveError,
    },
    /// The name in SKILL.md is not an id.
    #[error(transparent)]
    Id {
        /// The error of the id.
        #[from]
        source: IdError,
    },
    /// The path of a file in the session directory is invalid.
    #[error(transparent)]
    Path {
        /// The error of the path.
        #[from]
        source: PathError,
    },
    /// A skill has a name that no directory of a skill may have. Programs hide or skip a directory
    /// that begins with a dot, and `.git` would turn the directory above into a repository.
    #[error("a skill cannot have the name {name:?}, which begins with a dot; choose another one")]
    ReservedName {
        /// The id or the name.
        name: String,
    },
    /// Other publishers took every version number that was tried.
    #[error("no number is free for a new version of the skill {id}")]
    NoFreeVersion {
        /// The skill.
        id: SkillId,
    },
    /// The version does not exist.
    #[error("{}", missing(id, *version, available))]
    NotFound {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The versions in the store.
        available: Vec<Version>,
    },
    /// The skill has no complete version.
    #[error("the store has no version of the skill {id}")]
    NoVersion {
        /// The skill.
        id: SkillId,
    },
    /// The skill has no such tag.
    #[error("the skill {id} has no tag {tag}{}", list_tags(available))]
    NoTag {
        /// The skill.
        id: SkillId,
        /// The tag.
        tag: Tag,
        /// The tags of the skill.
        available: Vec<Tag>,
    },
    /// The version has no such file.
    #[error("version {version} of the skill {id} has no file {path}")]
    NoFile {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The path in the skill.
        path: RelativePath,
    },
    /// The version was deleted.
    #[error("version {version} of the skill {id} was deleted; {}", list(available))]
    Deleted {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The versions in the store.
        available: Vec<Version>,
    },
    /// The manifest of the version is invalid.
    #[error("the manifest of version {version} of the skill {id} is not valid")]
    Manifest {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The reason.
        source: ManifestError,
    },
    /// The version has several manifests, so its content is not certain.
    #[error("version {version} of the skill {id} has several manifests")]
    AmbiguousManifest {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// Objects of the version differ from its manifest.
    #[error("version {version} of the skill {id} was changed in the store: {}", mismatches(files))]
    Mismatch {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// Each file that differs, sorted by path.
        files: Vec<FileMismatch>,
    },
    /// The version has another content than a lockfile says.
    #[error(
        "version {version} of the skill {id} has the digest {found}, and the lockfile has \
         {expected}"
    )]
    DigestChanged {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The digest in the lockfile. It is boxed so that errors stay small.
        expected: Box<Digest>,
        /// The digest of the version.
        found: Box<Digest>,
    },
    /// A key is configured, and the version has no signature.
    #[error("version {version} of the skill {id} is not signed")]
    Unsigned {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// The version has no manifest, and a signature signs one.
    #[error(
        "version {version} of the skill {id} has no manifest, which a signature signs; roll back \
         to it, which publishes its content as a version with one"
    )]
    NoManifest {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// No configured key has made the signature.
    #[error("the signature of version {version} of the skill {id} is not valid for any key")]
    Signature {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// The text is no signature.
    #[error("it is no signature of minisign, which is a text of four lines")]
    MalformedSignature,
    /// The version has another signature, and no key is configured to verify the new one.
    #[error("version {version} of the skill {id} has another signature")]
    Signed {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// The store has more records of a skill than any history needs.
    #[error("the store has too many records at {prefix}")]
    TooManyRecords {
        /// The prefix of the records.
        prefix: String,
    },
    /// The version is incomplete: its publisher has not finished, or failed.
    #[error(
        "version {version} of the skill {id} was never published whole; \
         publish it again as a new version"
    )]
    Incomplete {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// The version exceeds a limit.
    #[error("version {version} of the skill {id} cannot be installed: {problem}")]
    TooLarge {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The size and the limit.
        problem: String,
    },
    /// Something that is no skill has the place of the installation.
    #[error("{} {problem}; move it away, and install again", shown(path))]
    Occupied {
        /// The file or directory.
        path: PathBuf,
        /// Description of what is there.
        problem: &'static str,
    },
    /// The store failed.
    #[error("the store failed at {key:?}")]
    Store {
        /// The object or prefix.
        key: String,
        /// The error of the store.
        source: object_store::Error,
    },
    /// A file of the session directory cannot be written.
    #[error(transparent)]
    File {
        /// The error of the file.
        #[from]
        source: FileError,
    },
    /// A state file, a lock or a downloaded file cannot be used.
    #[error("cannot use {}", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl SkillError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidSource { .. }
            | Self::InvalidSkillFile { .. }
            | Self::Archive { .. }
            | Self::Id { .. }
            | Self::Path { .. }
            | Self::ReservedName { .. }
            | Self::MalformedSignature
            | Self::Signed { .. }
            | Self::Occupied { .. } => ErrorKind::InvalidInput,
            Self::NoFreeVersion { .. } => ErrorKind::Contended,
            Self::NotFound { .. }
            | Self::NoVersion { .. }
            | Self::NoTag { .. }
            | Self::NoFile { .. }
            | Self::Deleted { .. } => ErrorKind::NotFound,
            Self::Incomplete { .. } | Self::TooLarge { .. } | Self::TooManyRecords { .. } => {
                ErrorKind::Unusable
            }
            Self::Manifest { .. }
            | Self::AmbiguousManifest { .. }
            | Self::Mismatch { .. }
            | Self::DigestChanged { .. }
            | Self::NoManifest { .. }
            | Self::Unsigned { .. }
            | Self::Signature { .. } => ErrorKind::Unverified,
            Self::Store { source, .. } => ErrorKind::of_store(source),
            Self::Read { .. } | Self::File { .. } | Self::State { .. } => ErrorKind::Io,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// A file that differs from its manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct FileMismatch {
    /// The path in the skill.
    pub path: String,
    /// The difference.
    pub problem: &'static str,
}

/// Returns a path without control characters, which a terminal would obey.
fn shown(path: &Path) -> String {
    let escape = |character: char| match character.is_control() {
        true => character.escape_debug().to_string(),
        false => character.to_string(),
    };
    path.to_string_lossy().chars().map(escape).collect()
}

fn mismatches(files: &[FileMismatch]) -> String {
    let files = files.iter().map(|file| format!("{} {}", file.path, file.problem));
    files.collect::<Vec<_>>().join("; ")
}

fn list_tags(tags: &[Tag]) -> String {
    if tags.is_empty() {
        return String::new();
    }
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    format!("; it has {}", tags.join(", "))
}

fn missing(id: &SkillId, version: Version, available: &[Version]) -> String {
    if available.is_empty() {
        return format!("the store has no skill {id}");
    }
    format!("there is no version {version} of the skill {id}; {}", list(available))
}

fn list(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "the store has no version of it".to_owned();
    }
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    format!("the store has {}", versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_enough_to_be_returned_by_value() {
        assert!(size_of::<SkillError>() <= 96, "{}", size_of::<SkillError>());
    }

    #[test]
    fn only_a_busy_store_and_a_lost_race_are_worth_another_attempt() {
        let store = |source| SkillError::Store { key: "k".to_owned(), source };
        let generic = || object_store::Error::Generic { store: "S3", source: "timed out".into() };
        let denied =
            object_store::Error::PermissionDenied { path: "k".to_owned(), source: "denied".into() };
        let id = SkillId::parse("pdf").unwrap();
        assert!(store(generic()).is_retryable());
        assert!(SkillError::NoFreeVersion { id: id.clone() }.is_retryable());
        assert_eq!(store(denied).kind(), ErrorKind::Denied);
        let absent = SkillError::NotFound { id, version: Version::FIRST, available: Vec::new() };
        assert!(!absent.is_retryable());
    }
}
