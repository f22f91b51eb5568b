//! Entries of a session directory: inspecting, listing, renaming, linking and removing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::directory::SessionDir;
use super::error::FileError;
use super::readable::ReadableDirectory;
use super::remove::{by_descriptor, remove_tree};
use crate::path::RelativePath;

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A FIFO, a socket or a device.
    Other,
}

/// Properties of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub struct FileStat {
    /// The type.
    pub kind: FileKind,
    /// The size in bytes. That of a directory has no meaning.
    pub size: u64,
    /// The nine permission bits.
    pub mode: u16,
    /// The time of the last change of the content; 1970 at the earliest.
    pub modified: SystemTime,
}

impl FileStat {
    /// Creates the properties of an entry, for example for a fake in a test.
    pub fn new(kind: FileKind, size: u64, mode: u16, modified: SystemTime) -> Self {
        Self { kind, size, mode, modified }
    }

    fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        };
        let since = u64::try_from(stat.st_mtime)
            .map(|seconds| Duration::from_secs(seconds) + Duration::from_nanos(stat.st_mtime_nsec));
        let modified = SystemTime::UNIX_EPOCH.checked_add(since.unwrap_or_default());
        let mode = u16::try_from(stat.st_mode & 0o777).unwrap_or(0);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Self { kind, size, mode, modified: modified.unwrap_or(SystemTime::UNIX_EPOCH) }
    }
}

/// An entry that was found beneath a session directory, with every symlink followed.
#[derive(Debug)]
pub struct FoundEntry {
    fd: OwnedFd,
    asked: PathBuf,
}

impl FoundEntry {
    /// Returns the current path, with every symlink resolved.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the kernel denies the query or `/proc` is not mounted.
    pub fn real_path(&self) -> Result<PathBuf, FileError> {
        super::real_path(&self.fd, &self.asked)
    }

    /// Returns the properties of the entry.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn stat(&self) -> Result<FileStat, FileError> {
        let stat = rustix::fs::fstat(&self.fd);
        stat.map(|stat| FileStat::of(&stat)).map_err(|errno| self.failed("inspect", errno))
    }

    /// Returns the names in a directory, sorted, even if it denies listing to its owner. Also
    /// returns the number of further names, which are not UTF-8.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the entry is not a directory or cannot be listed.
    pub fn names(&self) -> Result<(Vec<String>, usize), FileError> {
        let dir = ReadableDirectory::open_beneath(&self.fd, Path::new(""))
            .map_err(|errno| self.failed("list", errno))?;
        let failed = |error: io::Error| FileError::io("list", &self.asked, error);
        let (mut names, mut others) = (Vec::new(), 0);
        for entry in std::fs::read_dir(by_descriptor(&dir)).map_err(failed)? {
            match entry.map_err(failed)?.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(_) => others += 1,
            }
        }
        names.sort_unstable();
        Ok((names, others))
    }

    /// Returns the properties of an entry of this directory; `None` if it is gone. A symlink is
    /// not followed.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn stat_entry(&self, name: &str) -> Result<Option<FileStat>, FileError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileStat::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("inspect", errno)),
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> FileError {
        FileError::io(operation, &self.asked, errno)
    }
}

/// A name in a directory that was found beneath a session directory. The directory stays the same
/// one, whatever is renamed meanwhile.
#[derive(Debug)]
pub struct EntryPlace {
    parent: OwnedFd,
    name: String,
    asked: PathBuf,
}

impl EntryPlace {
    /// Returns the path of the entry. Symlinks of the directory are resolved, and the entry itself
    /// is not.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the kernel denies the query or `/proc` is not mounted.
    pub fn real_path(&self) -> Result<PathBuf, FileError> {
        super::real_path(&self.parent, &self.asked).map(|parent| parent.join(&self.name))
    }

