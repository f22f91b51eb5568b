//! Search for the names that a zone of the creation rules denies.
//!
//! Init denies their creation early, with the weakness that `denied_paths` describes. Zones reach
//! to any depth, so the host looks through them after a command:
//!
//! 1. A directory that has not changed since the last search is not listed again.
//! 2. In one that has changed, an entry is new if it has changed since the command began.
//! 3. A directory that was moved brings older entries with it. Below it, an entry is also new if it
//!    is older than the last search, which did not find it there. A younger one is from the host.
//! 4. The places that git itself uses come first, all of them. Of other directories, there is a
//!    limit; beyond it, the sandbox ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::{MountPlan, Zone, ZoneKind};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::changes::{FileId, Times, changed, open_directory, stat};
use super::closed::closed_directories;
use super::outstanding::LAG;
use crate::files::with_access;

/// Maximum number of directories that are recorded. An opening searches 200,000 of them and closes
/// the rest, so the others are from commands.
const MAX_DIRECTORIES: usize = 300_000;
/// Directory in a work tree without protected names.
pub(super) const UNSEARCHED: &str = "node_modules";
/// Directories in a git directory that git uses (`gitrepository-layout(5)`).
const KNOWN: [&str; 7] = ["logs", "refs", "info", "hooks", "objects", "worktrees", "modules"];
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
    /// Entries that existed before the first command, each with the time of its last change.
    of_user: HashMap<PathBuf, (FileId, SystemTime)>,
    max_directories: usize,
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
    pub(super) fn of(plan: &MountPlan, has_namespaces: bool) -> Self {
        let closed = closed_directories(plan, has_namespaces);
        Self::with_limit(&plan.creation_rules.zones, &closed, MAX_DIRECTORIES)
    }

    fn with_limit(zones: &[Zone], closed: &HashSet<PathBuf>, max_directories: usize) -> Self {
        let is_git = |zone: &&Zone| zone.kind.denies_links();
        let git_zones: Vec<Zone> = zones.iter().filter(is_git).cloned().collect();
        let last_check = SystemTime::now();
        let mut survey = Self {
            last_check,
            directories: HashMap::new(),
            quarantined: HashMap::new(),
            of_user: HashMap::new(),
            max_directories,
            is_complete: true,
        };
        survey.search(&git_zones, closed, None, |_| false);
        survey
    }

    /// Returns the entries that zones deny and that commands have brought there since `since`.
    /// `is_fixed` names the entries that no command can create.
    pub(super) fn new_entries(
        &mut self,
        zones: &[Zone],
        closed: &HashSet<PathBuf>,
        since: SystemTime,
        is_fixed: impl Fn(&Path) -> bool,
    ) -> Vec<NewEntry> {
        let began = SystemTime::now();
        let times = Times { since, last_check: self.last_check };
        let found = self.search(zones, closed, Some(times), is_fixed);
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
        closed: &HashSet<PathBuf>,
        times: Option<Times>,
        is_fixed: impl Fn(&Path) -> bool,
    ) -> Vec<NewEntry> {
        let kinds: HashMap<&Path, ZoneKind> =
            zones.iter().map(|zone| (zone.dir.as_path(), zone.kind)).collect();
        let mut rest = beginnings(zones, &kinds);
        let mut search = Search {
            before: std::mem::take(&mut self.directories),
            times,
            began: SystemTime::now(),
            is_fixed,
            quarantined: &self.quarantined,
            of_user: &mut self.of_user,
            found: Vec::new(),
            is_complete: true,
        };
        while let Some(Pending { path, around, is_moved, is_known }) = rest.pop_front() {
            let own = kinds.get(path.as_path()).copied();
            let zone = InZone { kind: own.unwrap_or(around), is_git_dir: own == GIT_DIRECTORY };
            let is_done = self.directories.contains_key(&path);
            if zone.kind == ZoneKind::Free || is_done || closed.contains(&path) {
                continue;
            }
            let is_full = self.directories.len() >= self.max_directories;
            search.is_complete &= !is_full;
            if is_full && !is_known {
                break;
            }
            let Some((directory, is_moved)) = search.visit(&path, zone, is_moved) else { continue };
            let is_parent_git = path.parent().and_then(|above| kinds.get(above)).copied();
            let has_only_content = path.ends_with("objects") && is_parent_git == GIT_DIRECTORY;
            // Git writes no file in these directories that exists already.
            let is_content =
                |name: &&OsString| has_only_content && (name.len() == 2 || *name == "pack");
            for name in directory.below.iter().filter(|name| !is_content(name)) {
                let is_known = is_known && (!zone.is_git_dir || KNOWN.iter().any(|it| name == it));
                let path = path.join(name);
                let below = Pending { path, around: zone.kind, is_moved, is_known };
                match is_known {
                    true => rest.push_front(below),
                    false => rest.push_back(below),
                }
            }
            if !is_full {
                self.directories.insert(path, directory);
            }
        }
        self.is_complete = search.is_complete;
        search.found
    }
}

