//! Installed skills and their state files, which are outside the agent's reach.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Stat};
use sandbox_core::{RelativePath, SessionDir};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::skill_name::SkillName;

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
    /// The digest of its manifest. For a version without one, of a manifest of what was installed.
    pub digest: Digest,
    /// The description in its SKILL.md, if that is readable.
    pub description: Option<String>,
}

/// The content of a state file: one installed skill and its files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallState {
    pub(crate) skill: InstalledSkill,
    /// The identity of the version in the store.
    pub(crate) identity: Digest,
    pub(crate) files: Vec<InstalledFile>,
    /// The directories with their modes. Earlier versions recorded none.
    #[serde(default)]
    pub(crate) directories: Vec<InstalledDirectory>,
}

/// A directory as it was installed. `.` is that of the skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstalledDirectory {
    path: String,
    mode: u32,
}

impl InstalledDirectory {
    /// Returns the directory of a skill and those of its files.
    ///
    /// # Errors
    /// Returns the error of a directory that cannot be inspected.
    pub(crate) fn find(dir: impl AsFd, files: &[InstalledFile]) -> io::Result<Vec<Self>> {
        let parents = files.iter().flat_map(|file| {
            let ends = file.path.match_indices('/').map(|(end, _)| end);
            ends.map(|end| &file.path[..end])
        });
        let paths: BTreeSet<&str> = parents.chain(["."]).collect();
        let mode = |path: &&str| rustix::fs::statat(&dir, *path, AtFlags::SYMLINK_NOFOLLOW);
        let found = paths
            .into_iter()
            .map(|path| mode(&path).map(|stat| Self { path: path.to_owned(), mode: stat.st_mode }));
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn is_unchanged(&self, dir: impl AsFd) -> bool {
        let stat = rustix::fs::statat(dir, &*self.path, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_mode == self.mode)
    }
}

/// A file as it was installed. The agent can change its content and set its times, but not without
/// a new change time or inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstalledFile {
    path: String,
    mode: u32,
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl InstalledFile {
    pub(crate) fn new(path: &RelativePath, metadata: &Metadata) -> Self {
        Self {
            path: path.as_str().to_owned(),
            mode: metadata.mode(),
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_unchanged(&self, dir: impl AsFd) -> bool {
        let stat = rustix::fs::statat(dir, &*self.path, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| *self == Self::of_stat(&self.path, &stat))
    }

    fn of_stat(path: &str, stat: &Stat) -> Self {
        Self {
            path: path.to_owned(),
            mode: stat.st_mode,
            size: stat.st_size.cast_unsigned(),
            inode: stat.st_ino,
            modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            changed: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }
}

impl InstallState {
    /// Reads the state file of a skill's directory. Returns `None` if it is absent or unreadable,
    /// so that the skill is installed again.
    pub(crate) fn read(state_dir: &Path, name: &SkillName) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(state_dir, name)).ok()?).ok()
    }

    /// Returns the path of a file that is absent or was changed since the installation, or of a
    /// directory with another mode. Files that the agent has added are not looked at.
    pub(crate) fn changed_file(&self, dir: &SessionDir, target: &RelativePath) -> Option<String> {
        let whole = || target.as_str().to_owned();
        if !dir.has_plain_directory(target) {
            return Some(whole());
        }
        let Ok(dir) = dir.open_directory(target) else { return Some(whole()) };
        let directory = self.directories.iter().find(|directory| !directory.is_unchanged(&dir));
        if let Some(directory) = directory {
            return Some(match &*directory.path {
                "." => whole(),
                path => path.to_owned(),
            });
        }
        let changed = self.files.iter().find(|file| !file.is_unchanged(&dir))?;
        Some(changed.path.clone())
    }

    /// Replaces the state file atomically. The caller has the lock of the target.
    pub(crate) fn write(&self, state_dir: &Path) -> Result<(), SkillError> {
        let path = path(state_dir, &self.skill.name);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            let staged = state_dir.join(format!("{}~new", self.skill.name));
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
