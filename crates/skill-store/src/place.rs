//! Assembly of a skill's directory beside its target, and the exchange of the two.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;
use sandbox_core::{FileError, RelativePath, SessionDir};

use crate::blobs::{Blobs, copy};
use crate::digest::Digest;
use crate::error::SkillError;
use crate::installed::InstalledFile;
use crate::layout::SKILLS_DIRECTORY;
use crate::manifest::Manifest;

/// Prefix of the directories in which skills are assembled. No skill has such a name.
const STAGING_PREFIX: &str = ".installing~";

/// Failure of [`place`].
pub(crate) enum PlaceFailure {
    /// Files of `blobs` are absent or not intact. They were removed.
    Damaged,
    Other(SkillError),
}

impl<E: Into<SkillError>> From<E> for PlaceFailure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Copies the files of a skill and gives the directory its name in one step. Returns the files as
/// they were installed.
pub(crate) fn place(
    dir: &SessionDir,
    target: &RelativePath,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Result<Vec<InstalledFile>, PlaceFailure> {
    let (staged, files) = Staged::new(dir, manifest, blobs)?;
    dir.replace_tree(&staged.path, target)?;
    Ok(files)
}

/// A skill that is assembled and has no name yet. Dropping it removes the directory, or the one
/// that it was exchanged with.
pub(crate) struct Staged<'d> {
    dir: &'d SessionDir,
    path: RelativePath,
    _lock: OwnedFd,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // The next installation removes what remains.
        let _ = self.dir.remove_tree(&self.path);
    }
}

impl<'d> Staged<'d> {
    /// Copies the files of a skill. Returns them as they will be installed.
    pub(crate) fn new(
        dir: &'d SessionDir,
        manifest: &Manifest,
        blobs: &Blobs,
    ) -> Result<(Self, Vec<InstalledFile>), PlaceFailure> {
        let skills = prepare(dir)?;
        let (path, lock) = create_staging(dir, &skills)?;
        let staged = Self { dir, path, _lock: lock };
        let files = copy_files(dir, &staged.path, manifest, blobs)?;
        Ok((staged, files))
    }
}

/// Gives each directory its name, the one beside it, or none of them. All must be below `skills/`.
///
/// Each exchange is one step of the file system. A process that is killed between two of them
/// leaves every skill whole, and the next call exchanges the rest.
pub(crate) fn place_together(
    dir: &SessionDir,
    staged: &[(Staged<'_>, &RelativePath)],
) -> Result<(), SkillError> {
    let skills = RelativePath::parse(SKILLS_DIRECTORY)?;
    let parent = dir.open_directory(&skills)?;
    let rename = |from: &RelativePath, to: &RelativePath, flags| {
        rustix::fs::renameat_with(&parent, from.file_name(), &parent, to.file_name(), flags)
    };
    let mut done = Vec::new();
    for (staged, target) in staged {
        let new = rename(&staged.path, target, RenameFlags::NOREPLACE).map(|()| IsNew(true));
        let exchanged = match new {
            Err(Errno::EXIST) => {
                rename(&staged.path, target, RenameFlags::EXCHANGE).map(|()| IsNew(false))
            }
            other => other,
        };
        match exchanged {
            Ok(is_new) => done.push((&staged.path, *target, is_new)),
            Err(errno) => {
                for (staged, target, IsNew(is_new)) in done.into_iter().rev() {
                    let flags = if is_new { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
                    // The reason for the failure of the call is the first one.
                    let _ = rename(target, staged, flags);
                }
                let path = target.as_ref().to_owned();
                return Err(
                    FileError::Io { operation: "replace", path, source: errno.into() }.into()
                );
            }
        }
    }
    Ok(())
}

/// True if nothing was in the place of a skill before.
struct IsNew(bool);

/// Creates the directory of skills, and removes what killed installations have left.
fn prepare(dir: &SessionDir) -> Result<RelativePath, SkillError> {
    let skills = RelativePath::parse(SKILLS_DIRECTORY)?;
    if !dir.has_plain_directory(&skills) {
        // The agent can have created a file or a symlink of this name.
        dir.remove_tree(&skills)?;
        dir.create_directory(&skills)?;
    }
    for leftover in dir.names(&skills)?.iter().filter(|name| name.starts_with(STAGING_PREFIX)) {
        let leftover = skills.join(leftover)?;
        // An installation under way has locked its directory. A leftover is not this call's
        // concern if it cannot be removed.
        if try_lock(dir, &leftover).is_ok_and(|lock| lock.is_some()) {
            let _ = dir.remove_tree(&leftover);
        }
    }
    Ok(skills)
}

fn create_staging(
    dir: &SessionDir,
    skills: &RelativePath,
) -> Result<(RelativePath, OwnedFd), SkillError> {
    loop {
        let staging = skills.join(&staging_name())?;
        dir.create_directory(&staging)?;
        // Another installation can take the new directory for a leftover until it is locked.
        if let Ok(Some(lock)) = try_lock(dir, &staging)
            && rustix::fs::fstat(&lock).is_ok_and(|stat| stat.st_nlink > 0)
        {
            return Ok((staging, lock));
        }
    }
}

/// Locks a directory. Returns `None` if another installation has locked it.
fn try_lock(dir: &SessionDir, path: &RelativePath) -> Result<Option<OwnedFd>, FileError> {
    let lock = dir.open_directory(path)?;
    let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
    Ok(locked.is_ok().then_some(lock))
}

fn copy_files(
    dir: &SessionDir,
    staging: &RelativePath,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Result<Vec<InstalledFile>, PlaceFailure> {
    let mut damaged: Vec<Digest> = Vec::new();
    let mut installed = Vec::with_capacity(manifest.files.len());
    for file in &manifest.files {
        let Ok(mut source) = blobs.file(&file.sha256, file.size) else {
            damaged.push(file.sha256);
            continue;
        };
        let path = staging.join(file.path.as_str()).map_err(SkillError::from)?;
        let mut staged = dir.stage(&path)?;
        let copied = copy(&mut source, staged.file()).map_err(|source| {
            let path = path.as_ref().to_owned();
            FileError::Io { operation: "write", path, source }
        })?;
        if copied != file.sha256 {
            damaged.push(file.sha256);
            continue;
        }
        staged.set_executable(file.is_executable)?;
        installed.push(InstalledFile::new(&file.path, &staged.commit()?));
    }
    if damaged.is_empty() {
        return Ok(installed);
    }
    damaged.iter().for_each(|digest| blobs.remove(digest));
    Err(PlaceFailure::Damaged)
}

/// Returns a name that no other installation on this machine uses.
fn staging_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{STAGING_PREFIX}{:x}-{number:x}", std::process::id())
}
