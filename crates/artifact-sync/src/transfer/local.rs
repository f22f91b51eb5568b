//! Removal of what is no object in a store on the local disk: staging files of killed uploads, and
//! empty directories.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path as Key;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::MAX_DEPTH;
use crate::transfer::quirks::is_upload_name;

/// Removes staging files of killed uploads below a prefix, and returns their number.
///
/// `object_store` writes `<name>#<number>` beside an object, and renames it when it is complete. A
/// file counts as left behind if it was not modified for `older_than`. Names of this form are
/// reserved: no object has one, and listings hide them. But a person may have put such a file
/// there, so `is_ours` tells whether an upload to a path below the prefix was ours. Symlinks are
/// not followed.
///
/// # Errors
/// Returns the system's error if the directory of the prefix cannot be read. An absent one is no
/// error. Deeper directories that cannot be read are skipped.
pub fn sweep_local(
    root: &Path,
    prefix: &Key,
    older_than: Duration,
    is_ours: &dyn Fn(&str) -> bool,
) -> io::Result<usize> {
    let Some(dir) = open_prefix(root, prefix)? else { return Ok(0) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = now.saturating_sub(older_than).as_secs() as i64;
    Sweep { oldest, is_ours }.sweep_directory(dir.as_fd(), "", MAX_DEPTH)
}

/// Sweep of one prefix.
struct Sweep<'s> {
    /// Latest modification of a file that counts as left behind, in seconds since 1970.
    oldest: i64,
    is_ours: &'s dyn Fn(&str) -> bool,
}

impl Sweep<'_> {
    fn sweep_directory(&self, dir: BorrowedFd<'_>, path: &str, depth: usize) -> io::Result<usize> {
        let mut removed = 0;
        let mut below = Vec::new();
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            // Objects of other programs have names that are no text.
            let Ok(text) = name.to_str() else { continue };
            let is_staging = is_upload_name(text);
            let kind = match entry.file_type() {
                _ if matches!(text, "." | "..") => continue,
                FileType::RegularFile if !is_staging => continue,
                FileType::Directory => FileType::Directory,
                // The modification time is needed, or the file system does not tell the type.
                _ => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if is_staging && stat.st_mtime > self.oldest => continue,
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
            };
            match kind {
                FileType::Directory if depth > 0 => below.push(text.to_owned()),
                FileType::RegularFile if is_staging && (self.is_ours)(&target(path, text)) => {
                    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                        Ok(()) => removed += 1,
                        Err(error) => tracing::warn!(?name, %error, "cannot remove a staging file"),
                    }
                }
                _ => {}
            }
        }
        for name in below {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let swept = open_directory(dir, name.as_str())
                .map_err(io::Error::from)
                .and_then(|dir| self.sweep_directory(dir.as_fd(), &path, depth - 1));
            match swept {
                Ok(count) => removed += count,
                Err(error) => tracing::debug!(?name, %error, "cannot sweep a directory"),
            }
        }
        Ok(removed)
    }
}

/// Directory in the place of an object that could not be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It was empty, apart from empty directories, and is gone.
    Cleared,
    /// It contains what is no directory.
    Directory,
    None,
}

/// Removes empty directories from the place of an object. Symlinks are not followed.
///
/// # Errors
/// Returns the system's error if a directory cannot be read or removed.
pub(crate) fn clear_place(root: &Path, key: &Key) -> io::Result<Obstacle> {
    let parts: Vec<_> = key.parts().collect();
    let Some((name, above)) = parts.split_last() else { return Ok(Obstacle::None) };
    let Some(parent) = open_prefix(root, &above.iter().cloned().collect())? else {
        return Ok(Obstacle::None);
    };
    let parent = parent.as_fd();
    match rustix::fs::statat(parent, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Obstacle::None),
        Err(error) => return Err(error.into()),
    }
    match remove_if_empty(parent, name.as_ref().as_ref(), MAX_DEPTH) {
        Ok(()) => Ok(Obstacle::Cleared),
        Err(Errno::NOENT) => Ok(Obstacle::None),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY) => Ok(Obstacle::Directory),
        Err(error) => Err(error.into()),
    }
}

fn remove_if_empty(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
    let remove = || rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    match remove() {
        Err(Errno::NOTEMPTY) if depth > 0 => {}
        other => return other,
    }
    let dir = open_directory(parent, name)?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_if_empty(dir.as_fd(), name, depth - 1)?;
        }
    }
    remove()
}

