//! Replacement and removal of files that another process may be writing.
//!
//! The new object gets a temporary name and is exchanged with the old one in one step. The old one
//! is inspected only then, when nothing can open it by its name any more. If it is not what the
//! caller expected, it is kept under another name.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::directory::SessionDir;
use super::error::FileError;
use super::readable::{WriteAccess, set_mode};
use super::staged::{StagedFile, staged_name};
use crate::path::RelativePath;

/// Number of attempts while another process creates and removes the path.
const ATTEMPTS: usize = 16;

/// Outcome of a replacement or removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The path was absent.
    Nothing,
    /// The expected object was deleted.
    Expected,
    /// Another object was found, and has this name now: the one that the caller gave, or one with
    /// a number if that was taken.
    Preserved(String),
}

/// Object that had the name. It is deleted if it is the expected one.
#[derive(Debug)]
pub struct Found<'f> {
    parent: &'f OwnedFd,
    name: &'f str,
    metadata: Metadata,
}

impl Found<'_> {
    /// Metadata of the object itself, also of a symlink.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Opens the object for reading, unless it is a symlink.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self.parent, self.name, flags, Mode::empty())?.into())
    }
}

impl SessionDir {
    /// Starts to write a file like [`SessionDir::stage`], but follows no symlink: the new file
    /// replaces whatever has the path.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error, also if a parent is not a
    /// directory.
    pub fn stage_exact(&self, path: &RelativePath) -> Result<StagedFile, FileError> {
        let parent = self.create_plain_parent(path)?;
        let _access = WriteAccess::to(&parent);
        StagedFile::begin(parent, path.file_name(), path.as_ref(), None)
    }

    /// Creates a symlink. Like [`StagedFile::exchange`], it replaces whatever has the path, except
    /// a symlink with the same target.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn exchange_symlink(
        &self,
        path: &RelativePath,
        target: &str,
        is_expected: impl Fn(&Found<'_>) -> bool,
        keep_as: &str,
    ) -> Result<Replaced, FileError> {
        let parent = self.create_plain_parent(path)?;
        let _access = WriteAccess::to(&parent);
        let present = rustix::fs::readlinkat(&parent, path.file_name(), Vec::new());
        if present.is_ok_and(|present| present.as_bytes() == target.as_bytes()) {
            return Ok(Replaced::Nothing);
        }
        let error = |errno: io::Error| FileError::io("create", path.as_ref(), errno);
        let staged = staged_name();
        rustix::fs::symlinkat(target, &parent, &*staged).map_err(|errno| error(errno.into()))?;
        swap(&parent, &staged, path.file_name(), is_expected, keep_as).map_err(|source| {
            let _ = rustix::fs::unlinkat(&parent, &*staged, AtFlags::empty());
            error(source)
        })
    }

