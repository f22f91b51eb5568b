//! Inspection of one path.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use sandbox_core::RelativePath;

use crate::limits::{MAX_FILE_BYTES, MAX_PATH_BYTES};
use crate::scan::ignore::IgnoreRules;
use crate::scan::skipped::SkipReason;
use crate::scan::snapshot::{Entry, Links, Snapshot, SymlinkEntry};

/// Inspects one path.
pub(crate) fn inspect(dir: impl AsFd, path: &RelativePath, rules: &IgnoreRules) -> Snapshot {
    let mut found = Snapshot::default();
    if rules.covers(path.as_str()) {
        return found;
    }
    let opened =
        open_beneath(dir, path.as_str(), OFlags::PATH | OFlags::NOFOLLOW).and_then(|file| {
            let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
            Ok((file, stat))
        });
    match opened {
        Ok((file, stat)) => add(&mut found, path.as_str().to_owned(), &stat, &file, c""),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(Errno::LOOP) => found.skip(path.as_str().to_owned(), SkipReason::Symlink),
        Err(errno) => found.skip(path.as_str().to_owned(), unreadable(errno)),
    }
    found
}

/// Adds an entry that is not a directory. `name` names it relative to `at`.
pub(super) fn add(found: &mut Snapshot, path: String, stat: &Statx, at: &OwnedFd, name: &CStr) {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile if stat.stx_size > MAX_FILE_BYTES => {
            found.skip(path, SkipReason::TooLarge { size: stat.stx_size });
        }
        FileType::RegularFile => {
            if stat.stx_nlink > 1 {
                let links = Links { inode: stat.stx_ino, count: stat.stx_nlink };
                found.linked.push((path.clone(), links));
            }
            found.files.push(Entry { path, signature: stat.into() });
        }
        FileType::Symlink => {
            match rustix::fs::readlinkat(at, name, Vec::new()) {
                Ok(target) if target.as_bytes().len() <= MAX_PATH_BYTES => {
                    if let Ok(target) = target.into_string() {
                        found.symlinks.push(SymlinkEntry { path: path.clone(), target });
                    }
                }
                // It was removed or replaced.
                Err(Errno::NOENT | Errno::INVAL) => return,
                Ok(_) | Err(_) => {}
            }
            // The engine does not store symlinks yet.
            found.skip(path, SkipReason::Symlink);
        }
        FileType::Directory => {}
        _ => found.skip(path, SkipReason::Special),
    }
}

pub(super) fn unreadable(errno: Errno) -> SkipReason {
    SkipReason::Unreadable { reason: io::Error::from(errno).to_string() }
}

/// Opens a path below the directory, without following symlinks.
pub(super) fn open_beneath(
    dir: impl AsFd,
    path: &str,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}
