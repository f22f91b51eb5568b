//! Versioned skills in an object store: published whole, installed whole.
//!
//! ```
//! use std::sync::Arc;
//! use object_store::memory::InMemory;
//! use object_store::path::Path as Key;
//! use sandbox_core::SessionDir;
//! use skill_store::{SkillStore, prompt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let source = root.path().join("greet");
//! # std::fs::create_dir(&source)?;
//! std::fs::write(source.join("SKILL.md"), "---\nname: greet\ndescription: Says hello.\n---\nRun `hello.sh`.\n")?;
//! let skills = SkillStore::new(Arc::new(InMemory::new()), Key::default());
//! let published = skills.publish(&source, None).await?;
//! assert_eq!((published.id.as_str(), published.version.get()), ("greet", 1));
//!
//! let session = Arc::new(SessionDir::create(&root.path().join("session"))?);
//! let installed = skills.install(&"greet@1".parse()?, &session, &root.path().join("state")).await?;
//! assert!(session.path().join("skills/greet/SKILL.md").exists());
//! assert!(prompt(&[installed.skill]).contains("Says hello."));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It runs nothing of a skill, and does not say which skill a session should have.
//!
//! # Limits
//! A skill has at most 512 files, 16 MiB, and paths of 512 bytes; no symlinks. Versions count from
//! 1 and are never changed. On a store without conditional puts, one publisher at a time.
//!
//! # Errors
//! [`SkillRefError`] for what somebody wrote, [`SkillError`] for all else. What can be tolerated
//! when installing is a warning of the [`InstallReport`].

#![forbid(unsafe_code)]

mod error;
mod front_matter;
mod id;
mod install;
mod prompt;
mod record;
mod source;
mod store;

pub use error::SkillError;
pub use front_matter::{FrontMatter, FrontMatterError};
pub use id::{SkillId, SkillName, SkillRef, SkillRefError, Version};
pub use install::{InstallReport, InstalledSkill};
pub use prompt::prompt;
/// Directory of skills in a session, and of their keys below the prefix of a [`SkillStore`].
pub const SKILLS_DIRECTORY: &str = "skills";

pub use store::{Published, SkillStore, SkillSummary};
