//! Search for files that commands created at paths that the policy denies.
//!
//! Init denies such a creation early (`init/creation.rs`). But it relies on the arguments of the
//! system call, which a command can change in a race. So the host checks the denied paths again
//! after every process of a command has exited. One or two system calls suffice for a whole policy,
//! because the modification time of a directory shows whether a name in it is new.
//!
//! A directory that was moved brings older files with it. In a directory that is not the one of the
//! last check, a file is therefore also new if it is older than that check.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::{DeniedPath, MountPlan};
use rustix::fs::{FileType, Mode, Statx};
use rustix::io::Errno;

use super::changes::{DIRECTORY, FileId, Times, changed, open_directory, stat};
use super::quarantine::clear;
use crate::files::with_access;
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// The directories of denied paths, as the last check has found them.
#[derive(Debug)]
pub(super) struct DeniedDirectories {
    last_check: SystemTime,
    known: HashMap<PathBuf, FileId>,
    /// Files at denied paths before the first command, each with the time of its last change.
    of_user: HashMap<PathBuf, (FileId, SystemTime)>,
}

impl DeniedDirectories {
    /// Records the directories before the first command.
    pub(super) fn of(plan: &MountPlan) -> Self {
        let (known, of_user) = (HashMap::new(), HashMap::new());
        let mut directories = Self { last_check: SystemTime::now(), known, of_user };
        for in_one_dir in plan.creation_rules.denied_paths.chunk_by(|a, b| a.dir == b.dir) {
            if let Some(first) = in_one_dir.first()
                && let Ok(dir) = open_directory(&first.dir)
                && let Ok(stat) = stat(&dir, "")
            {
                directories.is_moved(&first.dir, &stat);
                for denied in in_one_dir {
                    directories.record(&dir, denied);
                }
            }
        }
        directories
    }

    /// Records the files of the user at a denied path and on the way to it, such as a symlink that
    /// leads nowhere.
    fn record(&mut self, dir: &OwnedFd, denied: &DeniedPath) {
        for rest in denied.rest.ancestors().filter(|rest| !rest.as_os_str().is_empty()) {
            if let Ok(stat) = stat(dir, rest) {
                let state = (FileId::of(&stat), changed(&stat));
                self.of_user.insert(denied.dir.join(rest), state);
            }
        }
    }

