//! Installation of a skill in a session.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact_sync::internal::{Object, get_object};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir};

use crate::error::SkillError;
use crate::front_matter::description;
use crate::id::{SkillRef, Version};
use crate::installed::{InstallState, InstalledSkill};
use crate::layout::{CONCURRENT_REQUESTS, SKILL_FILE, SKILLS_DIRECTORY};
use crate::store::{SkillStore, store_error};
use crate::version_files::{VersionFiles, check_size};

/// Prefix of the directories in which skills are assembled.
const STAGING_PREFIX: &str = ".installing-";

/// Report of an installation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstallReport {
    /// The skill.
    pub skill: InstalledSkill,
    /// `true` if the version was installed before, so that nothing was downloaded.
    pub was_installed: bool,
    /// Defects that the installation tolerated.
    pub warnings: Vec<String>,
}

impl SkillStore {
    /// Installs a skill in a session, in the directory `skills/<name>`.
    ///
    /// An installed version is left unchanged. Another version is replaced atomically. `state_dir`
    /// is a directory of this session, outside the agent's reach.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the version cannot be downloaded or written. An older version
    /// remains.
    ///
    /// # Cancel safety
    /// The directory has all files of the old version or all files of the new one.
    pub async fn install(
        &self,
        skill: &SkillRef,
        dir: &Arc<SessionDir>,
        state_dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        let files = self.files(skill).await?;
        self.install_files(skill, files, dir, Some(state_dir)).await
    }

    /// Installs a skill in any directory, at `<dir>/skills/<name>`, and creates the directory if it
    /// is absent.
    ///
    /// # Errors
    /// Like [`SkillStore::install`].
    ///
    /// # Cancel safety
    /// Like [`SkillStore::install`].
    pub async fn install_into(
        &self,
        skill: &SkillRef,
        dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        // Before the directory is created, so that an absent version creates nothing.
        let files = self.files(skill).await?;
        let dir = Arc::new(SessionDir::create(dir)?);
        self.install_files(skill, files, &dir, None).await
    }

    async fn files(&self, skill: &SkillRef) -> Result<VersionFiles, SkillError> {
        VersionFiles::list(self, &skill.id, skill.version.unwrap_or(Version::FIRST)).await
    }

    async fn install_files(
        &self,
        skill: &SkillRef,
        VersionFiles { files, fingerprints, warnings: defects, .. }: VersionFiles,
        dir: &Arc<SessionDir>,
        state_dir: Option<&Path>,
    ) -> Result<InstallReport, SkillError> {
        let (id, name) = (skill.id.clone(), skill.name());
        let mut warnings = Vec::new();
        let version = skill.version.unwrap_or_else(|| {
            warnings.push(format!(
                "no version was asked for, so version 1 is installed; write {id}@VERSION"
            ));
            Version::FIRST
        });
        warnings.extend(defects);
        let target = RelativePath::parse(&format!("{SKILLS_DIRECTORY}/{name}"))?;
        let state = state_dir.and_then(|state_dir| InstallState::read(state_dir, &name));
        let is_current = |state: &InstallState| {
            (&state.skill.id, state.skill.version) == (&id, version)
                && state.objects == fingerprints
                && dir.has_plain_directory(&target)
        };
        if let Some(state) = state.filter(is_current) {
            return Ok(InstallReport { skill: state.skill, was_installed: true, warnings });
        }
        let files = self.download(files).await?;
        // The listing can be older than the content.
        let bytes = files.iter().map(|(_, object)| object.content.len() as u64).sum();
        check_size(&id, version, bytes)?;
        let description = read_description(&files).map_err(|defect| warnings.push(defect)).ok();
        let session = Arc::clone(dir);
        blocking(move || place(&session, &target, &files)).await?;
        let skill = InstalledSkill { id, name, version, description };
        let state = InstallState { skill, objects: fingerprints };
        if let Some(state_dir) = state_dir {
            state.write(state_dir)?;
        }
        Ok(InstallReport { skill: state.skill, was_installed: false, warnings })
    }

    async fn download(
        &self,
        files: Vec<(RelativePath, Key)>,
    ) -> Result<Vec<(RelativePath, Object)>, SkillError> {
        futures::stream::iter(files)
            .map(|(path, key)| async move {
                let object = get_object(&*self.store, &key).await.map_err(store_error(&key))?;
                Ok((path, object))
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await
    }
}

/// Returns the description of a skill, or a warning about its SKILL.md.
fn read_description(files: &[(RelativePath, Object)]) -> Result<String, String> {
    let skill_file = files.iter().find(|(path, _)| path.as_str() == SKILL_FILE);
    let (_, object) = skill_file.ok_or_else(|| format!("it has no {SKILL_FILE}"))?;
    description(&object.content).map_err(|error| format!("its {SKILL_FILE} is not valid: {error}"))
}

/// Assembles the directory of a skill beside its target and exchanges the two atomically.
fn place(
    dir: &SessionDir,
    target: &RelativePath,
    files: &[(RelativePath, Object)],
) -> Result<(), SkillError> {
    let skills = RelativePath::parse(SKILLS_DIRECTORY)?;
    if !dir.has_plain_directory(&skills) {
        // The agent can have created a file or a symlink of this name.
        dir.remove_tree(&skills)?;
        dir.create_directory(&skills)?;
    }
    for leftover in dir.names(&skills)?.iter().filter(|name| name.starts_with(STAGING_PREFIX)) {
        dir.remove_tree(&skills.join(leftover)?)?;
    }
    let staging = skills.join(&staging_name())?;
    let placed =
        write_files(dir, &staging, files).and_then(|()| Ok(dir.replace_tree(&staging, target)?));
    if placed.is_err() {
        let _ = dir.remove_tree(&staging);
    }
    placed
}

fn write_files(
    dir: &SessionDir,
    staging: &RelativePath,
    files: &[(RelativePath, Object)],
) -> Result<(), SkillError> {
    dir.create_directory(staging)?;
    for (path, object) in files {
        let path = staging.join(path.as_str())?;
        let mut staged = dir.stage(&path)?;
        staged.write_all(&object.content).map_err(|source| FileError::Io {
            operation: "write",
            path: path.as_ref().to_owned(),
            source,
        })?;
        // Some stores do not keep attributes, but a script has an interpreter line.
        staged.set_executable(object.is_executable || object.content.starts_with(b"#!"))?;
        staged.commit()?;
    }
    Ok(())
}

/// Returns a name that no other installation on this machine uses.
fn staging_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{STAGING_PREFIX}{:x}-{number:x}", std::process::id())
}
