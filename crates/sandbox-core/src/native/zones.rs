//! Search for the names that a zone of the creation rules denies.
//!
//! Init denies their creation early, with the weakness that `quarantine` describes. Zones reach to
//! any depth, so the host looks through them after a command:
//!
//! 1. A directory that has not changed since the last search is not listed again.
//! 2. In one that has changed, an entry is new if it has changed since the command began.
//! 3. A directory that was moved brings older entries with it. Below it, an entry is also new if it
//!    is older than the last search, which did not find it there. A younger one is from the host.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::{Zone, ZoneKind};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::outstanding::LAG;
use super::quarantine::{FileId, Times, changed, open_directory, stat};
use crate::files::with_access;

/// Maximum number of directories that are searched after one command.
const MAX_DIRECTORIES: usize = 50_000;
/// Directory without protected names.
pub(super) const UNSEARCHED: &str = "node_modules";
/// Entries without which git takes no directory for a repository. `commondir` replaces the last
/// two.
const REPOSITORY: [&str; 3] = ["HEAD", "objects", "refs"];
const COMMON_DIR: &str = "commondir";
const READABLE: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A forbidden entry: its directory, the path of that directory, and its name.
pub(super) type NewEntry = (OwnedFd, PathBuf, OsString);

/// The directories of the zones, as the last search has found them.
#[derive(Debug)]
pub(super) struct Survey {
    last_check: SystemTime,
    directories: HashMap<PathBuf, Directory>,
    /// Entries that were quarantined. A symlink is one also under its new name.
    quarantined: HashMap<PathBuf, FileId>,
    /// The last search has covered every directory.
    pub(super) is_complete: bool,
}

#[derive(Debug)]
struct Directory {
    id: FileId,
    changed: SystemTime,
    /// Each later change gives the directory another time.
    is_settled: bool,
    is_repository: bool,
    /// Names of the directories in it.
    below: Vec<OsString>,
}

impl Survey {
    /// Records the git directories before the first command, because no mount covers the symlinks
    /// that they contain. Of other zones, no entry exists that is denied and not covered.
    pub(super) fn of(zones: &[Zone]) -> Self {
        let is_git = |zone: &&Zone| zone.kind.denies_links();
        let git_zones: Vec<Zone> = zones.iter().filter(is_git).cloned().collect();
        let last_check = SystemTime::now();
        let mut survey = Self {
            last_check,
            directories: HashMap::new(),
            quarantined: HashMap::new(),
            is_complete: true,
        };
        survey.search(&git_zones, None, |_| true);
        survey
    }

    /// Returns the entries that zones deny and that commands have brought there since `since`.
    /// `is_fixed` names the entries that no command can create.
    pub(super) fn new_entries(
        &mut self,
        zones: &[Zone],
        since: SystemTime,
        is_fixed: impl Fn(&Path) -> bool,
    ) -> Vec<NewEntry> {
        let began = SystemTime::now();
        let times = Times { since, last_check: self.last_check };
        let found = self.search(zones, Some(times), is_fixed);
        self.last_check = began;
        found
    }

    /// Records the new path of an entry that was quarantined.
    pub(super) fn leave(&mut self, path: &Path) {
        if let Ok(stat) = stat(CWD, path) {
            self.quarantined.insert(path.to_owned(), FileId::of(&stat));
        }
    }

    fn search(
        &mut self,
        zones: &[Zone],
        times: Option<Times>,
        is_fixed: impl Fn(&Path) -> bool,
    ) -> Vec<NewEntry> {
        let kinds: HashMap<&Path, ZoneKind> =
            zones.iter().map(|zone| (zone.dir.as_path(), zone.kind)).collect();
        let is_outermost = |zone: &&Zone| {
            let mut above = zone.dir.ancestors().skip(1).filter_map(|dir| kinds.get(dir));
            zone.kind != ZoneKind::Free && above.next().is_none_or(|kind| *kind == ZoneKind::Free)
        };
        let roots = zones.iter().filter(is_outermost);
        let mut rest: Vec<(PathBuf, ZoneKind, bool)> =
            roots.map(|zone| (zone.dir.clone(), zone.kind, false)).collect();
        let before = std::mem::take(&mut self.directories);
        let began = SystemTime::now();
        let quarantined = &self.quarantined;
        let found = Vec::new();
        let mut search = Search { before, times, began, is_fixed, quarantined, found };
        for _ in 0..MAX_DIRECTORIES {
            let Some((path, around, is_moved)) = rest.pop() else { break };
            let own = kinds.get(path.as_path()).copied();
            let zone = InZone { kind: own.unwrap_or(around), is_git_dir: own == GIT_DIRECTORY };
            if zone.kind == ZoneKind::Free {
                continue;
            }
            let Some((directory, is_moved)) = search.visit(&path, zone, is_moved) else { continue };
            let is_parent_git = path.parent().and_then(|above| kinds.get(above)).copied();
            let has_only_content = path.ends_with("objects") && is_parent_git == GIT_DIRECTORY;
            // Git writes no file in these directories that exists already.
            let is_content =
                |name: &&OsString| has_only_content && (name.len() == 2 || *name == "pack");
            let below = directory.below.iter().filter(|name| !is_content(name));
            rest.extend(below.map(|name| (path.join(name), zone.kind, is_moved)));
            self.directories.insert(path, directory);
        }
        self.is_complete = rest.is_empty();
        search.found
    }
}

