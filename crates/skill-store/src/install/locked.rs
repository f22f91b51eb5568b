//! Installation of what a lockfile names: one skill, or all of them together.

use std::path::Path;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use sandbox_core::SessionDir;
use sandbox_core::internal::blocking;

use super::{
    ATTEMPTS, InstallReport, Target, check_expected, check_place, create_directory, describe,
    temporary_blobs,
};
use crate::blobs::Blobs;
use crate::download::unwritable;
use crate::error::SkillError;
use crate::layout::CONCURRENT_REQUESTS;
use crate::manifest::Manifest;
use crate::place::{PlaceFailure, Staged, place_together};
use crate::resolve::{Identity, Resolved};
use crate::skill_lock::{LockedSkill, SkillLock};
use crate::skill_ref::SkillRef;
use crate::store::SkillStore;
use crate::target_lock::{LockPlace, TargetLock};

/// A version to install, whose digest is that of the lockfile.
struct Planned {
    target: Target,
    manifest: Manifest,
    warnings: Vec<String>,
}

impl SkillStore {
    /// Installs exactly the version and content that a lockfile names, like
    /// [`SkillStore::install_into`].
    ///
    /// # Errors
    /// Like [`SkillStore::install`]. Returns [`SkillError::DigestChanged`] if the version has
    /// another content than the lockfile says.
    ///
    /// # Cancel safety
    /// Like [`SkillStore::install`].
    pub async fn install_locked(
        &self,
        locked: &LockedSkill,
        dir: &Path,
    ) -> Result<InstallReport, SkillError> {
        let skill = SkillRef::new(locked.id.clone(), locked.version);
        let resolved = self.resolve(&skill).await?.in_lockfile();
        let dir = create_directory(dir).await?;
        let name = locked.name();
        self.install_resolved(resolved, Some(locked.digest), &name, &dir, None).await
    }

    /// Installs all skills of a lockfile or none, each like [`SkillStore::install_locked`].
    ///
    /// Every byte of every skill is verified before a directory is touched. Then all directories
    /// are assembled, and exchanged one right after another. A process that is killed between two
    /// exchanges leaves each skill whole in its old or new version; the next call ends the work.
    /// Returns the reports in the order of the lockfile.
    ///
    /// # Errors
    /// Like [`SkillStore::install_locked`], for the first skill that fails. All directories are as
    /// they were.
    ///
    /// # Cancel safety
    /// All skills are installed or none. If the call is dropped during the exchange, a thread
    /// finishes it and then releases the lock.
    pub async fn install_all_locked(
        &self,
        lock: &SkillLock,
        dir: &Path,
    ) -> Result<Vec<InstallReport>, SkillError> {
        if lock.skills().is_empty() {
            return Ok(Vec::new());
        }
        let locked = lock.skills().iter();
        let wanted: Vec<SkillRef> =
            locked.map(|locked| SkillRef::new(locked.id.clone(), locked.version)).collect();
        let resolved: Vec<Resolved> = futures::stream::iter(wanted)
            .map(|skill| {
                async move { self.resolve(&skill).await.map(Resolved::in_lockfile) }.boxed()
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        for attempt in 1.. {
            let mut warnings = Vec::new();
            let blobs = match attempt {
                // A cache that is smaller than the skills loses files to other installations.
                ATTEMPTS => temporary_blobs(None).await?,
                _ => self.open_blobs(None, &mut warnings).await?,
            };
            let mut manifests = Vec::new();
            for (locked, resolved) in lock.skills().iter().zip(&resolved) {
                manifests.push(self.verified_content(locked, resolved, &blobs).await?);
            }
            let dir = create_directory(dir).await?;
            let planned = plan(lock, &resolved, manifests, &dir)?;
            match place_planned(planned, &dir, &blobs).await? {
                Some(mut reports) => {
                    reports[0].warnings.extend(warnings);
                    self.shrink_cache(blobs).await;
                    return Ok(reports);
                }
                None if attempt < ATTEMPTS => {}
                None => {
                    let error = std::io::ErrorKind::InvalidData.into();
                    return Err(unwritable(&blobs, error));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Downloads a version, and verifies its signature, its digest and every byte.
    async fn verified_content(
        &self,
        locked: &LockedSkill,
        resolved: &Resolved,
        blobs: &Arc<Blobs>,
    ) -> Result<Manifest, SkillError> {
        if let Identity::Manifest { digest, .. } = &resolved.identity {
            check_expected(resolved, Some(locked.digest), *digest)?;
        }
        self.check_signature(resolved, blobs).await?;
        let manifest = self.cached_manifest(resolved, blobs).await?;
        check_expected(resolved, Some(locked.digest), manifest.digest())?;
        self.download(&manifest, blobs).await?;
        Ok(manifest)
    }
}

fn plan(
    lock: &SkillLock,
    resolved: &[Resolved],
    manifests: Vec<Manifest>,
    dir: &Arc<SessionDir>,
) -> Result<Vec<Planned>, SkillError> {
    let versions = lock.skills().iter().zip(resolved).zip(manifests);
    versions
        .map(|((locked, resolved), manifest)| {
            let target = Target::new(dir, &locked.name(), None)?;
            Ok(Planned { target, manifest, warnings: resolved.warnings.clone() })
        })
        .collect()
}

/// Installs all versions or none. Returns `None` if files of the cache were lost or damaged since
/// they were downloaded.
async fn place_planned(
    planned: Vec<Planned>,
    dir: &Arc<SessionDir>,
    blobs: &Arc<Blobs>,
) -> Result<Option<Vec<InstallReport>>, SkillError> {
    let path = dir.path().to_owned();
    let failed = |source| SkillError::State { path: path.clone(), source };
    let taken = TargetLock::take(LockPlace::Directory(path.clone())).await.map_err(failed)?;
    let (dir, blobs) = (Arc::clone(dir), Arc::clone(blobs));
    // The lock goes with the thread, which ends the exchange although the caller is gone.
    blocking(move || {
        let _taken = taken;
        match exchange_all(planned, &dir, &blobs) {
            Ok(reports) => Ok(Some(reports)),
            Err(PlaceFailure::Damaged) => Ok(None),
            Err(PlaceFailure::Other(error)) => Err(error),
        }
    })
    .await
}

fn exchange_all(
    planned: Vec<Planned>,
    dir: &SessionDir,
    blobs: &Blobs,
) -> Result<Vec<InstallReport>, PlaceFailure> {
    for Planned { target, .. } in &planned {
        check_place(target)?;
    }
    let mut staged = Vec::with_capacity(planned.len());
    for Planned { target, manifest, .. } in &planned {
        staged.push((Staged::new(dir, manifest, blobs)?.0, &target.path));
    }
    place_together(dir, &staged)?;
    drop(staged);
    let reports = planned.into_iter().map(|Planned { target, manifest, mut warnings }| {
        let (skill, defect) = describe(&target, &manifest, manifest.digest(), blobs);
        warnings.extend(defect);
        InstallReport { skill, was_installed: false, warnings }
    });
    Ok(reports.collect())
}