/// A directory that is not yet searched.
struct Pending {
    path: PathBuf,
    /// Kind of the zone around it.
    around: ZoneKind,
    /// A directory above was moved since the last search.
    is_moved: bool,
    /// Git itself uses it.
    is_known: bool,
}

/// Returns the git directories, then the outermost directories of the other zones.
fn beginnings(zones: &[Zone], kinds: &HashMap<&Path, ZoneKind>) -> VecDeque<Pending> {
    let is_outermost = |zone: &&Zone| {
        let mut above = zone.dir.ancestors().skip(1).filter_map(|dir| kinds.get(dir));
        zone.kind != ZoneKind::Free && above.next().is_none_or(|kind| *kind == ZoneKind::Free)
    };
    let git = zones.iter().filter(|zone| Some(zone.kind) == GIT_DIRECTORY).map(|it| (it, true));
    let outermost = zones.iter().filter(is_outermost).map(|zone| (zone, false));
    let begin = |(zone, is_known): (&Zone, bool)| Pending {
        path: zone.dir.clone(),
        around: zone.kind,
        is_moved: false,
        is_known,
    };
    git.chain(outermost).map(begin).collect()
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
    of_user: &'s mut HashMap<PathBuf, (FileId, SystemTime)>,
    found: Vec<NewEntry>,
    is_complete: bool,
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
            Err(Errno::NOENT | Errno::NOTDIR) => return None,
            // The directory may be there, and one above it denies access.
            Err(_) => {}
        }
        let listed = open_readable(path).and_then(|dir| {
            // The directory may change while it is listed, so its time is read before.
            let found = stat(&dir, "")?;
            entries(&dir).map(|entries| (dir, found, entries))
        });
        let (dir, found, entries) = match listed {
            Ok(listed) => listed,
            Err(errno) => {
                self.pass_over(path, zone, errno);
                return None;
            }
        };
        let (id, changed) = (FileId::of(&found), changed(&found));
        let is_new = self.times.is_some_and(|times| changed >= times.since);
        // A directory that was there at the last search has not come with one above it.
        let is_moved = known.as_ref().map_or(is_parent_moved || is_new, |known| known.id != id);
        let was_repository = known.is_some_and(|known| known.id == id && known.is_repository);
        let mut is_repository = !zone.is_git_dir && is_repository(&entries);
        if self.times.is_none() {
            self.record(path, zone, &dir, &entries);
        }
        if let Some(times) = self.times.filter(|_| is_new || is_moved) {
            for (name, file_type) in &entries {
                let is_head = is_repository && name == REPOSITORY[0];
                if !is_denied(zone.kind, name, *file_type, is_head) {
                    continue;
                }
                let entry_path = path.join(name);
                let Ok(entry) = stat(&dir, name) else { continue };
                let (id, changed) = (FileId::of(&entry), super::changes::changed(&entry));
                let is_quarantined = self.quarantined.get(&entry_path) == Some(&id);
                let is_of_user = self.of_user.get(&entry_path) == Some(&(id, changed));
                if is_quarantined || is_of_user || (self.is_fixed)(&entry_path) {
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
            *file_type == FileType::Directory && (name != UNSEARCHED || zone.kind.denies_links())
        };
        let below = entries.into_iter().filter(is_searched).map(|(name, _)| name).collect();
        let is_settled = changed + LAG < self.began;
        Some((Directory { id, changed, is_settled, is_repository, below }, is_moved))
    }

    /// Records the denied entries of the user in a directory.
    fn record(
        &mut self,
        path: &Path,
        zone: InZone,
        dir: &OwnedFd,
        entries: &[(OsString, FileType)],
    ) {
        for (name, _) in
            entries.iter().filter(|(name, kind)| is_denied(zone.kind, name, *kind, false))
        {
            if let Ok(entry) = stat(dir, name) {
                self.of_user.insert(path.join(name), (FileId::of(&entry), changed(&entry)));
            }
        }
    }

    /// Decides about a directory that cannot be listed. Git may reach one with a long path from a
    /// directory above, so it is quarantined.
    fn pass_over(&mut self, path: &Path, zone: InZone, errno: Errno) {
        match errno {
            Errno::NAMETOOLONG if zone.kind.denies_links() => {
                if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                    && let Ok(dir) = open_directory(parent)
                {
                    self.found.push((dir, parent.to_owned(), name.to_owned()));
                }
            }
            Errno::NAMETOOLONG => {}
            errno => self.is_complete &= is_unreachable(errno),
        }
    }
}

