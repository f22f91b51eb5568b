//! Inspection of one path.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use sandbox_core::RelativePath;
use sandbox_core::internal::ReadableDirectory;

use crate::limits::{MAX_FILE_BYTES, MAX_PATH_BYTES};
use crate::paths::parents;
use crate::scan::ignore::IgnoreRules;
use crate::scan::markers;
use crate::scan::skipped::SkipReason;
use crate::scan::snapshot::{Entry, Links, Snapshot, SymlinkEntry};

/// Inspects one path.
pub(crate) fn inspect(dir: impl AsFd, path: &RelativePath, rules: &IgnoreRules) -> Snapshot {
    let mut found = Snapshot::default();
    if rules.covers(path.as_str()) || has_marker(&dir, path.as_str(), rules) {
        return found;
    }
    let above = path.parent();
    let above = above.as_ref().map_or(Path::new(""), |above| above.as_ref());
    let parent = match ReadableDirectory::open_beneath(dir, above) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return found,
        Err(errno) => {
            let reason = match errno {
                Errno::LOOP => SkipReason::Symlink,
                Errno::XDEV => SkipReason::MountPoint,
                errno => unreadable(errno),
            };
            found.skip(path.as_str().to_owned(), reason);
            return found;
        }
    };
    let Ok(name) = CString::new(path.file_name()) else { return found };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(&parent, &*name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => add(&mut found, path.as_str().to_owned(), &stat, &parent, &name),
        Err(Errno::NOENT) => {}
        Err(errno) => found.skip(path.as_str().to_owned(), unreadable(errno)),
    }
    found
}

/// Returns whether a marker in a directory above makes the rules ignore a path.
fn has_marker(dir: impl AsFd, path: &str, rules: &IgnoreRules) -> bool {
    parents(path).any(|above| rules.honours_marker(above) && markers::is_in(&dir, above))
}

/// Adds an entry that is not a directory. `name` names it relative to `at`.
pub(super) fn add(found: &mut Snapshot, path: String, stat: &Statx, at: impl AsFd, name: &CStr) {
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) && kind != FileType::Directory {
        return found.skip(path, SkipReason::MountPoint);
    }
    match kind {
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
                Ok(target) => match target.into_string() {
                    Ok(target) if target.len() <= MAX_PATH_BYTES => {
                        found.symlinks.push(SymlinkEntry { path, target });
                    }
                    _ => found.skip(path, SkipReason::Symlink),
                },
                // It was removed or replaced.
                Err(Errno::NOENT | Errno::INVAL) => {}
                Err(errno) => found.skip(path, unreadable(errno)),
            }
        }
        FileType::Directory => {}
        _ => found.skip(path, SkipReason::Special),
    }
}

pub(super) fn unreadable(errno: Errno) -> SkipReason {
    SkipReason::Unreadable { reason: io::Error::from(errno).to_string() }
}
