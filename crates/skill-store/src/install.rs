//! Installation of a skill in a session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir};

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::download::unwritable;
use crate::error::SkillError;
use crate::front_matter::description;
use crate::installed::{InstallState, InstalledDirectory, InstalledSkill};
use crate::layout::{MAX_BYTES, SKILL_FILE, SKILLS_DIRECTORY};
use crate::manifest::Manifest;
use crate::place::{PlaceFailure, place};
use crate::resolve::{Identity, Resolved};
use crate::skill_name::SkillName;
use crate::skill_ref::SkillRef;
use crate::store::SkillStore;
use crate::target_lock::{LockPlace, TargetLock};

mod locked;

/// Number of times that files are downloaded again because the cache lost or damaged them.
const ATTEMPTS: u32 = 3;

/// Report of an installation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstallReport {
    /// The skill.
    pub skill: InstalledSkill,
    /// `true` if the version was installed before and none of its files has changed, so that
    /// nothing was written.
    pub was_installed: bool,
    /// Defects that the installation tolerated.
    pub warnings: Vec<String>,
}

/// The place of an installation.
struct Target {
    dir: Arc<SessionDir>,
    path: RelativePath,
    name: SkillName,
    state_dir: Option<PathBuf>,
}

impl Target {
    fn new(
        dir: &Arc<SessionDir>,
        name: &SkillName,
        state_dir: Option<&Path>,
    ) -> Result<Self, SkillError> {
        if name.is_reserved() {
            return Err(SkillError::ReservedName { name: name.to_string() });
        }
        Ok(Self {
            dir: Arc::clone(dir),
            path: RelativePath::parse(&format!("{SKILLS_DIRECTORY}/{name}"))?,
            name: name.clone(),
            state_dir: state_dir.map(Path::to_owned),
        })
    }
}

impl SkillStore {
    /// Installs a skill in a session, in the directory `skills/<name>`.
    ///
    /// Every byte is verified against the manifest of the version. If the version is installed and
    /// no file of it has changed, the directory is left as it is, and one request was sent.
    /// Otherwise, the directory is replaced atomically, with all changes by the agent. `state_dir`
    /// is a directory of this session, outside the agent's reach. Calls for the same directory
    /// wait for each other, also in other processes.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the version cannot be downloaded, verified or written. An older
    /// version remains.
    ///
    /// # Cancel safety
    /// The directory has all files of the old version or all files of the new one. If the call is
    /// dropped during the exchange, a thread finishes it and then releases the lock.
    pub async fn install(
        &self,
        skill: &SkillRef,
        dir: &Arc<SessionDir>,
        state_dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        let resolved = self.resolve(skill).await?;
        self.install_resolved(resolved, None, &skill.name(), dir, Some(state_dir)).await
    }

