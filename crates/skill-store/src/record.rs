//! What is installed, remembered out of the agent's reach.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::install::InstalledSkill;

/// One installed skill and the objects that it came from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) skill: InstalledSkill,
    pub(crate) objects: Vec<Fingerprint>,
}

/// Tells one state of an object from another.
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

impl Record {
    /// The record of a skill's directory; `None` where there is none, or one that cannot be read:
    /// it is installed anew then.
    pub(crate) fn read(state_dir: &Path, skill: &InstalledSkill) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(state_dir, skill)).ok()?).ok()
    }

    /// Replaces the record in one step.
    pub(crate) fn write(&self, state_dir: &Path) -> Result<(), SkillError> {
        let path = path(state_dir, &self.skill);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            let beside = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|source| SkillError::Record { path: path.clone(), source })
    }
}

fn path(state_dir: &Path, skill: &InstalledSkill) -> PathBuf {
    state_dir.join(format!("{}.json", skill.name))
}
