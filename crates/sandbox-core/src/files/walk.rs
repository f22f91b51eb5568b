//! Walks over the files beneath a directory, in the order of their paths.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::directory::SessionDir;
use super::error::FileError;
use super::readable::ReadableDirectory;
use super::real_path;
use crate::path::RelativePath;

/// The maximum number of directories between the start of a walk and a file.
const MAX_DEPTH: usize = 100;

/// A directory beneath a [`SessionDir`], opened for a walk.
#[derive(Debug)]
pub struct Subtree {
    dir: ReadableDirectory,
    path: PathBuf,
}

/// An entry that a walk visits.
#[derive(Clone, Copy, Debug)]
pub struct WalkEntry<'w> {
    /// The path below the start of the walk.
    pub path: &'w str,
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change of the content.
    pub modified: SystemTime,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink, which is not followed.
    Symlink,
    /// A FIFO, a socket or a device.
    Other,
}

/// The continuation of a walk after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Visit the entries of the directory next.
    Enter,
    /// Leave the entries of the directory out.
    Pass,
    /// End the walk.
    Stop,
}

impl SessionDir {
    /// Opens a directory for a walk; `None` is the session directory itself. A symlink may lead to
    /// the directory if it leads to one inside.
    ///
    /// # Errors
    /// Returns [`FileError::Escapes`] if a symlink leads out, and [`FileError::Io`] if the path is
    /// absent or not a directory.
    pub fn subtree(&self, path: Option<&RelativePath>) -> Result<Subtree, FileError> {
        let asked = path.map_or(Path::new("."), |path| path.as_ref());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match self.open_beneath(asked, flags, Mode::empty()) {
            Ok(dir) => ReadableDirectory::open_beneath(&dir, Path::new("")),
            Err(Errno::ACCESS) => {
                ReadableDirectory::open_beneath(self, path.map_or(Path::new(""), |_| asked))
            }
            Err(errno) => return Err(self.failed("open", asked, errno)),
        };
        let dir = dir.map_err(|errno| FileError::beneath("open", asked, errno))?;
        let path = real_path(&dir, asked)?;
        Ok(Subtree { dir, path })
    }
}

impl Subtree {
    /// Returns the path of the directory, with every symlink resolved.
    pub fn real_path(&self) -> &Path {
        &self.path
    }

    /// Visits the entries below the directory, each directory before its entries, and the entries
    /// of one directory in the order of the bytes of their names.
    ///
    /// No symlink is followed, no mount point entered, and 100 levels are visited at most. Names
    /// that are not UTF-8 and directories that cannot be read are left out.
    pub fn walk(&self, mut visit: impl FnMut(WalkEntry<'_>) -> Walk) {
        let _ = walk(&self.dir, &mut String::new(), MAX_DEPTH, &mut visit);
    }
}

fn walk(
    dir: &ReadableDirectory,
    path: &mut String,
    depth: usize,
    visit: &mut dyn FnMut(WalkEntry<'_>) -> Walk,
) -> ControlFlow<()> {
    let length = path.len();
    for name in names(dir) {
        let Some(text) = name.to_str().ok().filter(|_| depth > 0) else { continue };
        let Ok(stat) = rustix::fs::statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        path.truncate(length);
        if length > 0 {
            path.push('/');
        }
        path.push_str(text);
        let entry = WalkEntry {
            path,
            kind: kind(stat.st_mode),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat.st_mtime),
        };
        match visit(entry) {
            Walk::Stop => return ControlFlow::Break(()),
            Walk::Enter if kind(stat.st_mode) == EntryKind::Directory => {
                if let Ok(inner) = enter(dir, &name) {
                    walk(&inner, path, depth - 1, visit)?;
                }
            }
            Walk::Enter | Walk::Pass => {}
        }
    }
    path.truncate(length);
    ControlFlow::Continue(())
}

fn enter(dir: &ReadableDirectory, name: &CStr) -> rustix::io::Result<ReadableDirectory> {
    let mut inner = ReadableDirectory::open_at(dir, name)?;
    // Modes have 16 bits.
    let mode = rustix::fs::fstat(inner.as_fd())?.st_mode as u16;
    inner.make_accessible(mode)?;
    Ok(inner)
}

fn names(dir: &ReadableDirectory) -> Vec<CString> {
    let is_name = |name: &CString| !matches!(name.as_bytes(), b"." | b"..");
    let entries = Dir::read_from(dir).into_iter().flatten().flatten();
    let mut names: Vec<CString> =
        entries.map(|entry| entry.file_name().to_owned()).filter(is_name).collect();
    names.sort_unstable();
    names
}

fn kind(mode: u32) -> EntryKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

fn modified(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_walk_visits_all_entries_in_order_and_follows_no_symlink() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("b/c")).unwrap();
        std::fs::create_dir(root.path().join("closed")).unwrap();
        for file in ["a", "b/c/f", "b.txt", "closed/f"] {
            std::fs::write(root.path().join(file), "xy").unwrap();
        }
        symlink("/etc", root.path().join("out")).unwrap();
        symlink("b/c", root.path().join("inward")).unwrap();
        let dir = SessionDir::open(root.path()).unwrap();
        let list = |path: Option<&str>, pass: &str, stop: &str| {
            let path = path.map(|path| RelativePath::parse(path).unwrap());
            let mut seen = Vec::new();
            dir.subtree(path.as_ref())?.walk(|entry| {
                seen.push((entry.path.to_owned(), entry.kind));
                match entry.path {
                    path if path == pass => Walk::Pass,
                    path if path == stop => Walk::Stop,
                    _ => Walk::Enter,
                }
            });
            let names: Vec<String> = seen.into_iter().map(|(path, _)| path).collect();
            Ok::<_, FileError>(names.join(" "))
        };
        assert_eq!(list(None, "", "").unwrap(), {
            "a b b/c b/c/f b.txt closed closed/f inward out"
        });
        assert_eq!(list(None, "b", "closed").unwrap(), "a b b.txt closed");
        assert_eq!(list(Some("inward"), "", "").unwrap(), "f");
        assert!(matches!(list(Some("out"), "", ""), Err(FileError::Escapes { .. })));
        assert!(list(Some("a"), "", "").is_err());
    }
}