const GIT_DIRECTORY: Option<ZoneKind> = Some(ZoneKind::GitDirectory);

/// The rules for a directory.
#[derive(Clone, Copy)]
struct InZone {
    kind: ZoneKind,
    /// The directory is a known repository.
    is_git_dir: bool,
}

struct Search<'s, F> {
    before: HashMap<PathBuf, Directory>,
    times: Option<Times>,
    began: SystemTime,
    is_fixed: F,
    quarantined: &'s HashMap<PathBuf, FileId>,
    found: Vec<NewEntry>,
}

impl<F: Fn(&Path) -> bool> Search<'_, F> {
    /// Looks through a directory if it has changed or was moved. Returns its state, and whether it
    /// was moved, or `None` if it cannot be read.
    fn visit(
        &mut self,
        path: &Path,
        zone: InZone,
        is_parent_moved: bool,
    ) -> Option<(Directory, bool)> {
        let known = self.before.remove(path);
        match stat(CWD, path) {
            Ok(found) => {
                let is_unchanged = |known: &Directory| {
                    known.is_settled
                        && (known.id, known.changed) == (FileId::of(&found), changed(&found))
                };
                if known.as_ref().is_some_and(is_unchanged) {
                    return known.map(|known| (known, false));
                }
            }
            // The directory is there, and one above it denies access.
            Err(Errno::ACCESS) => {}
            Err(_) => return None,
        }
        let dir = open_readable(path).ok()?;
        // The directory may change while it is listed, so its time is read before.
        let found = stat(&dir, "").ok()?;
        let entries = entries(&dir).ok()?;
        let (id, changed) = (FileId::of(&found), changed(&found));
        let is_new = self.times.is_some_and(|times| changed >= times.since);
        // A directory that was there at the last search has not come with one above it.
        let is_moved = known.as_ref().map_or(is_parent_moved || is_new, |known| known.id != id);
        let was_repository = known.is_some_and(|known| known.id == id && known.is_repository);
        let mut is_repository = !zone.is_git_dir && is_repository(&entries);
        if let Some(times) = self.times.filter(|_| is_new || is_moved) {
            for (name, file_type) in &entries {
                let is_head = is_repository && name == REPOSITORY[0];
                if !is_denied(zone.kind, name, *file_type, is_head) {
                    continue;
                }
                let entry_path = path.join(name);
                let Ok(entry) = stat(&dir, name) else { continue };
                let is_quarantined = self.quarantined.get(&entry_path) == Some(&FileId::of(&entry));
                if is_quarantined || (self.is_fixed)(&entry_path) {
                    continue;
                }
                // A repository is complete with its last entry, not with its first.
                let is_completed = is_head && is_new && !was_repository;
                if (is_completed || times.is_new(&entry, is_moved))
                    && let Ok(dir) = open_directory(path)
                {
                    self.found.push((dir, path.to_owned(), name.clone()));
                    is_repository &= !is_head;
                }
            }
        }
        let is_searched = |(name, file_type): &(OsString, FileType)| {
            *file_type == FileType::Directory && name != UNSEARCHED
        };
        let below = entries.into_iter().filter(is_searched).map(|(name, _)| name).collect();
        let is_settled = changed + LAG < self.began;
        Some((Directory { id, changed, is_settled, is_repository, below }, is_moved))
    }
}

/// Returns whether a zone denies an entry. `is_head` marks the `HEAD` of a repository.
fn is_denied(kind: ZoneKind, name: &OsStr, file_type: FileType, is_head: bool) -> bool {
    // A repository in a directory `.git` is found by its `HEAD`.
    let is_pointer = name == ".git" && file_type != FileType::Directory;
    (kind.denies_repositories() && (is_head || is_pointer))
        || (kind.denies_links() && file_type == FileType::Symlink)
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

    fn found(
        mut survey: Survey,
        zones: &[Zone],
        since: SystemTime,
        mounted: &Path,
    ) -> Vec<PathBuf> {
        let found = survey.new_entries(zones, since, |path| path == mounted);
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
        let zones = zones.map(|(dir, kind)| Zone { dir: dir.to_owned(), kind });
        let [all, unmounted, none] = [(); 3].map(|()| Survey::of(&zones));
        fs::create_dir(root.join("new/objects")).unwrap();
        for file in ["new/HEAD", "half/HEAD", ".git/HEAD", "a/b/.git", "free/.git", "mounted"] {
            fs::write(root.join(file), "").unwrap();
        }
        for link in [".git/l", ".git/objects/l", ".git/objects/ab/l", ".git/modules/m/l", "a/l"] {
            symlink("x", root.join(link)).unwrap();
        }
        let expected = [".git/l", ".git/modules/m/l", ".git/objects/l", "a/b/.git", "new/HEAD"];
        let expected: Vec<_> = expected.iter().map(|path| root.join(path)).collect();
        assert_eq!(found(all, &zones, before, Path::new("")), expected);
        let others = expected.iter().filter(|path| !path.ends_with("b/.git"));
        let others: Vec<_> = others.cloned().collect();
        assert_eq!(found(unmounted, &zones, before, &root.join("a/b/.git")), others);
        assert_eq!(found(none, &zones, later, Path::new("")), [] as [PathBuf; 0]);
    }
}
