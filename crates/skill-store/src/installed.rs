//! Installed skills and their state files, which are outside the agent's reach.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::id::{SkillId, SkillName, Version};

/// A skill that is installed in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstalledSkill {
    /// The skill.
    pub id: SkillId,
    /// Its directory below `skills/`.
    pub name: SkillName,
    /// Its version.
    pub version: Version,
    /// The description in its SKILL.md, if that is readable.
    pub description: Option<String>,
}

/// The content of a state file: one installed skill and the objects that it was installed from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallState {
    pub(crate) skill: InstalledSkill,
    pub(crate) objects: Vec<Fingerprint>,
}

/// Metadata that changes if an object is overwritten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    path: String,
    size: u64,
    etag: Option<String>,
    /// Milliseconds since 1970.
    modified: i64,
}

impl Fingerprint {
    pub(crate) fn new(path: &str, meta: &ObjectMeta) -> Self {
        let (size, etag) = (meta.size, meta.e_tag.clone());
        Self { path: path.to_owned(), size, etag, modified: meta.last_modified.timestamp_millis() }
    }
}

impl InstallState {
    /// Reads the state file of a skill's directory. Returns `None` if it is absent or unreadable,
    /// so that the skill is installed again.
    pub(crate) fn read(state_dir: &Path, name: &SkillName) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(state_dir, name)).ok()?).ok()
    }

    /// Replaces the state file atomically.
    pub(crate) fn write(&self, state_dir: &Path) -> Result<(), SkillError> {
        let path = path(state_dir, &self.skill.name);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            let staged = path.with_extension("new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&staged)?.write_all(&serde_json::to_vec(self)?)?;
            std::fs::rename(&staged, &path)
        };
        write().map_err(|source| SkillError::State { path: path.clone(), source })
    }
}

fn path(state_dir: &Path, name: &SkillName) -> PathBuf {
    state_dir.join(format!("{name}.json"))
}
