//! Quarantine of a file at a denied path: it gets another name, or is deleted.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::changes::stat;
use crate::files::{by_descriptor, remove_tree, with_access};
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// Number of readable new names tried for one path, before random ones.
const MAX_NAMES: u32 = 100;
/// Number of random new names tried for one path.
const MAX_RANDOM_NAMES: u32 = 4;
/// Maximum length of the part of the old name that the new name keeps.
const MAX_NAME_BYTES: usize = 220;
/// Number of times that a path is cleared while another process creates it again.
const MAX_ROUNDS: u32 = 8;

/// Removes the entry `name` of a directory from its denied path. Moves it aside if possible, and
/// deletes it otherwise. Returns `None` if it is gone already.
pub(super) fn clear(dir: &OwnedFd, parent: &Path, name: &OsStr) -> Option<Quarantined> {
    clear_to(dir, parent, name, &Aside { dir, parent, name })
}

/// Place to which a file is moved aside.
pub(super) struct Aside<'a> {
    pub(super) dir: &'a OwnedFd,
    /// Path of the directory.
    pub(super) parent: &'a Path,
    /// Beginning of the new name.
    pub(super) name: &'a OsStr,
}

/// Like [`clear`], with another place for the file.
pub(super) fn clear_to(
    dir: &OwnedFd,
    parent: &Path,
    name: &OsStr,
    aside: &Aside<'_>,
) -> Option<Quarantined> {
    let path = parent.join(name);
    let mut cleared = None;
    for _ in 0..MAX_ROUNDS {
        let outcome = match move_aside(dir, name, aside) {
            Ok(new_name) => {
                let moved_to = Some(aside.parent.join(new_name));
                let path = path.clone();
                let outcome = QuarantineOutcome::Moved;
                let moved = Quarantined { path, moved_to, outcome, reason: None };
                cleared = cleared.or(Some(moved));
                QuarantineOutcome::Moved
            }
            Err(Errno::NOENT) => return cleared,
            Err(_) => erase(dir, name),
        };
        if outcome != QuarantineOutcome::Moved {
            let path = path.clone();
            cleared = Some(Quarantined { path, moved_to: None, outcome, reason: None });
        }
        match with_access(dir, || stat(dir, name)) {
            Err(Errno::NOENT) => return cleared,
            // Another command of the session has created it again, or it cannot be removed.
            _ if outcome == QuarantineOutcome::Moved => {}
            _ if outcome == QuarantineOutcome::Deleted => {}
            _ => return cleared,
        }
    }
    let outcome = QuarantineOutcome::Unknown;
    Some(Quarantined { path, moved_to: None, outcome, reason: None })
}

/// Returns a name without the suffix that an earlier quarantine has added.
fn without_suffix(name: &[u8]) -> &[u8] {
    let suffix = b".refused";
    let Some(at) = name.windows(suffix.len()).rposition(|part| part == suffix) else { return name };
    let number = &name[at + suffix.len()..];
    let is_ours = number.is_empty()
        || number.strip_prefix(b"-").is_some_and(|n| n.iter().all(u8::is_ascii_hexdigit));
    if is_ours && at > 0 { &name[..at] } else { name }
}

/// Moves a file aside, and returns its new name. The content is preserved, but no program finds it
/// under the denied name.
fn move_aside(dir: &OwnedFd, name: &OsStr, aside: &Aside<'_>) -> rustix::io::Result<OsString> {
    for number in 1..=MAX_NAMES + MAX_RANDOM_NAMES {
        let suffix = match number {
            1 => ".refused".to_owned(),
            2..=MAX_NAMES => format!(".refused-{number}"),
            // A command may have taken all other names.
            _ => {
                let mut random = [0; 8];
                rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
                format!(".refused-{:016x}", u64::from_ne_bytes(random))
            }
        };
        let bytes = without_suffix(aside.name.as_bytes());
        let kept = &bytes[..bytes.len().min(MAX_NAME_BYTES)];
        let new_name = OsString::from_vec([kept, suffix.as_bytes()].concat());
        let rename =
            || rustix::fs::renameat_with(dir, name, aside.dir, &new_name, RenameFlags::NOREPLACE);
        match with_access(dir, rename) {
            Ok(()) => return Ok(new_name),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// Deletes a file or tree that cannot be renamed. If that fails too, empties a file that has no
/// other name.
fn erase(dir: &OwnedFd, name: &OsStr) -> QuarantineOutcome {
    let path = by_descriptor(dir).join(name);
    let removed = match with_access(dir, || rustix::fs::unlinkat(dir, name, AtFlags::empty())) {
        Err(Errno::ISDIR) => {
            let remove = || {
                remove_tree(&path)
                    .map_err(|error| Errno::from_io_error(&error.source).unwrap_or(Errno::IO))
            };
            with_access(dir, remove).is_ok_and(|mount_points| mount_points.is_empty())
        }
        other => matches!(other, Ok(()) | Err(Errno::NOENT)),
    };
    if removed {
        return QuarantineOutcome::Deleted;
    }
    let empty = || {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(Errno::PERM);
        }
        rustix::fs::ftruncate(&file, 0)
    };
    if empty().is_ok() { QuarantineOutcome::Emptied } else { QuarantineOutcome::Remains }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_or_tree_that_cannot_be_renamed_is_erased_and_no_symlink_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let dir: OwnedFd = fs::File::open(root.path()).unwrap().into();
        fs::write(root.path().join("file"), "").unwrap();
        fs::create_dir_all(root.path().join("tree/deep")).unwrap();
        fs::create_dir(root.path().join("kept")).unwrap();
        fs::write(root.path().join("kept/f"), "x").unwrap();
        std::os::unix::fs::symlink("kept", root.path().join("link")).unwrap();
        for name in ["file", "tree", "link", "absent"] {
            assert_eq!(erase(&dir, name.as_ref()), QuarantineOutcome::Deleted, "{name}");
        }
        let names: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"]);
        assert!(root.path().join("kept/f").exists());
    }
}
