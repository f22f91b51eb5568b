//! Why a skill cannot be published, found, or installed.

use std::io;
use std::path::PathBuf;

use sandbox_core::{FileError, IdError};

use crate::front_matter::FrontMatterError;
use crate::id::{SkillId, Version};

/// Why a skill cannot be published, found, or installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// The directory to be published cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// Something in the directory cannot be published.
    #[error("{} cannot be published: {problem}", path.display())]
    Unfit {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what would be right.
        problem: String,
    },
    /// SKILL.md is not one.
    #[error("{} is not valid", path.display())]
    SkillFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FrontMatterError,
    },
    /// The skill's name cannot be its id.
    #[error(transparent)]
    Id {
        /// Why.
        #[from]
        source: IdError,
    },
    /// There is no such version.
    #[error("there is no version {version} of the skill {id}; {there}")]
    NotFound {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// What there is instead.
        there: String,
    },
    /// A version is not whole: its publisher has not finished, or failed.
    #[error(
        "version {version} of the skill {id} was never published whole; publish it again as a new version"
    )]
    Unfinished {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
    },
    /// The version in the store is not one that is installed.
    #[error("version {version} of the skill {id} cannot be installed: {problem}")]
    Refused {
        /// The skill.
        id: SkillId,
        /// The version.
        version: Version,
        /// Why.
        problem: String,
    },
    /// The store failed.
    #[error("the store failed at {key:?}")]
    Store {
        /// The object or prefix.
        key: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// The skill's directory cannot be written.
    #[error(transparent)]
    File {
        /// The file error.
        #[from]
        source: FileError,
    },
    /// The record of what is installed cannot be written.
    #[error("cannot write {}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
}
