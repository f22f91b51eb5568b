//! The directory for temporary files of a session without a private `/tmp`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::files::remove_tree;

/// Prefix of the names of such directories.
const PREFIX: &str = "agent-sandbox-";

/// A temporary directory, removed when the value is dropped. If the process is killed, the next
/// process that creates one removes it.
#[derive(Debug)]
pub(super) struct TemporaryDir {
    path: PathBuf,
    /// Locked while the directory is in use.
    _lock: File,
}

impl TemporaryDir {
    pub(super) fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir().canonicalize()?;
        sweep(&parent);
        let mut random = [0u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let number = u64::from_le_bytes(random);
        // Other processes sweep unlocked directories with the final prefix. So the directory gets
        // its final name after it is locked.
        let (new, path) = (
            parent.join(format!("new-{PREFIX}{number:016x}")),
            parent.join(format!("{PREFIX}{number:016x}")),
        );
        DirBuilder::new().mode(0o700).create(&new)?;
        let lock = open(&new)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&new, &path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // The next sweep tries again to remove a directory that cannot be removed now.
        let _ = remove_tree(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Removes the directories that killed processes of this user left behind.
fn sweep(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    {
        let path = path.path();
        let Ok(dir) = open(&path) else { continue };
        let is_ours = dir.metadata().is_ok_and(|metadata| metadata.uid() == user);
        if is_ours && rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_tree(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_in_use_stay_and_leftovers_are_removed() {
        let used = TemporaryDir::new().unwrap();
        let left = used.path().with_file_name(format!("{PREFIX}left-by-a-test"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("f"), "").unwrap();
        // A command may have nested more directories than this process may have descriptors.
        let mut at = File::open(&left).unwrap();
        for _ in 0..2_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::RDONLY, Mode::empty()).unwrap().into();
        }
        let second = TemporaryDir::new().unwrap();
        assert!(used.path().is_dir() && second.path().is_dir() && !left.exists());
        let path = used.path().to_owned();
        std::fs::create_dir(path.join("closed")).unwrap();
        std::fs::set_permissions(
            path.join("closed"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .unwrap();
        drop(used);
        assert!(!path.exists());
    }
}
