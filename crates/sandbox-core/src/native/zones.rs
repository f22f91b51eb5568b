//! Search for the names that a zone of the creation rules denies.
//!
//! Init denies their creation early, with the weakness that `quarantine` describes. Zones reach to
//! any depth, so the host looks through them after a command. Only a directory that has changed
//! since then can contain a new name.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::{Zone, ZoneKind};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::quarantine::{changed, open_directory, stat};
use crate::files::with_access;

/// Maximum number of directories that are searched after one command. The search for protected
/// names has the same limit.
const MAX_DIRECTORIES: usize = 20_000;
/// Directory without protected names.
const UNSEARCHED: &str = "node_modules";
/// Entries without which git takes no directory for a repository. `commondir` replaces the last
/// two.
const REPOSITORY: [&str; 3] = ["HEAD", "objects", "refs"];
const COMMON_DIR: &str = "commondir";
const READABLE: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Returns the entries that zones deny and that were created since `since`, each with its directory
/// and the path of that directory. `is_fixed` names the entries that no command can create.
pub(super) fn new_entries(
    zones: &[Zone],
    since: SystemTime,
    is_fixed: impl Fn(&Path) -> bool,
) -> Vec<(OwnedFd, PathBuf, OsString)> {
    let kinds: HashMap<&Path, ZoneKind> =
        zones.iter().map(|zone| (zone.dir.as_path(), zone.kind)).collect();
    let is_outermost = |zone: &&Zone| {
        let mut above = zone.dir.ancestors().skip(1).filter_map(|dir| kinds.get(dir));
        zone.kind != ZoneKind::Free && above.next().is_none_or(|kind| *kind == ZoneKind::Free)
    };
    let outermost = zones.iter().filter(is_outermost);
    let mut rest: Vec<(PathBuf, ZoneKind)> =
        outermost.map(|zone| (zone.dir.clone(), zone.kind)).collect();
    let mut found = Vec::new();
    for _ in 0..MAX_DIRECTORIES {
        let Some((path, around)) = rest.pop() else { break };
        let kind = kinds.get(path.as_path()).copied();
        let is_git_dir = kind == Some(ZoneKind::GitDirectory);
        let kind = kind.unwrap_or(around);
        if kind == ZoneKind::Free {
            continue;
        }
        let Ok(dir) = open_readable(&path) else { continue };
        let Ok(entries) = entries(&dir) else { continue };
        if stat(&dir, "").is_ok_and(|stat| changed(&stat) >= since) {
            let is_repository = !is_git_dir && is_repository(&entries);
            for (name, file_type) in &entries {
                let is_denied = (kind.denies_repositories()
                    && ((is_repository && name == REPOSITORY[0])
                        || (name == ".git" && *file_type != FileType::Directory)))
                    || (kind.denies_links() && *file_type == FileType::Symlink);
                // A repository is complete with its last entry, not with its first.
                let is_new = || {
                    name == REPOSITORY[0]
                        || stat(&dir, name).is_ok_and(|stat| changed(&stat) >= since)
                };
                if is_denied
                    && !is_fixed(&path.join(name))
                    && is_new()
                    && let Ok(dir) = open_directory(&path)
                {
                    found.push((dir, path.clone(), name.clone()));
                }
            }
        }
        let has_only_content = path.ends_with("objects")
            && path.parent().and_then(|above| kinds.get(above)) == Some(&ZoneKind::GitDirectory);
        let below = entries.into_iter().filter(|(name, file_type)| {
            *file_type == FileType::Directory
                && name != UNSEARCHED
                // Git writes no file in these directories that exists already.
                && !(has_only_content && (name.len() == 2 || name == "pack"))
        });
        rest.extend(below.map(|(name, _)| (path.join(name), kind)));
    }
    found
}

fn is_repository(entries: &[(OsString, FileType)]) -> bool {
    let has = |name: &str| entries.iter().any(|(entry, _)| entry == name);
    has(REPOSITORY[0]) && (has(COMMON_DIR) || REPOSITORY.into_iter().all(has))
}

/// Opens a directory for listing, although its mode or that of one above may deny it to its owner.
pub(super) fn open_readable(path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, READABLE, Mode::empty(), resolve) {
        Err(Errno::ACCESS | Errno::NOSYS | Errno::AGAIN) => {}
        other => return other,
    }
    let dir = open_directory(path)?;
    with_access(&dir, || rustix::fs::openat(&dir, ".", READABLE, Mode::empty()))
}

pub(super) fn entries(dir: &OwnedFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let file_type = match entry.file_type() {
            // Some file systems leave the type out.
            FileType::Unknown => stat(dir, name)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.stx_mode.into())),
            known => known,
        };
        found.push((name.to_owned(), file_type));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    fn found(zones: &[(&Path, ZoneKind)], since: SystemTime, mounted: &Path) -> Vec<PathBuf> {
        let zones = zones.iter().map(|(dir, kind)| Zone { dir: dir.to_path_buf(), kind: *kind });
        let zones: Vec<Zone> = zones.collect();
        let found = new_entries(&zones, since, |path| path == mounted);
        let mut paths: Vec<_> = found.iter().map(|(_, dir, name)| dir.join(name)).collect();
        paths.sort();
        paths
    }

    #[test]
    fn new_repositories_pointers_and_links_are_found_where_their_zone_denies_them() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let git = root.join(".git");
        let free = root.join("free");
        for dir in [".git/objects/ab", ".git/modules/m", "new/refs", "half", "free", "a/b"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let zones = [
            (git.as_path(), ZoneKind::GitDirectory),
            (&git.join("modules"), ZoneKind::GitContainer),
            (&free, ZoneKind::Free),
            (&root, ZoneKind::NoNewRepositories),
        ];
        symlink("x", git.join("old")).unwrap();
        let changed_at = |path: &Path| {
            let dir = open_directory(path.parent().unwrap()).unwrap();
            changed(&stat(&dir, path.file_name().unwrap()).unwrap())
        };
        // The clock of the file system advances in ticks.
        let mut before = changed_at(&git.join("old"));
        while before <= changed_at(&git.join("old")) {
            fs::write(root.join("tick"), "").unwrap();
            before = changed_at(&root.join("tick"));
        }
        let later = before + Duration::from_secs(1);
        fs::create_dir(root.join("new/objects")).unwrap();
        for file in ["new/HEAD", "half/HEAD", ".git/HEAD", "a/b/.git", "free/.git", "mounted"] {
            fs::write(root.join(file), "").unwrap();
        }
        for link in [".git/l", ".git/objects/l", ".git/objects/ab/l", ".git/modules/m/l", "a/l"] {
            symlink("x", root.join(link)).unwrap();
        }
        let expected = [".git/l", ".git/modules/m/l", ".git/objects/l", "a/b/.git", "new/HEAD"];
        let all: Vec<_> = expected.iter().map(|path| root.join(path)).collect();
        assert_eq!(found(&zones, before, Path::new("")), all);
        let other: Vec<_> = all.iter().filter(|path| !path.ends_with("b/.git")).cloned().collect();
        assert_eq!(found(&zones, before, &root.join("a/b/.git")), other);
        assert_eq!(found(&zones, later, Path::new("")), [] as [PathBuf; 0]);
    }
}