/// Opens the directory of a prefix. Returns `None` if it does not exist.
fn open_prefix(root: &Path, prefix: &Key) -> io::Result<Option<OwnedFd>> {
    let mut dir = OwnedFd::from(File::open(root)?);
    for part in prefix.parts() {
        match open_directory(dir.as_fd(), part.as_ref()) {
            Ok(below) => dir = below,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(dir))
}

/// Returns the path of the object that a staging file in a directory is for.
fn target(directory: &str, staging: &str) -> String {
    let name = staging.rsplit_once('#').map_or(staging, |(name, _)| name);
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn open_directory(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn sweep(root: &Path, prefix: &str, is_ours: &dyn Fn(&str) -> bool) -> io::Result<usize> {
        sweep_local(root, &Key::from(prefix), DAY, is_ours)
    }

    fn write(path: &Path, age: Duration) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content").unwrap();
        File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn only_old_staging_files_below_the_prefix_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let kept = [
            ("logs/u/s/new#1", Duration::ZERO),
            ("logs/u/s/old", DAY * 2),
            ("logs/u/s/old#", DAY * 2),
            ("logs/u/s/old#1x", DAY * 2),
            // This name is not reserved, so an object can have it.
            ("logs/u/s/a#b#1", DAY * 2),
            ("logs/u/other/old#1", DAY * 2),
            ("logs/u/s/theirs#1", DAY * 2),
        ];
        let removed = ["logs/u/s/old#1", "logs/u/s/blobs/d/old#23", "logs/u/s/#7"];
        kept.iter().for_each(|(name, age)| write(&path(name), *age));
        removed.iter().for_each(|name| write(&path(name), DAY * 2));
        symlink("../other", path("logs/u/s/link")).unwrap();
        symlink("old", path("logs/u/s/link#1")).unwrap();
        let swept = sweep(root.path(), "logs/u/s", &|path| path != "theirs");
        assert_eq!(swept.unwrap(), removed.len());
        for (name, _) in kept {
            assert!(path(name).exists(), "{name}");
        }
        for name in removed {
            assert!(!path(name).exists(), "{name}");
        }
        assert!(path("logs/u/s/link#1").is_symlink());
        assert_eq!(sweep(root.path(), "absent/s", &|_| true).unwrap(), 0);
    }

    #[test]
    fn only_directories_without_anything_else_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let clear = |key: &str| clear_place(root.path(), &Key::from(key)).ok();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("p/a/b/c")).unwrap();
        fs::create_dir_all(path("p/a/d")).unwrap();
        write(&path("p/kept/b/c/file"), DAY);
        fs::create_dir(path("p/linked")).unwrap();
        symlink("../a", path("p/linked/link")).unwrap();
        symlink("a", path("p/link")).unwrap();
        for (key, expected) in [
            ("p/kept", Some(Obstacle::Directory)),
            ("p/linked", Some(Obstacle::Directory)),
            ("p/link", Some(Obstacle::None)),
            ("p/link/b", None),
            ("p/kept/b/c/file", Some(Obstacle::None)),
            ("p/kept/b/c/file/x", None),
            ("p/absent/x", Some(Obstacle::None)),
        ] {
            assert_eq!(clear(key), expected, "{key}");
        }
        assert!(path("p/kept/b/c/file").exists() && path("p/link").is_symlink());
        assert_eq!(clear("p/a"), Some(Obstacle::Cleared));
        assert!(!path("p/a").exists() && path("p").exists());
    }

    #[test]
    fn a_symlink_in_the_prefix_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("elsewhere/s/old#1"), DAY * 2);
        symlink("elsewhere", root.path().join("logs")).unwrap();
        assert!(sweep(root.path(), "logs/s", &|_| true).is_err());
        assert!(root.path().join("elsewhere/s/old#1").exists());
    }

    #[test]
    fn a_staging_file_belongs_to_the_object_beside_it() {
        let root = tempfile::tempdir().unwrap();
        for name in ["p/a#1", "p/d/e/b c#22"] {
            write(&root.path().join(name), DAY * 2);
        }
        let asked = std::cell::RefCell::new(Vec::new());
        let is_ours = |path: &str| {
            asked.borrow_mut().push(path.to_owned());
            false
        };
        assert_eq!(sweep(root.path(), "p", &is_ours).unwrap(), 0);
        asked.borrow_mut().sort();
        assert_eq!(*asked.borrow(), ["a", "d/e/b c"]);
    }
}
