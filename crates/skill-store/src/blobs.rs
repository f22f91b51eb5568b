//! A directory of files that are named by their digests.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sandbox_core::internal::remove_tree;

use crate::digest::{Digest, Hasher};
use crate::manifest::MAX_MANIFEST_BYTES;

/// Prefix of the names of temporary directories.
const TEMPORARY: &str = "skill-download-";
/// Time after which the use of a file is recorded again.
const USE_RESOLUTION: Duration = Duration::from_secs(60);
/// Size of the parts in which files are read.
const PART: usize = 64 * 1024;

/// A directory of files that are named by their digests. Its content is not trusted, so each
/// reader verifies it.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    /// Locked while a temporary directory is in use, which is removed afterwards.
    temporary: Option<File>,
}

/// A file that is being written and has no name yet.
pub(crate) struct NewBlob {
    file: File,
    /// Path of a named file, where the file system has no unnamed files.
    path: Option<PathBuf>,
    hasher: Hasher,
    size: u64,
}

impl Blobs {
    /// Uses a directory, and creates it for its owner only if it is absent.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), temporary: None })
    }

    /// Creates a temporary directory. Removes those that killed processes of this user left.
    pub(crate) fn temporary(parent: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        sweep(parent);
        let number = random()?;
        // Others sweep unlocked directories of the final name, so it is given after the lock.
        let new = parent.join(format!("new-{TEMPORARY}{number:016x}"));
        let dir = parent.join(format!("{TEMPORARY}{number:016x}"));
        DirBuilder::new().mode(0o700).create(&new)?;
        let lock = open_directory(&new)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&new, &dir)?;
        Ok(Self { dir, temporary: Some(lock) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    /// Returns whether a file has this digest in its name and this size.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        let metadata = std::fs::symlink_metadata(self.path(digest));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Opens a file of this size. Records its use.
    pub(crate) fn file(&self, digest: &Digest, size: u64) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(self.path(digest), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let now = SystemTime::now();
        let age = metadata.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        if self.temporary.is_none() && age.is_none_or(|age| age > USE_RESOLUTION) {
            // A file whose use is not recorded is only removed earlier.
            let _ = file.set_modified(now);
        }
        Ok(file)
    }

    /// Reads a file and verifies it. Returns `None` if it is absent or not intact.
    pub(crate) fn read(&self, digest: &Digest, max_bytes: u64) -> Option<Vec<u8>> {
        let content = self.read_named(digest, max_bytes);
        content.filter(|content| Digest::of(content) == *digest)
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        let path = self.path(digest);
        if std::fs::remove_file(&path).is_err() {
            let _ = remove_tree(&path);
        }
    }

    /// Begins a file.
    pub(crate) fn begin(&self) -> io::Result<NewBlob> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let (file, path) = match rustix::fs::open(&self.dir, flags | OFlags::TMPFILE, mode) {
            Ok(file) => (File::from(file), None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let path = self.new_path()?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (rustix::fs::open(&path, flags, mode)?.into(), Some(path))
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok(NewBlob { file, path, hasher: Hasher::default(), size: 0 })
    }

    /// Returns a path that nothing has.
    fn new_path(&self) -> io::Result<PathBuf> {
        Ok(self.dir.join(format!("new-{:016x}", random()?)))
    }

    /// Stores a small content under its digest.
    pub(crate) fn insert(&self, content: &[u8]) -> io::Result<Digest> {
        let mut new = self.begin()?;
        new.write(content)?;
        let (digest, _) = new.identity();
        new.keep(self, &digest)?;
        Ok(digest)
    }

    /// Stores a small content under a name that is not its digest. An older content is replaced.
    pub(crate) fn write_named(&self, name: &Digest, content: &[u8]) -> io::Result<()> {
        let mut new = self.begin()?;
        new.write(content)?;
        new.keep(self, name)
    }

    /// Returns a content that was stored under a name, without verification.
    pub(crate) fn read_named(&self, name: &Digest, max_bytes: u64) -> Option<Vec<u8>> {
        let size = std::fs::symlink_metadata(self.path(name)).ok()?.len();
        let file = self.file(name, size).ok().filter(|_| size <= max_bytes)?;
        let mut content = Vec::new();
        file.take(max_bytes).read_to_end(&mut content).ok().map(|_| content)
    }

    /// Records the manifest that describes the objects with an identity.
    pub(crate) fn describe(&self, objects: &Digest, manifest: &Digest) -> io::Result<()> {
        self.write_named(objects, manifest.to_string().as_bytes())
    }

    /// Returns the manifest that describes the objects with an identity.
    pub(crate) fn described(&self, objects: &Digest) -> Option<Vec<u8>> {
        let digest = String::from_utf8(self.read_named(objects, 64)?).ok()?;
        self.read(&Digest::parse(&digest).ok()?, MAX_MANIFEST_BYTES)
    }

    /// Removes the files that were not used for the longest time, until the rest has at most
    /// `max_bytes` bytes. Another process that does the same is left alone.
    pub(crate) fn shrink(&self, max_bytes: u64) -> io::Result<()> {
        let lock = open_directory(&self.dir)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                remove_old(&entry.path());
                continue;
            }
            for file in std::fs::read_dir(entry.path())?.flatten() {
                if let Ok(metadata) = file.metadata() {
                    files.push((
                        metadata.mtime(),
                        metadata.mtime_nsec(),
                        metadata.len(),
                        file.path(),
                    ));
                }
            }
        }
        let mut bytes: u64 = files.iter().map(|(.., size, _)| size).sum();
        files.sort();
        for (.., size, path) in files {
            if bytes <= max_bytes {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                bytes -= size;
            }
        }
        Ok(())
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            // The next temporary directory removes what cannot be removed now.
            let _ = remove_tree(&self.dir);
        }
    }
}