    /// Renames files that commands have brought to denied paths since `since`. Other files stay.
    pub(super) fn quarantine(
        &mut self,
        denied: &[DeniedPath],
        since: SystemTime,
    ) -> Vec<Quarantined> {
        let mut quarantined = Vec::new();
        let began = SystemTime::now();
        let times = Times { since, last_check: std::mem::replace(&mut self.last_check, began) };
        for in_one_dir in denied.chunk_by(|a, b| a.dir == b.dir) {
            let Some(first) = in_one_dir.first() else { continue };
            match open_directory(&first.dir) {
                Ok(dir) => {
                    let stat = stat(&dir, "");
                    let is_moved = stat.as_ref().is_ok_and(|stat| self.is_moved(&first.dir, stat));
                    let was_modified = stat.is_ok_and(|stat| changed(&stat) >= since);
                    for DeniedPath { rest, .. } in in_one_dir {
                        let is_deep = rest.components().nth(1).is_some();
                        if was_modified || is_moved || is_deep {
                            quarantined.extend(self.check(&dir, &first.dir, rest, times, is_moved));
                        }
                    }
                }
                // A file or a symlink has replaced the directory or one above it.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    if let Ok(root) = rustix::fs::open("/", DIRECTORY, Mode::empty()) {
                        let below = first.dir.strip_prefix("/").unwrap_or(&first.dir);
                        let root_path = Path::new("/");
                        quarantined.extend(self.check(&root, root_path, below, times, false));
                    }
                }
                // The directory is gone, with everything in it.
                Err(Errno::NOENT) => {
                    self.known.remove(&first.dir);
                }
                // No command has more access to the directory of another user.
                Err(Errno::ACCESS) => {}
                Err(_) => quarantined.extend(in_one_dir.iter().map(|denied| Quarantined {
                    path: denied.path(),
                    moved_to: None,
                    outcome: QuarantineOutcome::Unknown,
                    reason: None,
                })),
            }
        }
        quarantined
    }

    /// Records a directory. Returns whether another one was at its path before.
    fn is_moved(&mut self, path: &Path, stat: &Statx) -> bool {
        let id = FileId::of(stat);
        match self.known.get_mut(path) {
            Some(known) => std::mem::replace(known, id) != id,
            None => {
                self.known.insert(path.to_owned(), id);
                false
            }
        }
    }

    /// Walks from `dir` along `rest` while the components are directories. Moves aside the file at
    /// the end, or a symlink on the way, if it is new.
    fn check(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        rest: &Path,
        times: Times,
        mut is_moved: bool,
    ) -> Option<Quarantined> {
        let mut path = path.to_owned();
        let mut opened: Option<OwnedFd> = None;
        let mut names = rest.iter().peekable();
        let unknown = |path: &Path| {
            let outcome = QuarantineOutcome::Unknown;
            Some(Quarantined { path: path.to_owned(), moved_to: None, outcome, reason: None })
        };
        while let Some(name) = names.next() {
            let dir = opened.as_ref().unwrap_or(dir);
            let found = match with_access(dir, || stat(dir, name)) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {
                    self.known.remove(&path.join(name));
                    return None;
                }
                Err(_) => return unknown(&path.join(name)),
            };
            let kind = FileType::from_raw_mode(found.stx_mode.into());
            if names.peek().is_none() || kind == FileType::Symlink {
                let state = (FileId::of(&found), changed(&found));
                let is_of_user = self.of_user.get(&path.join(name)) == Some(&state);
                let is_new = !is_of_user && times.is_new(&found, is_moved);
                return if is_new { clear(dir, &path, name) } else { None };
            }
            let open = || rustix::fs::openat(dir, name, DIRECTORY, Mode::empty());
            let below = match with_access(dir, open) {
                Ok(below) => below,
                // No directory, so nothing is below.
                Err(Errno::NOENT | Errno::NOTDIR) => return None,
                Err(_) => return unknown(&path.join(name)),
            };
            opened = Some(below);
            path.push(name);
            // The policy was compiled when the directory did not exist.
            let is_first = !self.known.contains_key(&path);
            is_moved |=
                self.is_moved(&path, &found) || (is_first && changed(&found) >= times.since);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::time::Duration;

    use super::super::outstanding::LAG;
    use super::*;

    fn denied(dir: &Path, rest: &str) -> DeniedPath {
        DeniedPath { dir: dir.to_owned(), rest: rest.into() }
    }

    fn directories() -> DeniedDirectories {
        DeniedDirectories::of(&MountPlan::default())
    }

    fn quarantined(denied: &[DeniedPath], since: SystemTime) -> Vec<(PathBuf, Option<PathBuf>)> {
        directories()
            .quarantine(denied, since)
            .into_iter()
            .map(|moved| (moved.path, moved.moved_to))
            .collect()
    }

    #[test]
    fn a_file_created_at_a_denied_path_is_renamed_and_keeps_its_content() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let rules = [
            denied(&dir, "a"),
            denied(&dir, "deep/er/b"),
            denied(&dir, "link/c"),
            denied(&dir, "none"),
        ];
        let started = SystemTime::now() - LAG;
        assert_eq!(quarantined(&rules, started), []);
        fs::write(dir.join("a"), "content").unwrap();
        fs::write(dir.join("a.refused"), "older").unwrap();
        fs::create_dir_all(dir.join("deep/er/b/inside")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
        let moved = |from: &str, to: &str| (dir.join(from), Some(dir.join(to)));
        assert_eq!(
            quarantined(&rules, started),
            [
                moved("a", "a.refused-2"),
                moved("deep/er/b", "deep/er/b.refused"),
                moved("link", "link.refused")
            ]
        );
        assert_eq!(fs::read_to_string(dir.join("a.refused-2")).unwrap(), "content");
        assert_eq!(quarantined(&rules, started), []);
        // A file that is quarantined again keeps one suffix.
        let again = [denied(&dir, "a.refused"), denied(&dir, "a.refused-2")];
        let moved_again = [moved("a.refused", "a.refused-3"), moved("a.refused-2", "a.refused")];
        assert_eq!(quarantined(&again, started), moved_again);
    }

    #[test]
    fn a_file_that_was_there_before_the_first_command_is_the_users() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let started = SystemTime::now() - LAG;
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("way")).unwrap();
        let denied = [denied(&dir, "link"), denied(&dir, "way/on")];
        let mut plan = MountPlan::default();
        plan.creation_rules.denied_paths = denied.to_vec();
        let mut directories = DeniedDirectories::of(&plan);
        assert!(directories.quarantine(&denied, started).is_empty());
        // The link of a command at the same path is another file.
        fs::write(dir.join("other"), "").unwrap();
        fs::rename(dir.join("other"), dir.join("link")).unwrap();
        let found = directories.quarantine(&denied, started);
        assert_eq!(found.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), [dir.join("link")]);
    }

    #[test]
    fn an_older_file_is_new_only_if_it_came_with_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let denied =
            [denied(&dir, "a"), denied(&dir, "on/way/b"), denied(&dir.join("swapped"), "c")];
        for file in ["a", "elsewhere/way/b", "other/c", "swapped/d"] {
            testkit::write_file(&dir, file, "");
        }
        let mut plan = MountPlan::default();
        plan.creation_rules.denied_paths = denied.to_vec();
        let mut directories = DeniedDirectories::of(&plan);
        let later = SystemTime::now() + Duration::from_secs(1);
        assert!(directories.quarantine(&denied, later).is_empty());
        // The clock of the file system advances in ticks.
        let created = changed(&stat(open_directory(&dir).unwrap(), "other/c").unwrap());
        while changed(&stat(open_directory(&dir).unwrap(), "a").unwrap()) <= created {
            fs::write(dir.join("a"), "").unwrap();
        }
        fs::rename(dir.join("elsewhere"), dir.join("on")).unwrap();
        fs::rename(dir.join("swapped"), dir.join("gone")).unwrap();
        fs::rename(dir.join("other"), dir.join("swapped")).unwrap();
        // The time of the move is the only new one.
        let moved = changed(&stat(open_directory(&dir).unwrap(), "on").unwrap());
        let found = directories.quarantine(&denied[1..], moved);
        let found: Vec<_> = found.into_iter().map(|moved| moved.path).collect();
        assert_eq!(found, [dir.join("on/way/b"), dir.join("swapped/c")]);
        assert!(dir.join("a").exists());
    }

    #[test]
    fn a_path_with_every_readable_name_taken_gets_a_random_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let started = SystemTime::now() - LAG;
        fs::write(dir.join("a"), "content").unwrap();
        fs::write(dir.join("a.refused"), "").unwrap();
        for number in 2..=1_000 {
            fs::write(dir.join(format!("a.refused-{number}")), "").unwrap();
        }
        let found = quarantined(&[denied(&dir, "a")], started);
        let [(_, Some(moved_to))] = &found[..] else { panic!("{found:?}") };
        assert_eq!(fs::read_to_string(moved_to).unwrap(), "content");
        assert!(!dir.join("a").exists());
    }

    #[test]
    fn closed_directories_and_names_that_are_not_utf_8_are_no_obstacle() {
        // Root ignores modes, so an ordinary user runs the test.
        if rustix::process::geteuid().is_root() {
            let test = "native::denied_paths::tests::\
                        closed_directories_and_names_that_are_not_utf_8_are_no_obstacle";
            return testkit::rerun_as_ordinary_user(test, "closed directories");
        }
        use std::os::unix::fs::PermissionsExt;
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let name = OsStr::from_bytes(&[b'\xff'; 250]);
        let started = SystemTime::now() - LAG;
        fs::create_dir_all(dir.join("closed/deep")).unwrap();
        fs::write(dir.join("closed/a"), "a").unwrap();
        fs::write(dir.join("closed/deep").join(name), "b").unwrap();
        set(&dir.join("closed/deep"), 0o000);
        set(&dir.join("closed"), 0o444);
        let rules = [
            DeniedPath { dir: dir.clone(), rest: Path::new("closed/deep").join(name) },
            denied(&dir.join("closed"), "a"),
        ];
        let found = quarantined(&rules, started);
        assert!(found.len() == 2 && found.iter().all(|(_, to)| to.is_some()), "{found:?}");
        assert_eq!(fs::metadata(dir.join("closed")).unwrap().permissions().mode() & 0o777, 0o444);
        set(&dir.join("closed"), 0o755);
        set(&dir.join("closed/deep"), 0o755);
        assert!(!dir.join("closed/a").exists() && !dir.join("closed/deep").join(name).exists());
    }

    #[test]
    fn a_symlink_that_replaced_the_directory_is_quarantined() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let dir = root.join("dir");
        fs::create_dir(&dir).unwrap();
        let started = SystemTime::now() - LAG;
        fs::rename(&dir, root.join("other")).unwrap();
        fs::write(root.join("other/a"), "").unwrap();
        std::os::unix::fs::symlink("other", &dir).unwrap();
        let found = quarantined(&[denied(&dir, "a")], started);
        assert_eq!(found, [(dir.clone(), Some(root.join("dir.refused")))]);
        assert!(root.join("other/a").exists());
    }
}