    /// Returns the properties of the entry; `None` if it is absent. A symlink is not followed.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error.
    pub fn stat(&self) -> Result<Option<FileStat>, FileError> {
        match rustix::fs::statat(&self.parent, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileStat::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("inspect", errno)),
        }
    }

    /// Returns the target of a symlink, as its text.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the entry is no symlink.
    pub fn link_target(&self) -> Result<PathBuf, FileError> {
        let target = rustix::fs::readlinkat(&self.parent, &*self.name, Vec::new());
        let target = target.map_err(|errno| self.failed("resolve", errno))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Moves the entry in one step. Replaces a file, a symlink or an empty directory at `to`, as
    /// `rename(2)` does.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system reports an error, such as for a full directory.
    pub fn rename_to(&self, to: &Self) -> Result<(), FileError> {
        rustix::fs::renameat(&self.parent, &*self.name, &to.parent, &*to.name)
            .map_err(|errno| self.failed("rename", errno))
    }

    /// Removes a file, a symlink or another entry that is not a directory.
    ///
    /// # Errors
    /// Returns [`FileError::NotAFile`] for a directory, and [`FileError::Io`] if the entry is
    /// absent or the system reports an error.
    pub fn remove_file(&self) -> Result<(), FileError> {
        rustix::fs::unlinkat(&self.parent, &*self.name, AtFlags::empty()).map_err(|errno| {
            match errno {
                Errno::ISDIR => {
                    FileError::NotAFile { path: self.asked.clone(), found: "a directory" }
                }
                errno => self.failed("remove", errno),
            }
        })
    }

    /// Removes the entry with everything below it. Symlinks are not followed, and mount points are
    /// not entered.
    ///
    /// # Errors
    /// Like [`SessionDir::remove_tree`], and [`FileError::Io`] if the entry is absent.
    pub fn remove_tree(&self) -> Result<(), FileError> {
        if self.stat()?.is_none() {
            return Err(self.failed("remove", Errno::NOENT));
        }
        let kept = remove_tree(&by_descriptor(&self.parent).join(&self.name))
            .map_err(|error| error.into_file_error(&self.asked))?;
        FileError::check_mount_points(&self.asked, kept)
    }

    /// Creates a directory. Returns `false` if it exists, also through a symlink.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if another file has the name, or the system reports an error.
    pub fn create_directory(&self, mode: u16) -> Result<bool, FileError> {
        let mode = Mode::from_raw_mode(u32::from(mode) & 0o777);
        match rustix::fs::mkdirat(&self.parent, &*self.name, mode) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&self.parent, &*self.name, AtFlags::empty());
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                match kind {
                    Ok(FileType::Directory) => Ok(false),
                    _ => Err(self.failed("create", Errno::EXIST)),
                }
            }
            Err(errno) => Err(self.failed("create", errno)),
        }
    }

    /// Creates a symlink with this text as its target. Replaces another file or symlink.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if a directory has the name, or the system reports an error.
    pub fn create_symlink(&self, target: &str) -> Result<(), FileError> {
        self.make_room()?;
        rustix::fs::symlinkat(target, &self.parent, &*self.name)
            .map_err(|errno| self.failed("create", errno))
    }

    /// Creates a further name of the file `of`. Replaces another file or symlink.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if `of` is absent or a directory, or the system reports an error.
    pub fn create_hard_link(&self, of: &Self) -> Result<(), FileError> {
        self.make_room()?;
        rustix::fs::linkat(&of.parent, &*of.name, &self.parent, &*self.name, AtFlags::empty())
            .map_err(|errno| self.failed("link", errno))
    }

    fn make_room(&self) -> Result<(), FileError> {
        match self.remove_file() {
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> FileError {
        FileError::io(operation, &self.asked, errno)
    }
}

impl SessionDir {
    /// Finds an entry, or the session directory itself. Follows symlinks that stay inside. Reads
    /// nothing, so the permissions of the entry do not matter.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] if the entry is
    /// absent or the system reports an error.
    pub fn find(&self, path: Option<&RelativePath>) -> Result<FoundEntry, FileError> {
        let asked = path.map_or(Path::new("."), AsRef::as_ref);
        let fd = self
            .open_beneath(asked, OFlags::PATH, Mode::empty())
            .map_err(|errno| self.failed("find", asked, errno))?;
        Ok(FoundEntry { fd, asked: asked.to_owned() })
    }

    /// Finds the place of an entry in an existing directory. The entry itself may be absent, and is
    /// not followed.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] if the
    /// directory is absent or the system reports an error.
    pub fn place(&self, path: &RelativePath) -> Result<EntryPlace, FileError> {
        let parent = path.parent();
        let dir = parent.as_ref().map_or(Path::new("."), AsRef::as_ref);
        let parent = self
            .open_beneath(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| self.failed("find", path.as_ref(), errno))?;
        let (name, asked) = (path.file_name().to_owned(), PathBuf::from(path.as_str()));
        Ok(EntryPlace { parent, name, asked })
    }

    /// Like [`SessionDir::place`], and creates missing directories.
    ///
    /// # Errors
    /// Like [`SessionDir::place`].
    pub fn place_with_parents(&self, path: &RelativePath) -> Result<EntryPlace, FileError> {
        let parent = self.create_parents(path)?;
        let (name, asked) = (path.file_name().to_owned(), PathBuf::from(path.as_str()));
        Ok(EntryPlace { parent, name, asked })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::FileErrorKind;

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text).unwrap()
    }

    fn fixture() -> (tempfile::TempDir, SessionDir) {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionDir::create(&dir.path().join("s")).unwrap();
        std::fs::create_dir(session.path().join("d")).unwrap();
        std::fs::write(session.path().join("d/f"), "four").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("d/f", session.path().join("inside")).unwrap();
        symlink("../secret", session.path().join("outside")).unwrap();
        symlink("..", session.path().join("up")).unwrap();
        (dir, session)
    }

    #[test]
    fn entries_are_found_and_listed_and_no_symlink_leads_out() {
        let (_dir, session) = fixture();
        let found = session.find(Some(&path("inside"))).unwrap();
        assert_eq!(found.real_path().unwrap(), session.path().join("d/f"));
        let stat = found.stat().unwrap();
        assert_eq!((stat.kind, stat.size), (FileKind::File, 4));
        let root = session.find(None).unwrap();
        assert_eq!(
            root.names().unwrap(),
            (["d", "inside", "outside", "up"].map(str::to_owned).to_vec(), 0)
        );
        assert_eq!(root.stat_entry("up").unwrap().unwrap().kind, FileKind::Symlink);
        assert_eq!(root.stat_entry("gone").unwrap(), None);
        for outward in ["outside", "up", "up/secret"] {
            let error = session.find(Some(&path(outward))).unwrap_err();
            assert_eq!(error.kind(), FileErrorKind::Escapes, "{outward}");
        }
        assert_eq!(session.place(&path("up/x")).unwrap_err().kind(), FileErrorKind::Escapes);
        let missing = session.find(Some(&path("d/none"))).unwrap_err();
        assert_eq!(missing.kind(), FileErrorKind::NotFound);
    }

    #[test]
    fn entries_are_moved_linked_and_removed_by_name() {
        let (dir, session) = fixture();
        let place = |text: &str| session.place(&path(text)).unwrap();
        place("d/f").rename_to(&session.place_with_parents(&path("new/deep/f")).unwrap()).unwrap();
        assert!(place("d/f").stat().unwrap().is_none());
        place("again").create_hard_link(&place("new/deep/f")).unwrap();
        place("again").create_symlink("new").unwrap();
        assert_eq!(place("again").link_target().unwrap(), Path::new("new"));
        assert!(!place("again").create_directory(0o755).unwrap(), "it leads to a directory");
        assert!(place("outside").create_directory(0o755).is_err());
        place("outside").remove_file().unwrap();
        assert!(dir.path().join("secret").exists(), "the symlink is removed, not its target");
        let error = place("new").remove_file().unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::NotAFile);
        place("new").remove_tree().unwrap();
        assert_eq!(place("new").remove_tree().unwrap_err().kind(), FileErrorKind::NotFound);
        assert_eq!(session.find(None).unwrap().names().unwrap().0, ["again", "d", "inside", "up"]);
    }
}