impl NewBlob {
    pub(crate) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.hasher.update(part);
        self.size += part.len() as u64;
        self.file.write_all(part)
    }

    /// Returns the digest and the size of what was written.
    pub(crate) fn identity(&self) -> (Digest, u64) {
        (self.hasher.clone().finish(), self.size)
    }

    /// Gives the file its name in one step. It is not synced to the disk: each reader verifies it.
    pub(crate) fn keep(mut self, blobs: &Blobs, digest: &Digest) -> io::Result<()> {
        let path = blobs.path(digest);
        // Anything else that has the place heals like a damaged file.
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            let _ = remove_tree(&path);
        }
        if let Some(dir) = path.parent() {
            if std::fs::symlink_metadata(dir).is_ok_and(|found| !found.is_dir()) {
                let _ = std::fs::remove_file(dir);
            }
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        if let Some(named) = &self.path {
            std::fs::rename(named, &path)?;
            self.path = None;
            return Ok(());
        }
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let link =
            |name: &Path| rustix::fs::linkat(CWD, &*unnamed, CWD, name, AtFlags::SYMLINK_FOLLOW);
        match link(&path) {
            // The file there is damaged, or another installation has just stored the same.
            Err(Errno::EXIST) => {
                let named = blobs.new_path()?;
                link(&named)?;
                self.path = Some(named.clone());
                std::fs::rename(named, &path)?;
                self.path = None;
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Copies a file, sharing its blocks where the file system can. Returns the digest of the content.
pub(crate) fn copy(from: &mut File, to: &File) -> io::Result<Digest> {
    let is_shared = rustix::fs::ioctl_ficlone(to, &*from).is_ok();
    // What was shared is read from the copy, so that nothing changes it after its verification.
    let mut source: &File = if is_shared { to } else { from };
    let mut target = to;
    source.rewind()?;
    let mut hasher = Hasher::default();
    let mut part = vec![0; PART];
    loop {
        let count = match source.read(&mut part) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&part[..count]);
        if !is_shared {
            target.write_all(&part[..count])?;
        }
    }
}

fn random() -> io::Result<u64> {
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(random))
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Removes a file that a killed process has begun, which took no day.
fn remove_old(path: &Path) {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    if age.is_some_and(|age| age > Duration::from_secs(24 * 60 * 60)) {
        let _ = std::fs::remove_file(path);
    }
}

/// Removes temporary directories of this user that no process has locked.
fn sweep(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let is_temporary = |name: &[u8]| name.starts_with(TEMPORARY.as_bytes());
    for entry in
        entries.flatten().filter(|entry| is_temporary(entry.file_name().as_encoded_bytes()))
    {
        let Ok(dir) = open_directory(&entry.path()) else { continue };
        let is_ours = dir.metadata().is_ok_and(|metadata| metadata.uid() == user);
        if is_ours && rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_tree(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_were_not_used_for_the_longest_time_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let digests = ["a", "b", "c"].map(|content| blobs.insert(content.as_bytes()).unwrap());
        for (age, digest) in [3_000, 1_000, 2_000].into_iter().zip(&digests) {
            let time = SystemTime::now() - Duration::from_secs(age);
            File::open(blobs.path(digest)).unwrap().set_modified(time).unwrap();
        }
        blobs.file(&digests[0], 1).unwrap();
        blobs.shrink(2).unwrap();
        assert_eq!(digests.map(|digest| blobs.has(&digest, 1)), [true, true, false]);
    }

    #[test]
    fn a_damaged_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let digest = blobs.insert(b"content").unwrap();
        assert_eq!(blobs.read(&digest, 7).as_deref(), Some(&b"content"[..]));
        assert_eq!(blobs.read(&digest, 6), None, "the limit is smaller");
        std::fs::write(blobs.path(&digest), "CONTENT").unwrap();
        assert_eq!(blobs.read(&digest, 7), None);
    }

    #[test]
    fn a_temporary_directory_is_removed_also_if_its_process_was_killed() {
        let root = tempfile::tempdir().unwrap();
        let left = root.path().join(format!("{TEMPORARY}left"));
        std::fs::create_dir(&left).unwrap();
        let first = Blobs::temporary(root.path()).unwrap();
        let second = Blobs::temporary(root.path()).unwrap();
        assert!(!left.exists() && first.dir().exists() && second.dir().exists());
        drop((first, second));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
