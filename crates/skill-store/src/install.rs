//! The way of a skill into a session.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact_sync::{Listing, Object, get_object, list_tree};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir};
use serde::{Deserialize, Serialize};

use crate::SKILLS_DIRECTORY;
use crate::error::SkillError;
use crate::front_matter::{SKILL_FILE, description};
use crate::id::{SkillId, SkillName, SkillRef, Version};
use crate::record::{Fingerprint, Record};
use crate::source::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES};
use crate::store::{SkillStore, store_error};

/// How the directory is called in which a skill arises.
const STAGING_PREFIX: &str = ".installing-";
const FETCHES_AT_ONCE: usize = 16;

/// A skill that a session has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstalledSkill {
    /// The skill.
    pub id: SkillId,
    /// Its directory below `skills/`.
    pub name: SkillName,
    /// Its version.
    pub version: Version,
    /// What its SKILL.md says that it does, where that could be read.
    pub description: Option<String>,
}

/// What installing did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstallReport {
    /// The skill.
    pub skill: InstalledSkill,
    /// Whether it was there already, so that nothing was fetched.
    pub was_there: bool,
    /// What was not as it should be.
    pub warnings: Vec<String>,
}

impl SkillStore {
    /// Installs a skill into a session, at `skills/<name>`. Another version that is there is
    /// replaced whole, in one step; the same one is left as it is. `state_dir` is a directory of
    /// the session's own, out of the agent's reach.
    ///
    /// # Errors
    /// [`SkillError`]; what was there before is there still.
    ///
    /// # Cancel safety
    /// The directory is whole, the old version or the new.
    pub async fn install(
        &self,
        skill: &SkillRef,
        dir: &Arc<SessionDir>,
        state_dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        let files = self.objects(&skill.id, skill.version.unwrap_or(Version::FIRST)).await?;
        self.install_files(skill, files, dir, Some(state_dir)).await
    }

    /// Installs a skill into any directory, at `<dir>/skills/<name>`; the directory is made where
    /// it is absent.
    ///
    /// # Errors
    /// As [`SkillStore::install`].
    ///
    /// # Cancel safety
    /// As [`SkillStore::install`].
    pub async fn install_into(
        &self,
        skill: &SkillRef,
        dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        // Nothing is made for a skill that is not there.
        let files = self.objects(&skill.id, skill.version.unwrap_or(Version::FIRST)).await?;
        let dir = Arc::new(SessionDir::create(dir)?);
        self.install_files(skill, files, &dir, None).await
    }

    async fn install_files(
        &self,
        skill: &SkillRef,
        version_files: VersionFiles,
        dir: &Arc<SessionDir>,
        state_dir: Option<&Path>,
    ) -> Result<InstallReport, SkillError> {
        let mut warnings = Vec::new();
        let version = skill.version.unwrap_or_else(|| {
            warnings.push(format!(
                "no version was asked for, so version 1 is installed; write {}@VERSION",
                skill.id
            ));
            Version::FIRST
        });
        let mut installed =
            InstalledSkill { id: skill.id.clone(), name: skill.name(), version, description: None };
        warnings.extend(version_files.warnings);
        let target = relative(&format!("{SKILLS_DIRECTORY}/{}", installed.name))?;
        let record = state_dir.and_then(|state_dir| Record::read(state_dir, &installed));
        if let Some(record) = record.filter(|record| {
            let is_same = (&record.skill.id, record.skill.version) == (&installed.id, version);
            is_same
                && record.objects == version_files.fingerprints
                && dir.has_plain_directory(&target)
        }) {
            return Ok(InstallReport { skill: record.skill, was_there: true, warnings });
        }
        let files: Vec<(RelativePath, Object)> = futures::stream::iter(version_files.files)
            .map(|(path, key)| async move {
                let object = get_object(&*self.store, &key).await.map_err(store_error(&key))?;
                Ok::<_, SkillError>((path, object))
            })
            .buffer_unordered(FETCHES_AT_ONCE)
            .try_collect()
            .await?;
        check_size(&installed, files.iter().map(|(_, object)| object.content.len() as u64).sum())?;
        match files
            .iter()
            .find(|(path, _)| path.as_str() == SKILL_FILE)
            .map(|(_, file)| description(&file.content))
        {
            Some(Ok(text)) => installed.description = Some(text),
            Some(Err(error)) => warnings.push(format!("its {SKILL_FILE} is not valid: {error}")),
            None => warnings.push(format!("it has no {SKILL_FILE}")),
        }
        let (at, place) = (Arc::clone(dir), target);
        blocking(move || materialise(&at, &place, &files)).await?;
        let record = Record { skill: installed, objects: version_files.fingerprints };
        if let Some(state_dir) = state_dir {
            record.write(state_dir)?;
        }
        Ok(InstallReport { skill: record.skill, was_there: false, warnings })
    }

