//! A session directory, opened by descriptor.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{self, Span};
use super::error::FileError;
use super::readable::{self, ReadableDirectory};
use super::remove::remove_tree;
use super::staged::StagedFile;
use crate::path::RelativePath;

/// Maximum number of symlinks that a write follows, like in the kernel (`path_resolution(7)`).
const MAX_SYMLINKS: usize = 40;

/// A session directory, owned by descriptor.
///
/// Every access is relative to the descriptor, and the kernel resolves the path beneath it
/// (`openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`). So no symlink leads out, even if a command
/// creates it during the access. All methods block. A call on a small local file takes
/// microseconds.
#[derive(Debug)]
pub struct SessionDir {
    fd: OwnedFd,
    path: PathBuf,
    span: Span,
}

impl SessionDir {
    /// Opens the directory. Creates it first if it is absent, with its parents, for its owner only
    /// (mode 0700).
    ///
    /// # Errors
    /// Returns [`FileError::UnsafeDirectory`] if `path` is a symlink, a file, or a directory of
    /// another user. Returns [`FileError::Io`] if the system reports an error.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Ok(()) => {}
            // `open` reports a file that exists instead of a directory.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(FileError::io("create", path, error)),
        }
        Self::open(path)
    }

    /// Opens an existing directory. A command may have taken the permissions to list or enter it
    /// from its owner, who then gets them back.
    ///
    /// # Errors
    /// Like [`SessionDir::create`]. The error for an absent directory has the kind
    /// [`NotFound`](super::FileErrorKind::NotFound).
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let unsafe_directory =
            |problem| FileError::UnsafeDirectory { path: path.to_owned(), problem };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |errno| match errno {
            Errno::NOTDIR | Errno::LOOP => unsafe_directory("is a symlink or a file"),
            errno => FileError::io("open", path, errno),
        };
        let opened = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::ACCESS) => rustix::fs::open(path, flags | OFlags::PATH, Mode::empty()),
            other => other,
        };
        let mut fd = opened.map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| FileError::io("inspect", path, errno))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(unsafe_directory("belongs to another user"));
        }
        if stat.st_mode & readable::LIST != readable::LIST {
            readable::set_mode(&fd, stat.st_mode & 0o7777 | 0o700)
                .map_err(|errno| FileError::io("change the mode of", path, errno))?;
            fd = rustix::fs::openat(&fd, ".", flags, Mode::empty()).map_err(failed)?;
        }
        let path =
            std::fs::canonicalize(path).map_err(|error| FileError::io("resolve", path, error))?;
        Ok(Self { fd, path, span: Span::AllMounts })
    }

    /// Wraps the root of a mount that programs in it see at `path`. No other mount below is
    /// entered.
    #[cfg(feature = "native")]
    pub(crate) fn of_mount(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned(), span: Span::OneMount }
    }

    pub(super) fn without_symlinks(self) -> Self {
        Self { span: Span::NoSymlinks, ..self }
    }

    /// Returns whether the directory was removed since it was opened.
    pub fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Returns the canonical path of the directory on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading, even if it denies that to its owner: the mode is changed
    /// for a moment, unless the path contains a symlink.
    ///
    /// # Errors
    /// Returns [`FileError::NotAFile`] for directories, FIFOs, sockets and devices, without waiting
    /// for them. Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] if
    /// the system reports an error.
    pub fn open_file(&self, path: &RelativePath) -> Result<File, FileError> {
        let name = path.as_ref();
        // Without O_NONBLOCK, opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match self.open_beneath(name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                readable::open_file(&self.fd, name, flags).map_err(|_| Errno::ACCESS)
            }
            other => other,
        };
        let fd = opened.map_err(|errno| match errno {
            // A socket cannot be opened at all.
            Errno::NXIO => {
                FileError::NotAFile { path: name.to_owned(), found: "a socket or a device" }
            }
            errno => self.failed("open", name, errno),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| FileError::io("inspect", name, errno))?;
        match file_type_name(stat.st_mode) {
            None => Ok(File::from(fd)),
            Some(found) => Err(FileError::NotAFile { path: name.to_owned(), found }),
        }
    }

    /// Opens a directory inside the session directory, for relative access and listing. Use
    /// [`SessionDir::open_readable_directory`] for one that may deny that to its owner.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] if the path is
    /// absent or not a directory.
    pub fn open_directory(&self, path: &RelativePath) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.open_beneath(path.as_ref(), flags, Mode::empty())
            .map_err(|errno| self.failed("open", path.as_ref(), errno))
    }

    /// Opens a directory inside the session directory, even if it denies access to its owner. No
    /// component may be a symlink. The mode is restored when the value is dropped.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] for a symlink, and [`FileError::Io`] if the path is absent or
    /// not a directory.
    pub fn open_readable_directory(
        &self,
        path: &RelativePath,
    ) -> Result<ReadableDirectory, FileError> {
        ReadableDirectory::open_beneath(&self.fd, path.as_ref())
            .map_err(|errno| FileError::beneath("open", path.as_ref(), errno))
    }

    /// Reads a whole regular file of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Like [`SessionDir::open_file`]. Also returns [`FileError::TooLarge`] for a larger file.
    pub fn read(&self, path: &RelativePath, max_bytes: u64) -> Result<Vec<u8>, FileError> {
        super::read_open(&self.open_file(path)?, path.as_ref(), max_bytes)
    }

    /// Writes a whole file atomically: a reader sees either the old content or the new.
    ///
    /// Creates parent directories, keeps the mode of an existing file, and writes through a symlink
    /// that stays inside.
    ///
    /// # Errors
    /// Like [`SessionDir::stage`] and [`StagedFile::commit`].
    pub fn write(&self, path: &RelativePath, content: &[u8]) -> Result<(), FileError> {
        let mut staged = self.stage(path)?;
        staged.write_all(content).map_err(|error| FileError::io("write", path.as_ref(), error))?;
        staged.commit().map(|_| ())
    }

    /// Starts to write a file. Creates parent directories.
    ///
    /// The content goes to an unnamed file in the same directory. [`StagedFile::commit`] gives it
    /// the name of the target.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink on the path, or at its end, leads out. Returns
    /// [`FileError::NotAFile`] if the target exists and is not a regular file, and
    /// [`FileError::Io`] if the system reports an error.
    pub fn stage(&self, path: &RelativePath) -> Result<StagedFile, FileError> {
        let asked = path.as_ref();
        let mut target = path.clone();
        for _ in 0..MAX_SYMLINKS {
            let parent = self.create_parents(&target)?;
            let name = target.file_name();
            let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return StagedFile::begin(parent, name, asked, None),
                Err(errno) => return Err(FileError::io("inspect", asked, errno)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                target = self.follow(&parent, &target, asked)?;
                continue;
            }
            return match file_type_name(stat.st_mode) {
                None => StagedFile::begin(
                    parent,
                    name,
                    asked,
                    Some(Mode::from_raw_mode(stat.st_mode & 0o777)),
                ),
                Some(found) => Err(FileError::NotAFile { path: asked.to_owned(), found }),
            };
        }
        Err(FileError::SymlinkLoop { path: asked.to_owned() })
    }

    /// Removes a file or a symlink. Returns `false` if the path is absent.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] for a directory
    /// or if the system reports an error.
    pub fn remove(&self, path: &RelativePath) -> Result<bool, FileError> {
        let name = path.as_ref();
        let parent = match path.parent() {
            Some(parent) => {
                match self.open_beneath(
                    parent.as_ref(),
                    OFlags::PATH | OFlags::DIRECTORY,
                    Mode::empty(),
                ) {
                    Ok(fd) => Some(fd),
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
                    Err(errno) => return Err(self.failed("remove", name, errno)),
                }
            }
            None => None,
        };
        let dir = parent.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
        match rustix::fs::unlinkat(dir, path.file_name(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(FileError::io("remove", name, errno)),
        }
    }

    /// Deletes the whole directory without following symlinks, including parts that deny access to
    /// their owner. Mount points below are not entered.
    ///
    /// # Errors
    /// Returns [`FileError::MountPoints`] if mount points were kept; everything else is deleted.
    /// Returns [`FileError::Immutable`] or [`FileError::Io`] if a file cannot be deleted. The other
    /// files may be deleted already.
    pub fn remove_all(self) -> Result<(), FileError> {
        let removed = remove_tree(&self.path);
        let kept = removed.map_err(|error| error.into_file_error(&self.path))?;
        FileError::check_mount_points(&self.path, kept)
    }

    /// Returns the error of [`SessionDir::open_beneath`].
    pub(super) fn failed(&self, operation: &'static str, path: &Path, errno: Errno) -> FileError {
        match errno {
            Errno::LOOP if self.span != Span::NoSymlinks => {
                FileError::SymlinkLoop { path: path.to_owned() }
            }
            errno => FileError::beneath(operation, path, errno),
        }
    }

    pub(super) fn open_beneath(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> rustix::io::Result<OwnedFd> {
        match self.span {
            Span::AllMounts => beneath::open(&self.fd, path, flags, mode),
            Span::NoSymlinks => beneath::open_without_symlinks(&self.fd, path, flags, mode),
            #[cfg(feature = "native")]
            Span::OneMount => beneath::open_in_mount(&self.fd, path, flags, mode),
        }
    }

    /// Opens the directory that contains `path`. Creates missing directories.
    pub(super) fn create_parents(&self, path: &RelativePath) -> Result<OwnedFd, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let Some(parent) = path.parent() else {
            return self
                .open_beneath(Path::new("."), flags, Mode::empty())
                .map_err(|errno| FileError::io("open", path.as_ref(), errno));
        };
        match self.open_beneath(parent.as_ref(), flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let above = self.create_parents(&parent)?;
                match rustix::fs::mkdirat(&above, parent.file_name(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(FileError::io("create", parent.as_ref(), errno)),
                }
                self.open_beneath(parent.as_ref(), flags, Mode::empty())
            }
            other => other,
        }
        .map_err(|errno| self.failed("open", parent.as_ref(), errno))
    }

    /// Returns the target of the symlink `link` in `parent`, resolved as text.
    ///
    /// Every component is then opened beneath the session directory. So a forged target leads to
    /// another path inside at most.
    fn follow(
        &self,
        parent: &OwnedFd,
        link: &RelativePath,
        asked: &Path,
    ) -> Result<RelativePath, FileError> {
        let escapes = || FileError::Escapes { path: asked.to_owned() };
        let target = rustix::fs::readlinkat(parent, link.file_name(), Vec::new())
            .map_err(|errno| FileError::io("resolve", asked, errno))?;
        let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
        let mut components: Vec<&str> = match link.parent() {
            Some(_) if !target.is_absolute() => {
                link.as_str().rsplit_once('/').map_or(vec![], |(p, _)| p.split('/').collect())
            }
            _ => Vec::new(),
        };
        let rest = if target.is_absolute() {
            target.strip_prefix(&self.path).map_err(|_| escapes())?
        } else {
            target
        };
        for component in rest.to_str().ok_or_else(escapes)?.split('/') {
            match component {
                "" | "." => {}
                ".." => {
                    components.pop().ok_or_else(escapes)?;
                }
                name => components.push(name),
            }
        }
        RelativePath::parse(&components.join("/")).map_err(|_| FileError::NotAFile {
            path: asked.to_owned(),
            found: "a symlink to the session directory itself",
        })
    }
}

impl AsFd for SessionDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the name of a file type, or `None` for a regular file.
fn file_type_name(mode: rustix::fs::RawMode) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symlink"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("of an unknown kind"),
    }
}
