//! Errors returned by [`SkillStore`](crate::SkillStore).

use std::io;
use std::path::PathBuf;

use sandbox_core::{FileError, IdError, PathError};

use crate::error_kind::ErrorKind;
use crate::front_matter::FrontMatterError;
use crate::id::{SkillId, Version};

/// Errors returned by [`SkillStore`](crate::SkillStore).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// A file or directory to publish cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file or directory is not allowed in a skill.
    #[error("{} cannot be published: {problem}", path.display())]
    InvalidSource {
        /// The file or directory.
        path: PathBuf,
        /// The reason, with a remedy.
        problem: String,
    },
    /// SKILL.md is invalid.
    #[error("{} is not valid", path.display())]
    InvalidSkillFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: FrontMatterError,
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
    /// Other publishers took every version number that was tried.
    #[error("no number is free for a new version of the skill {id}")]
    NoFreeVersion {
        /// The skill.
        id: SkillId,
    },
    /// The version does not exist.
    #[error("there is no version {version} of the skill {id}; {}", list(available))]
    NotFound {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// The versions in the store.
        available: Vec<Version>,
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
    /// The state file of an installed skill cannot be written.
    #[error("cannot write {}", path.display())]
    State {
        /// The state file.
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
            | Self::Id { .. }
            | Self::Path { .. } => ErrorKind::InvalidInput,
            Self::NoFreeVersion { .. } => ErrorKind::Contended,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Incomplete { .. } | Self::TooLarge { .. } => ErrorKind::Unusable,
            Self::Store { source, .. } => ErrorKind::of_store(source),
            Self::Read { .. } | Self::File { .. } | Self::State { .. } => ErrorKind::Io,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
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