    /// Installs a skill in any directory, at `<dir>/skills/<name>`, and creates the directory if it
    /// is absent. The directory is locked, and each call replaces the skill.
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
        let resolved = self.resolve(skill).await?;
        let dir = create_directory(dir).await?;
        self.install_resolved(resolved, None, &skill.name(), &dir, None).await
    }

    async fn install_resolved(
        &self,
        resolved: Resolved,
        expected: Option<Digest>,
        name: &SkillName,
        dir: &Arc<SessionDir>,
        state_dir: Option<&Path>,
    ) -> Result<InstallReport, SkillError> {
        if let Identity::Manifest { digest, .. } = &resolved.identity {
            check_expected(&resolved, expected, *digest)?;
        }
        let target = Target::new(dir, name, state_dir)?;
        let lock_place = match state_dir {
            Some(state_dir) => LockPlace::File(state_dir.join(format!("{name}~lock"))),
            None => LockPlace::Directory(dir.path().to_owned()),
        };
        let failed = |source| {
            let (LockPlace::File(path) | LockPlace::Directory(path)) = lock_place.clone();
            SkillError::State { path, source }
        };
        let lock = TargetLock::take(lock_place.clone()).await.map_err(failed)?;
        let mut warnings = resolved.warnings.clone();
        let blobs = self.open_blobs(state_dir, &mut warnings).await?;
        self.check_signature(&resolved, &blobs).await?;
        let (target, state) = read_state(target, &resolved).await;
        match state {
            Some(Ok(skill)) if expected.is_none_or(|digest| digest == skill.digest) => {
                return Ok(InstallReport { skill, was_installed: true, warnings });
            }
            Some(Err(changed)) => warnings.push(format!(
                "{changed} was changed in the session, so the skill was installed again"
            )),
            _ => {}
        }
        let (skill, defect) = self.replace(target, resolved, expected, blobs, lock).await?;
        warnings.extend(defect);
        Ok(InstallReport { skill, was_installed: false, warnings })
    }

    /// Downloads a version and exchanges the directory. Returns the skill, and a warning about its
    /// SKILL.md.
    async fn replace(
        &self,
        target: Target,
        resolved: Resolved,
        expected: Option<Digest>,
        mut blobs: Arc<Blobs>,
        mut lock: TargetLock,
    ) -> Result<(InstalledSkill, Option<String>), SkillError> {
        let identity = resolved.identity.digest();
        let mut target = Arc::new(target);
        for attempt in 1.. {
            if attempt == ATTEMPTS {
                // A cache that is smaller than the skill loses its files to other installations.
                blobs = temporary_blobs(target.state_dir.as_deref()).await?;
            }
            let manifest = self.cached_manifest(&resolved, &blobs).await?;
            let digest = manifest.digest();
            check_expected(&resolved, expected, digest)?;
            self.download(&manifest, &blobs).await?;
            let thread = (Arc::clone(&target), Arc::clone(&blobs));
            // The lock goes with the thread, which ends the exchange although the caller is gone.
            let (placed, returned) = blocking(move || {
                let (target, blobs) = thread;
                let placed = exchange(&target, &manifest, digest, identity, &blobs);
                ((placed, target), lock)
            })
            .await;
            lock = returned;
            let (placed, used) = placed;
            target = used;
            match placed {
                Ok(installed) => {
                    self.shrink_cache(blobs).await;
                    return Ok(installed);
                }
                Err(PlaceFailure::Damaged) if attempt < ATTEMPTS => {}
                Err(PlaceFailure::Damaged) => {
                    let error = std::io::ErrorKind::InvalidData.into();
                    return Err(unwritable(&blobs, error));
                }
                Err(PlaceFailure::Other(error)) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Returns the manifest of a version. A version without one is not downloaded to be described
    /// if the cache knows its objects.
    async fn cached_manifest(
        &self,
        resolved: &Resolved,
        blobs: &Arc<Blobs>,
    ) -> Result<Manifest, SkillError> {
        let Identity::Objects(files) = &resolved.identity else {
            return self.manifest_of(resolved, blobs).await;
        };
        // Without tags, a changed object can look like the old one.
        let known = files.has_tags().then(|| {
            let place = self.version_prefix(&resolved.id, resolved.version);
            let text = format!("{}\n{place}\n{}", self.store, files.fingerprint());
            Digest::of(text.as_bytes())
        });
        if let Some(known) = known {
            let (id, version) = (resolved.id.clone(), resolved.version);
            let blobs = Arc::clone(blobs);
            let manifest = blocking(move || blobs.described(&known)).await;
            let manifest = manifest.and_then(|text| Manifest::parse(&text).ok());
            let is_same = |manifest: &Manifest| manifest.check_version(&id, version).is_ok();
            if let Some(manifest) = manifest.filter(is_same) {
                return Ok(manifest);
            }
        }
        let manifest = self.manifest_of(resolved, blobs).await?;
        if let Some(known) = known {
            let (blobs, digest) = (Arc::clone(blobs), manifest.digest());
            // Without this entry, the version is downloaded again.
            let _ = blocking(move || blobs.describe(&known, &digest)).await;
        }
        Ok(manifest)
    }

    /// Opens the cache, or a temporary directory if no cache is set or it cannot be used.
    pub(crate) async fn open_blobs(
        &self,
        state_dir: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Blobs>, SkillError> {
        if let Some(cache) = self.cache.clone() {
            match blocking(move || Blobs::open(cache.dir())).await {
                Ok(blobs) => return Ok(Arc::new(blobs)),
                Err(error) => warnings.push(format!("the cache cannot be used: {error}")),
            }
        }
        temporary_blobs(state_dir).await
    }

    pub(crate) async fn shrink_cache(&self, blobs: Arc<Blobs>) {
        if let Some(limit) = self.cache.as_ref().map(|cache| cache.limit()) {
            // The next installation tries again.
            let _ = blocking(move || blobs.shrink(limit)).await;
        }
    }
}

async fn temporary_blobs(state_dir: Option<&Path>) -> Result<Arc<Blobs>, SkillError> {
    let parent = state_dir.map_or_else(std::env::temp_dir, Path::to_owned);
    blocking(move || {
        let failed = |source| SkillError::State { path: parent.clone(), source };
        Blobs::temporary(&parent).map(Arc::new).map_err(failed)
    })
    .await
}

async fn create_directory(dir: &Path) -> Result<Arc<SessionDir>, SkillError> {
    let dir = dir.to_owned();
    let created = blocking(move || SessionDir::create(&dir).map(Arc::new)).await;
    created.map_err(|error| match error {
        FileError::UnsafeDirectory { path, problem } => SkillError::Occupied { path, problem },
        error => error.into(),
    })
}

/// Returns the installed skill if it is the resolved version, or the file of it that was changed.
async fn read_state(
    target: Target,
    resolved: &Resolved,
) -> (Target, Option<Result<InstalledSkill, String>>) {
    let version = (resolved.id.clone(), resolved.version, resolved.identity.digest());
    blocking(move || {
        let state = target.state_dir.as_deref();
        let state = state.and_then(|state_dir| InstallState::read(state_dir, &target.name));
        let state = state.filter(|state| {
            (&state.skill.id, state.skill.version, state.identity)
                == (&version.0, version.1, version.2)
        });
        let state = state.map(|state| match state.changed_file(&target.dir, &target.path) {
            None => Ok(state.skill),
            Some(changed) => Err(changed),
        });
        (target, state)
    })
    .await
}

/// Replaces the directory and then the state file.
fn exchange(
    target: &Target,
    manifest: &Manifest,
    digest: Digest,
    identity: Digest,
    blobs: &Blobs,
) -> Result<(InstalledSkill, Option<String>), PlaceFailure> {
    if target.state_dir.is_none() {
        check_place(target)?;
    }
    let files = place(&target.dir, &target.path, manifest, blobs)?;
    let (skill, defect) = describe(target, manifest, digest, blobs);
    if let Some(state_dir) = &target.state_dir {
        let path = || target.dir.path().join(&target.path);
        let directories =
            InstalledDirectory::find(target.dir.open_directory(&target.path)?, &files)
                .map_err(|source| SkillError::State { path: path(), source })?;
        let skill = skill.clone();
        InstallState { skill, identity, files, directories }.write(state_dir)?;
    }
    Ok((skill, defect))
}

/// Returns what was installed, and a warning about its SKILL.md.
fn describe(
    target: &Target,
    manifest: &Manifest,
    digest: Digest,
    blobs: &Blobs,
) -> (InstalledSkill, Option<String>) {
    let description = read_description(manifest, blobs);
    let (description, defect) = match description {
        Ok(description) => (Some(description), None),
        Err(defect) => (None, Some(defect)),
    };
    let skill = InstalledSkill {
        id: manifest.skill.clone(),
        name: target.name.clone(),
        version: manifest.version,
        digest,
        description,
    };
    (skill, defect)
}

/// Refuses to replace what a user has in the place of a skill. In a session, the place belongs to
/// the engine.
fn check_place(target: &Target) -> Result<(), SkillError> {
    let occupied = |path: &RelativePath, problem| {
        Err(SkillError::Occupied { path: target.dir.path().join(path), problem })
    };
    let skills = RelativePath::parse(SKILLS_DIRECTORY)?;
    let stat = |path: &RelativePath| std::fs::symlink_metadata(target.dir.path().join(path));
    for path in [&skills, &target.path] {
        match stat(path) {
            Ok(_) if !target.dir.has_plain_directory(path) => {
                return occupied(path, "is no directory");
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) => return occupied(path, "cannot be inspected"),
        }
    }
    let has_files = !target.dir.names(&target.path)?.is_empty();
    match stat(&target.path.join(SKILL_FILE)?) {
        Ok(found) if !found.is_file() => {
            occupied(&target.path, "is a directory whose SKILL.md is no file")
        }
        Err(_) if has_files => occupied(&target.path, "is a directory without a SKILL.md"),
        _ => Ok(()),
    }
}

/// Returns the description of a skill, or a warning about its SKILL.md.
fn read_description(manifest: &Manifest, blobs: &Blobs) -> Result<String, String> {
    let absent = || format!("it has no {SKILL_FILE}");
    let mut files = manifest.files.iter();
    let file = files.find(|file| file.path.as_str() == SKILL_FILE).ok_or_else(absent)?;
    let content = blobs.read(&file.sha256, MAX_BYTES).ok_or_else(absent)?;
    description(&content).map_err(|error| format!("its {SKILL_FILE} is not valid: {error}"))
}

fn check_expected(
    resolved: &Resolved,
    expected: Option<Digest>,
    found: Digest,
) -> Result<(), SkillError> {
    match expected {
        Some(expected) if expected != found => Err(SkillError::DigestChanged {
            id: resolved.id.clone(),
            version: resolved.version,
            expected: Box::new(expected),
            found: Box::new(found),
        }),
        _ => Ok(()),
    }
}