/// Returns whether an error tells that no command reaches a directory at its path: it is gone, or
/// that of another user.
pub(super) fn is_unreachable(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS)
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
        let found = survey.new_entries(zones, &HashSet::new(), since, |path| path == mounted);
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
        let [all, unmounted, none] =
            [(); 3].map(|()| Survey::with_limit(&zones, &HashSet::new(), MAX_DIRECTORIES));
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

    #[test]
    fn places_of_git_are_searched_beyond_the_limit_and_the_search_is_incomplete() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let git = root.join(".git");
        fs::create_dir_all(git.join("logs/refs/heads")).unwrap();
        let zones =
            [(git.clone(), ZoneKind::GitDirectory), (root.clone(), ZoneKind::NoNewRepositories)];
        let zones = zones.map(|(dir, kind)| Zone { dir, kind });
        symlink("x", git.join("of-user")).unwrap();
        let none = HashSet::new();
        let mut survey = Survey::with_limit(&zones, &none, 20);
        let since = SystemTime::now() - LAG;
        assert!(survey.new_entries(&zones, &none, since, |_| false).is_empty());
        assert!(survey.is_complete);
        for number in 0..40 {
            fs::create_dir_all(git.join(format!("zz/{number}"))).unwrap();
            fs::create_dir_all(git.join(format!("logs/{number}/deep"))).unwrap();
        }
        fs::create_dir_all(git.join("logs/refs/node_modules")).unwrap();
        let links = ["logs/refs/heads/main", "logs/refs/node_modules/x"].map(|it| git.join(it));
        for link in &links {
            symlink("x", link).unwrap();
        }
        let found = survey.new_entries(&zones, &none, since, |_| false);
        let mut found: Vec<_> = found.iter().map(|(_, dir, name)| dir.join(name)).collect();
        found.sort();
        assert_eq!(found, links);
        assert!(!survey.is_complete);
        // What is closed need not be searched.
        let closed = HashSet::from([git.join("zz"), git.join("logs")]);
        survey.new_entries(&zones, &closed, since, |_| false);
        assert!(survey.is_complete);
    }
}