    /// Removes a file or a symlink if it is the expected one. A directory, or another file, gets
    /// the name `keep_as` in the same directory.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn remove_expected(
        &self,
        path: &RelativePath,
        is_expected: impl Fn(&Found<'_>) -> bool,
        keep_as: &str,
    ) -> Result<Replaced, FileError> {
        let error = |source: io::Error| FileError::io("remove", path.as_ref(), source);
        let parent = match self.plain_parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Replaced::Nothing),
            Err(errno) => return Err(FileError::in_mount("remove", path.as_ref(), errno)),
        };
        let _access = WriteAccess::to(&parent);
        if !is_expected_at(&parent, path.file_name(), &is_expected) {
            // A process that is killed meanwhile must not leave it under a temporary name.
            return match set_aside(&parent, path.file_name(), keep_as) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Replaced::Nothing),
                other => other.map_err(error),
            };
        }
        let staged = staged_name();
        match rustix::fs::renameat(&parent, path.file_name(), &parent, &*staged) {
            Ok(()) => dispose(&parent, &staged, is_expected, keep_as).map_err(error),
            Err(Errno::NOENT) => Ok(Replaced::Nothing),
            Err(errno) => Err(error(errno.into())),
        }
    }

    /// Removes what has the path like [`SessionDir::remove_expected`], unless it is a directory.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn remove_obstacle(
        &self,
        path: &RelativePath,
        is_expected: impl Fn(&Found<'_>) -> bool,
        keep_as: &str,
    ) -> Result<Replaced, FileError> {
        let found = self.plain_parent(path).and_then(|parent| {
            let _access = WriteAccess::to(&parent);
            rustix::fs::statat(&parent, path.file_name(), AtFlags::SYMLINK_NOFOLLOW)
        });
        match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
            Err(Errno::NOENT) | Ok(FileType::Directory) => Ok(Replaced::Nothing),
            Ok(_) => self.remove_expected(path, is_expected, keep_as),
            Err(errno) => Err(FileError::in_mount("inspect", path.as_ref(), errno)),
        }
    }

    /// Creates a directory with its parents, and sets its nine permission bits.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error, also if the path or a parent is a
    /// file or a symlink.
    pub fn make_directory(&self, path: &RelativePath, mode: u16) -> Result<(), FileError> {
        let error = |errno| FileError::io("create", path.as_ref(), errno);
        let parent = self.create_plain_parent(path)?;
        let _access = WriteAccess::to(&parent);
        match rustix::fs::mkdirat(&parent, path.file_name(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(error(errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&parent, path.file_name(), flags, Mode::empty());
        dir.and_then(|dir| set_mode(&dir, u32::from(mode) & 0o777)).map_err(error)
    }

    /// Removes a directory if it is empty. Returns whether no directory has the path now.
    pub fn remove_empty_directory(&self, path: &RelativePath) -> bool {
        let parent = match self.plain_parent(path) {
            Ok(parent) => parent,
            Err(errno) => return matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP),
        };
        let _access = WriteAccess::to(&parent);
        let removed = rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::REMOVEDIR);
        matches!(removed, Ok(()) | Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// Opens the directory that contains `path`, without following symlinks. Creates missing
    /// directories.
    fn create_plain_parent(&self, path: &RelativePath) -> Result<OwnedFd, FileError> {
        match self.plain_parent(path) {
            Err(Errno::NOENT) => {}
            other => {
                return other.map_err(|errno| FileError::in_mount("open", path.as_ref(), errno));
            }
        }
        if let Some(parent) = path.parent() {
            let above = self.create_plain_parent(&parent)?;
            let _access = WriteAccess::to(&above);
            match rustix::fs::mkdirat(&above, parent.file_name(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(FileError::io("create", parent.as_ref(), errno)),
            }
        }
        self.plain_parent(path).map_err(|errno| FileError::in_mount("open", path.as_ref(), errno))
    }
}

impl StagedFile {
    /// Gives the content its name. If another object than the expected one has the name, that
    /// object gets the name `keep_as` in the same directory. Returns the metadata of the new file.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn exchange(
        mut self,
        is_expected: impl Fn(&Found<'_>) -> bool,
        keep_as: &str,
    ) -> Result<(Metadata, Replaced), FileError> {
        let replaced = self
            .with_temporary_name(|parent, staged, name| {
                swap(parent, staged, name, is_expected, keep_as)
            })
            .map_err(|source| self.error("write", source))?;
        let metadata = self.metadata().map_err(|source| self.error("inspect", source))?;
        Ok((metadata, replaced))
    }
}

/// Exchanges the object under a temporary name with the one under a final name, and disposes of
/// the latter.
fn swap(
    parent: &OwnedFd,
    staged: &str,
    name: &str,
    is_expected: impl Fn(&Found<'_>) -> bool,
    keep_as: &str,
) -> io::Result<Replaced> {
    let rename = |flags| rustix::fs::renameat_with(parent, staged, parent, name, flags);
    for _ in 0..ATTEMPTS {
        match rename(RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Replaced::Nothing),
            Err(Errno::EXIST) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                return swap_in_two_steps(parent, staged, name, is_expected, keep_as);
            }
            Err(errno) => return Err(errno.into()),
        }
        if !is_expected_at(parent, name, &is_expected) {
            return swap_with_unexpected(parent, staged, name, keep_as);
        }
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) => return dispose(parent, staged, is_expected, keep_as),
            Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                return swap_in_two_steps(parent, staged, name, is_expected, keep_as);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

/// Exchanges a staged object with one that is kept. The latter gets its new name in one step, so
/// that a process that is killed leaves it under a name that is seen.
fn swap_with_unexpected(
    parent: &OwnedFd,
    staged: &str,
    name: &str,
    keep_as: &str,
) -> io::Result<Replaced> {
    let keep_as = rename_to_free(parent, staged, keep_as)?;
    let flags = RenameFlags::EXCHANGE;
    match rustix::fs::renameat_with(parent, &*keep_as, parent, name, flags) {
        Ok(()) => Ok(kept(parent, keep_as)),
        // It has gone meanwhile.
        Err(Errno::NOENT) => {
            rustix::fs::renameat(parent, &*keep_as, parent, name)?;
            Ok(Replaced::Nothing)
        }
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::renameat(parent, &*keep_as, parent, staged)?;
            let replaced = set_aside(parent, name, &keep_as)?;
            rustix::fs::renameat(parent, staged, parent, name)?;
            Ok(replaced)
        }
        Err(errno) => {
            rustix::fs::renameat(parent, &*keep_as, parent, staged)?;
            Err(errno.into())
        }
    }
}

/// Gives an object a name under which it is kept. An empty directory is removed.
fn set_aside(parent: &OwnedFd, name: &str, keep_as: &str) -> io::Result<Replaced> {
    if rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(Replaced::Expected);
    }
    rename_to_free(parent, name, keep_as).map(Replaced::Preserved)
}

/// Describes an object that is kept, unless it is an empty directory, which is removed.
fn kept(parent: &OwnedFd, name: String) -> Replaced {
    match rustix::fs::unlinkat(parent, &*name, AtFlags::REMOVEDIR) {
        Ok(()) => Replaced::Expected,
        Err(_) => Replaced::Preserved(name),
    }
}

fn is_expected_at(parent: &OwnedFd, name: &str, is_expected: &impl Fn(&Found<'_>) -> bool) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let metadata = rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|found| File::from(found).metadata());
    metadata.is_ok_and(|metadata| is_expected(&Found { parent, name, metadata }))
}

/// Renames an object to a name, or to one with a number if that is taken. An object that has the
/// name is an earlier copy of the same content, or the agent's.
fn rename_to_free(parent: &OwnedFd, from: &str, to: &str) -> io::Result<String> {
    let mut name = to.to_owned();
    for attempt in 2..100 {
        match rustix::fs::renameat_with(parent, from, parent, &*name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => name = format!("{to}-{attempt}"),
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::renameat(parent, from, parent, &*name)?;
                return Ok(name);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Swaps on a file system without `RENAME_EXCHANGE` (`renameat2(2)`). The path is absent for a
/// moment.
fn swap_in_two_steps(
    parent: &OwnedFd,
    staged: &str,
    name: &str,
    is_expected: impl Fn(&Found<'_>) -> bool,
    keep_as: &str,
) -> io::Result<Replaced> {
    let aside = staged_name();
    let replaced = match rustix::fs::renameat(parent, name, parent, &*aside) {
        Ok(()) => dispose(parent, &aside, is_expected, keep_as)?,
        Err(Errno::NOENT) => Replaced::Nothing,
        Err(errno) => return Err(errno.into()),
    };
    rustix::fs::renameat(parent, staged, parent, name)?;
    Ok(replaced)
}

/// Deletes the object under a temporary name if it is the expected one. Otherwise renames it.
fn dispose(
    parent: &OwnedFd,
    staged: &str,
    is_expected: impl Fn(&Found<'_>) -> bool,
    keep_as: &str,
) -> io::Result<Replaced> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let metadata = File::from(rustix::fs::openat(parent, staged, flags, Mode::empty())?);
    let metadata = metadata.metadata()?;
    let kind = FileType::from_raw_mode(std::os::unix::fs::MetadataExt::mode(&metadata));
    if kind == FileType::Directory {
        if rustix::fs::unlinkat(parent, staged, AtFlags::REMOVEDIR).is_ok() {
            return Ok(Replaced::Expected);
        }
    } else if is_expected(&Found { parent, name: staged, metadata }) {
        rustix::fs::unlinkat(parent, staged, AtFlags::empty())?;
        return Ok(Replaced::Expected);
    }
    rename_to_free(parent, staged, keep_as).map(Replaced::Preserved)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    fn directory() -> (tempfile::TempDir, SessionDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = SessionDir::create(&root.path().join("s")).unwrap();
        (root, dir)
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text).unwrap()
    }

    fn names(dir: &SessionDir) -> Vec<String> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn kept(name: &str) -> Replaced {
        Replaced::Preserved(name.to_owned())
    }

    fn exchange(dir: &SessionDir, expected: Option<u64>) -> Replaced {
        let mut staged = dir.stage_exact(&path("f")).unwrap();
        staged.write_all(b"new").unwrap();
        staged.exchange(|found| Some(found.metadata().ino()) == expected, "kept").unwrap().1
    }

    #[test]
    fn an_expected_file_is_replaced_and_another_one_is_kept() {
        let (_root, dir) = directory();
        assert_eq!(exchange(&dir, None), Replaced::Nothing);
        let inode = std::fs::metadata(dir.path().join("f")).unwrap().ino();
        assert_eq!(exchange(&dir, Some(inode)), Replaced::Expected);
        assert_eq!(names(&dir), ["f"]);
        std::fs::write(dir.path().join("f"), "agent").unwrap();
        assert_eq!(exchange(&dir, None), kept("kept"));
        assert_eq!(std::fs::read(dir.path().join("kept")).unwrap(), b"agent");
        assert_eq!(exchange(&dir, None), kept("kept-2"));
        assert_eq!(names(&dir), ["f", "kept", "kept-2"]);
    }

    #[test]
    fn what_is_kept_never_has_a_temporary_name() {
        let (_root, dir) = directory();
        let file = dir.path().join("f");
        std::fs::write(&file, "agent").unwrap();
        let inode = std::fs::metadata(&file).unwrap().ino();
        let is_in_place = |found: &Found<'_>| {
            assert_eq!(found.metadata().ino(), inode);
            assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode, "{:?}", names(&dir));
            false
        };
        let staged = dir.stage_exact(&path("f")).unwrap();
        assert_eq!(staged.exchange(is_in_place, "kept").unwrap().1, kept("kept"));
        std::fs::rename(dir.path().join("kept"), &file).unwrap();
        assert_eq!(
            dir.exchange_symlink(&path("f"), "x", is_in_place, "kept").unwrap(),
            kept("kept")
        );
        std::fs::rename(dir.path().join("kept"), &file).unwrap();
        assert_eq!(dir.remove_expected(&path("f"), is_in_place, "kept").unwrap(), kept("kept"));
        assert_eq!(names(&dir), ["kept"]);
    }

    #[test]
    fn a_directory_in_the_way_is_removed_only_if_it_is_empty() {
        let (_root, dir) = directory();
        std::fs::create_dir(dir.path().join("f")).unwrap();
        assert_eq!(exchange(&dir, None), Replaced::Expected);
        std::fs::remove_file(dir.path().join("f")).unwrap();
        std::fs::create_dir(dir.path().join("f")).unwrap();
        std::fs::write(dir.path().join("f/x"), "agent").unwrap();
        assert_eq!(exchange(&dir, None), kept("kept"));
        assert_eq!(std::fs::read(dir.path().join("kept/x")).unwrap(), b"agent");
    }

    #[test]
    fn a_symlink_is_replaced_and_not_followed() {
        let (root, dir) = directory();
        std::fs::write(root.path().join("outside"), "safe").unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("f")).unwrap();
        exchange(&dir, None);
        assert_eq!(std::fs::read(root.path().join("outside")).unwrap(), b"safe");
        let replaced = dir.exchange_symlink(&path("f"), "x", |_| true, "kept-3").unwrap();
        assert_eq!(replaced, Replaced::Expected);
        assert_eq!(std::fs::read_link(dir.path().join("f")).unwrap(), Path::new("x"));
    }

    #[test]
    fn removal_keeps_what_was_not_expected() {
        let (_root, dir) = directory();
        let remove =
            |is_expected: bool| dir.remove_expected(&path("d/f"), |_| is_expected, "kept").unwrap();
        assert_eq!(remove(true), Replaced::Nothing);
        dir.make_directory(&path("d"), 0o750).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("d")).unwrap().mode() & 0o7777, 0o750);
        std::fs::write(dir.path().join("d/f"), "agent").unwrap();
        assert_eq!(remove(false), kept("kept"));
        assert!(!dir.remove_empty_directory(&path("d")));
        std::fs::rename(dir.path().join("d/kept"), dir.path().join("d/f")).unwrap();
        assert_eq!(remove(true), Replaced::Expected);
        assert!(dir.remove_empty_directory(&path("d")));
    }

    #[test]
    fn a_parent_that_is_a_symlink_is_not_entered() {
        let (root, dir) = directory();
        std::fs::create_dir(root.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("d")).unwrap();
        dir.stage_exact(&path("d/f")).unwrap_err();
        dir.make_directory(&path("d/e"), 0o755).unwrap_err();
        assert_eq!(dir.remove_expected(&path("d/f"), |_| true, "k").unwrap(), Replaced::Nothing);
        assert_eq!(std::fs::read_dir(root.path().join("outside")).unwrap().count(), 0);
    }
}
