//! Versioned skills in an object store: published whole, verified, installed whole.
//!
//! A skill is a directory with a `SKILL.md`, as the [Agent Skills](https://agentskills.io)
//! specification defines it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use object_store::memory::InMemory;
//! use object_store::path::Path as Key;
//! use sandbox_core::SessionDir;
//! use skill_store::{PublishOptions, SkillStore, prompt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let source = root.path().join("greet");
//! # std::fs::create_dir(&source)?;
//! let skill_file = "---\nname: greet\ndescription: Says hello.\n---\nRun `hello.sh`.\n";
//! std::fs::write(source.join("SKILL.md"), skill_file)?;
//! let skills = SkillStore::new(Arc::new(InMemory::new()), Key::default());
//! let published = skills.publish(&source, &PublishOptions::default()).await?;
//! assert_eq!((published.id.as_str(), published.version.get()), ("greet", 1));
//!
//! let session = Arc::new(SessionDir::create(&root.path().join("session"))?);
//! let state_dir = root.path().join("state");
//! let installed = skills.install(&"greet@1".parse()?, &session, &state_dir).await?;
//! assert!(session.path().join("skills/greet/SKILL.md").exists());
//! assert!(prompt(&[installed.skill]).contains("Says hello."));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! It does not run the files of a skill, and it does not choose the skills of a session.
//!
//! # Limits
//!
//! A skill has at most 512 files and 16 MiB, paths of at most 512 bytes, and no symlinks. Version
//! numbers start at 1, and a published version never changes. A store without conditional puts
//! supports one publisher at a time.
//!
//! Installation verifies every byte against the manifest of the version. A version of another
//! program has none, so it is verified by version only, with a warning.
//!
//! # Errors
//!
//! [`SkillRefError`] for an invalid skill reference, [`FrontMatterError`] for a SKILL.md,
//! [`ArchiveError`] for a zip archive, [`SkillLockError`] for a lockfile, and [`SkillError`] for
//! every operation. Each has an [`ErrorKind`]. Tolerable defects of an installed skill are warnings
//! in the [`InstallReport`].

#![forbid(unsafe_code)]

mod archive;
mod blobs;
mod cache;
mod cautions;
mod digest;
mod download;
mod error;
mod error_kind;
mod front_matter;
mod history;
mod id;
mod install;
mod installed;
mod latest_index;
mod layout;
mod manifest;
mod names;
mod place;
mod prompt;
mod publish;
mod records;
mod resolve;
mod signature;
mod skill_lock;
mod skill_name;
mod skill_ref;
mod source;
mod store;
mod tags;
mod target_lock;
mod version_files;
mod yaml_node;

/// Items for the fuzz targets. Not covered by semantic versioning.
#[doc(hidden)]
pub mod internal {
    pub use crate::archive::{ArchiveContent, read_archive};
}

pub use object_store;
pub use sandbox_core::{RelativePath, SessionDir};

pub use archive::ArchiveError;
pub use cache::SkillCache;
pub use digest::{Digest, DigestError};
pub use error::{FileMismatch, SkillError};
pub use error_kind::ErrorKind;
pub use front_matter::{Deviation, FrontMatter, FrontMatterError, Position, Strictness};
pub use history::{FileChange, FileDifference};
pub use id::{SkillId, Version};
pub use install::InstallReport;
pub use installed::InstalledSkill;
pub use layout::SKILLS_DIRECTORY;
pub use manifest::{Manifest, ManifestError, ManifestFile};
pub use prompt::prompt;
pub use publish::{PublishOptions, PublishReport};
pub use signature::{KeyError, VerifyingKey};
pub use skill_lock::{LockedSkill, SkillLock, SkillLockError};
pub use skill_name::{SkillName, SkillNameError};
pub use skill_ref::{SkillRef, SkillRefError, Tag, VersionSelector};
pub use store::{SkillStore, SkillSummary};
pub use tags::TagSummary;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