    /// The files of a version, each with its key; nothing is fetched.
    async fn objects(&self, id: &SkillId, version: Version) -> Result<VersionFiles, SkillError> {
        let prefix = self.version_prefix(id, version);
        let Listing { objects, unlisted, .. } =
            list_tree(&*self.store, &prefix).await.map_err(store_error(&prefix))?;
        let refused = |problem| SkillError::Refused { id: id.clone(), version, problem };
        // Each file may have a directory marker.
        if objects.len() > 2 * MAX_FILES {
            return Err(refused(format!(
                "it has {} objects; at most {MAX_FILES} files are installed",
                objects.len()
            )));
        }
        let mut found = VersionFiles::default();
        found.warnings.extend(
            unlisted.iter().map(|lost| format!("{:?} was left out: {}", lost.key, lost.reason)),
        );
        let mut size = 0;
        let paths: Vec<&str> = objects
            .iter()
            .map(|meta| artifact_sync::strip_prefix(&prefix, &meta.location).unwrap_or_default())
            .collect();
        for (meta, below) in objects.iter().zip(&paths) {
            // A directory marker: nothing, or the name of a directory.
            let holds_others = paths
                .iter()
                .any(|other| other.strip_prefix(below).is_some_and(|rest| rest.starts_with('/')));
            if below.is_empty() || meta.size == 0 && holds_others {
                continue;
            }
            let path = RelativePath::parse(below).ok().filter(|_| below.len() <= MAX_PATH_BYTES);
            let Some(path) = path else {
                found.warnings.push(format!(
                    "{:?} was left out: it stands for no path of a skill",
                    meta.location.as_ref()
                ));
                continue;
            };
            size += meta.size;
            found.fingerprints.push(Fingerprint::new(below, meta));
            found.files.push((path, meta.location.clone()));
        }
        found.fingerprints.sort();
        if found.files.is_empty() {
            return Err(self.not_found(id, version).await);
        }
        if found.files.len() > MAX_FILES {
            return Err(refused(format!(
                "it has {} files; at most {MAX_FILES} are installed",
                found.files.len()
            )));
        }
        if size > MAX_BYTES {
            return Err(refused(format!("it has {size} bytes; at most {MAX_BYTES} are installed")));
        }
        let has_skill_file = paths.contains(&SKILL_FILE);
        if !has_skill_file && self.is_taken(id, version).await? {
            return Err(SkillError::Unfinished { id: id.clone(), version });
        }
        Ok(found)
    }

    async fn not_found(&self, id: &SkillId, version: Version) -> SkillError {
        let there = match self.versions(id).await {
            Ok(versions) if versions.is_empty() => "the store has no version of it".to_owned(),
            Ok(versions) => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                format!("the store has {}", versions.join(", "))
            }
            Err(error) => return error,
        };
        SkillError::NotFound { id: id.clone(), version, there }
    }
}

/// What the store has of a version.
#[derive(Default)]
struct VersionFiles {
    files: Vec<(RelativePath, Key)>,
    /// By path.
    fingerprints: Vec<Fingerprint>,
    warnings: Vec<String>,
}

/// A listing may be older than what was fetched.
fn check_size(skill: &InstalledSkill, size: u64) -> Result<(), SkillError> {
    if size <= MAX_BYTES {
        return Ok(());
    }
    let problem = format!("it has {size} bytes; at most {MAX_BYTES} are installed");
    Err(SkillError::Refused { id: skill.id.clone(), version: skill.version, problem })
}

/// Builds the directory beside its place, then puts it there in one step.
fn materialise(
    dir: &SessionDir,
    target: &RelativePath,
    files: &[(RelativePath, Object)],
) -> Result<(), SkillError> {
    let skills = relative(SKILLS_DIRECTORY)?;
    if !dir.has_plain_directory(&skills) {
        // The name is not the agent's to give to something else.
        dir.remove_tree(&skills)?;
        dir.create_directory(&skills)?;
    }
    for leftover in dir.names(&skills)?.iter().filter(|name| name.starts_with(STAGING_PREFIX)) {
        dir.remove_tree(&skills.join(leftover).map_err(path_error)?)?;
    }
    let staging = staging_name();
    let staging = skills.join(&staging).map_err(path_error)?;
    let placed = fill(dir, &staging, files).and_then(|()| Ok(dir.replace_tree(&staging, target)?));
    if placed.is_err() {
        let _ = dir.remove_tree(&staging);
    }
    placed
}

fn fill(
    dir: &SessionDir,
    staging: &RelativePath,
    files: &[(RelativePath, Object)],
) -> Result<(), SkillError> {
    dir.create_directory(staging)?;
    for (path, object) in files {
        let path = staging.join(path.as_str()).map_err(path_error)?;
        let mut staged = dir.stage(&path)?;
        staged.write_all(&object.content).map_err(|source| FileError::Io {
            operation: "write",
            path: path.as_ref().to_owned(),
            source,
        })?;
        // A store that keeps no attributes has forgotten it; a script says so itself.
        staged.set_executable(object.is_executable || object.content.starts_with(b"#!"))?;
        staged.commit()?;
    }
    Ok(())
}

fn relative(path: &str) -> Result<RelativePath, SkillError> {
    RelativePath::parse(path).map_err(path_error)
}

fn path_error(error: sandbox_core::PathError) -> SkillError {
    SkillError::Unfit { path: SKILLS_DIRECTORY.into(), problem: error.to_string() }
}

/// A name that no other installation of this machine has.
fn staging_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!(
        "{STAGING_PREFIX}{:x}-{:x}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}
