//! Removal of what killed uploads leave in a store on the local disk.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path as Key;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::MAX_DEPTH;
use crate::transfer::quirks::is_upload_name;

/// Removes the staging files of killed uploads below a prefix, and returns their number.
///
/// `object_store` writes `<name>#<number>` beside an object, and renames it when it is complete. A
/// file counts as left behind if it was not modified for `older_than`. Symlinks are not followed.
/// Names of this form are reserved: no object has one, and listings hide them.
///
/// # Errors
/// Returns the system's error if the directory of the prefix cannot be read. An absent one is no
/// error. Deeper directories that cannot be read are skipped.
pub fn sweep_local(root: &Path, prefix: &Key, older_than: Duration) -> io::Result<usize> {
    let mut dir = OwnedFd::from(File::open(root)?);
    for part in prefix.parts() {
        match open_directory(dir.as_fd(), part.as_ref()) {
            Ok(below) => dir = below,
            Err(Errno::NOENT) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = now.saturating_sub(older_than).as_secs() as i64;
    sweep_directory(dir.as_fd(), oldest, MAX_DEPTH)
}

fn sweep_directory(dir: BorrowedFd<'_>, oldest: i64, depth: usize) -> io::Result<usize> {
    let mut removed = 0;
    let mut below = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth > 0 => below.push(name.to_owned()),
            FileType::RegularFile if is_staging(name) && stat.st_mtime <= oldest => {
                match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(?name, %error, "cannot remove a staging file"),
                }
            }
            _ => {}
        }
    }
    for name in below {
        let swept = open_directory(dir, name.as_c_str())
            .map_err(io::Error::from)
            .and_then(|dir| sweep_directory(dir.as_fd(), oldest, depth - 1));
        match swept {
            Ok(count) => removed += count,
            Err(error) => tracing::debug!(?name, %error, "cannot sweep a directory"),
        }
    }
    Ok(removed)
}

fn open_directory(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn is_staging(name: &CStr) -> bool {
    name.to_str().is_ok_and(is_upload_name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
        ];
        let removed = ["logs/u/s/old#1", "logs/u/s/blobs/d/old#23", "logs/u/s/#7"];
        kept.iter().for_each(|(name, age)| write(&path(name), *age));
        removed.iter().for_each(|name| write(&path(name), DAY * 2));
        symlink("../other", path("logs/u/s/link")).unwrap();
        symlink("old", path("logs/u/s/link#1")).unwrap();
        let prefix = Key::from("logs/u/s");
        assert_eq!(sweep_local(root.path(), &prefix, DAY).unwrap(), removed.len());
        for (name, _) in kept {
            assert!(path(name).exists(), "{name}");
        }
        for name in removed {
            assert!(!path(name).exists(), "{name}");
        }
        assert!(path("logs/u/s/link#1").is_symlink());
        assert_eq!(sweep_local(root.path(), &Key::from("absent/s"), DAY).unwrap(), 0);
    }

    #[test]
    fn a_symlink_in_the_prefix_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("elsewhere/s/old#1"), DAY * 2);
        symlink("elsewhere", root.path().join("logs")).unwrap();
        assert!(sweep_local(root.path(), &Key::from("logs/s"), DAY).is_err());
        assert!(root.path().join("elsewhere/s/old#1").exists());
    }
}
