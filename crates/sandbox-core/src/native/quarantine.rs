//! Quarantine of paths that commands created although the policy denies it.
//!
//! Init denies such a creation early (`init/creation.rs`). But it relies on the arguments of the
//! system call, which a command can change in a race. So the host checks the denied paths again
//! after every process of a command has exited. One or two system calls suffice for a whole policy,
//! because the modification time of a directory shows whether a name in it is new.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use policy::{Access, DeniedPath, MountPlan};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::indexes;
use super::zones;
use crate::files::{by_descriptor, remove_tree, with_access};
use crate::internal::lock;
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// Lag of file times behind the clock: one tick of the kernel, 10 ms at most, doubled.
const LAG: Duration = Duration::from_millis(20);
/// Number of readable new names tried for one path, before random ones.
const MAX_NAMES: u32 = 100;
/// Number of random new names tried for one path.
const MAX_RANDOM_NAMES: u32 = 4;
/// Maximum length of the part of the old name that the new name keeps.
const MAX_NAME_BYTES: usize = 220;
/// Number of times that a path is cleared while another process creates it again.
const MAX_ROUNDS: u32 = 8;

/// Start time of the oldest command whose created paths are unchecked.
#[derive(Debug, Default)]
pub(super) struct Unchecked(Mutex<Option<SystemTime>>);

impl Unchecked {
    /// Records the start of a command whose exit may not be reported. Such a command was cancelled,
    /// or runs on streams of another process.
    pub(super) fn record(&self, started: SystemTime) {
        lock(&self.0).get_or_insert(started);
    }

    /// Returns the start time of the oldest such command.
    pub(super) fn began(&self) -> Option<SystemTime> {
        *lock(&self.0)
    }

    /// Returns the time since which files are unchecked, for a command that started at `started`.
    pub(super) fn since(&self, started: SystemTime) -> SystemTime {
        let started = self.began().map_or(started, |earlier| earlier.min(started));
        started.checked_sub(LAG).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Renames entries that zones deny and that were created since a command started. Takes some
    /// microseconds for each directory of the zones.
    pub(super) fn quarantine_in_zones(
        &self,
        plan: &MountPlan,
        started: SystemTime,
    ) -> Vec<Quarantined> {
        let is_fixed = |path: &Path| {
            plan.ops.iter().any(|op| op.path() == Some(path)) || !plan.allows(path, Access::Write)
        };
        let found = zones::new_entries(&plan.creation_rules.zones, self.since(started), is_fixed);
        found.iter().filter_map(|(dir, parent, name)| clear(dir, parent, name)).collect()
    }

    /// Renames indexes of git that commands have written since a command started, and that would
    /// lead git out of a work tree.
    pub(super) fn quarantine_indexes(
        &self,
        plan: &MountPlan,
        started: SystemTime,
    ) -> Vec<Quarantined> {
        let found = indexes::flawed(plan, self.since(started));
        let clear = |found: indexes::Flawed| {
            let cleared = clear(&found.dir, &found.parent, &found.name)?;
            Some(Quarantined { reason: Some(found.reason), ..cleared })
        };
        found.into_iter().filter_map(clear).collect()
    }

    /// Renames files that were created at denied paths since a command started, or since the oldest
    /// unchecked command did. Older files stay: no command created them.
    pub(super) fn quarantine(
        &self,
        denied: &[DeniedPath],
        started: SystemTime,
    ) -> Vec<Quarantined> {
        let since = self.since(started);
        let mut quarantined = Vec::new();
        for in_one_dir in denied.chunk_by(|a, b| a.dir == b.dir) {
            let Some(first) = in_one_dir.first() else { continue };
            match open_directory(&first.dir) {
                Ok(dir) => {
                    let was_modified = stat(&dir, "").is_ok_and(|stat| changed(&stat) >= since);
                    for DeniedPath { rest, .. } in in_one_dir {
                        let is_deep = rest.components().nth(1).is_some();
                        if was_modified || is_deep {
                            quarantined.extend(check(&dir, &first.dir, rest, since));
                        }
                    }
                }
                // A file or a symlink has replaced the directory or one above it.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    if let Ok(root) = rustix::fs::open("/", DIRECTORY, Mode::empty()) {
                        let below = first.dir.strip_prefix("/").unwrap_or(&first.dir);
                        quarantined.extend(check(&root, Path::new("/"), below, since));
                    }
                }
                // The directory is gone, with everything in it.
                Err(Errno::NOENT) => {}
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
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(super) fn stat(dir: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::CTIME;
    rustix::fs::statx(dir, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// Returns the time of an inode's last change, which no process can set.
pub(super) fn changed(stat: &Statx) -> SystemTime {
    let (seconds, nanoseconds) = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds)
}

/// Opens a directory whose path contains no symlink, although a directory above may deny access to
/// its owner.
pub(super) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, DIRECTORY, Mode::empty(), resolve) {
        // Kernels before 5.6 lack the call, and concurrent renames interfere with it.
        Err(Errno::ACCESS | Errno::NOSYS | Errno::AGAIN) => {}
        other => return other,
    }
    let mut at = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
    for name in path.strip_prefix("/").unwrap_or(path) {
        at = with_access(&at, || rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()))?;
    }
    Ok(at)
}

/// Walks from `dir` along `rest` while the components are directories. Moves aside the file at the
/// end, or a symlink on the way, if it has changed since `since`.
fn check(dir: &OwnedFd, path: &Path, rest: &Path, since: SystemTime) -> Option<Quarantined> {
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
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return None,
            Err(_) => return unknown(&path.join(name)),
        };
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if names.peek().is_none() || kind == FileType::Symlink {
            return if changed(&found) >= since { clear(dir, &path, name) } else { None };
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
    }
    None
}

/// Removes the entry `name` of a directory from its denied path. Moves it aside if possible, and
/// deletes it otherwise. Returns `None` if it is gone already.
pub(super) fn clear(dir: &OwnedFd, parent: &Path, name: &OsStr) -> Option<Quarantined> {
    let path = parent.join(name);
    let mut cleared = None;
    for _ in 0..MAX_ROUNDS {
        let outcome = match move_aside(dir, name) {
            Ok(new_name) => {
                let moved_to = Some(parent.join(new_name));
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

/// Renames a file within its directory, and returns its new name. The content is preserved, but no
/// program finds it under the denied name.
fn move_aside(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<OsString> {
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
        let bytes = without_suffix(name.as_bytes());
        let kept = &bytes[..bytes.len().min(MAX_NAME_BYTES)];
        let new_name = OsString::from_vec([kept, suffix.as_bytes()].concat());
        let rename =
            || rustix::fs::renameat_with(dir, name, dir, &new_name, RenameFlags::NOREPLACE);
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
    use std::path::PathBuf;

    use super::*;

    fn denied(dir: &Path, rest: &str) -> DeniedPath {
        DeniedPath { dir: dir.to_owned(), rest: rest.into() }
    }

    fn quarantined(denied: &[DeniedPath], since: SystemTime) -> Vec<(PathBuf, Option<PathBuf>)> {
        Unchecked::default()
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
        let started = SystemTime::now();
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
    fn an_older_file_stays_unless_an_earlier_exit_was_not_reported() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let before = SystemTime::now();
        fs::write(dir.join("a"), "").unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        let unchecked = Unchecked::default();
        assert!(unchecked.quarantine(&[denied(&dir, "a")], later).is_empty());
        unchecked.record(before);
        assert_eq!(unchecked.quarantine(&[denied(&dir, "a")], later).len(), 1);
    }

    #[test]
    fn a_path_with_every_readable_name_taken_gets_a_random_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let started = SystemTime::now();
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
            let test = "native::quarantine::tests::\
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
        let started = SystemTime::now();
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

    #[test]
    fn a_symlink_that_replaced_the_directory_is_quarantined() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let dir = root.join("dir");
        fs::create_dir(&dir).unwrap();
        let started = SystemTime::now();
        fs::rename(&dir, root.join("other")).unwrap();
        fs::write(root.join("other/a"), "").unwrap();
        std::os::unix::fs::symlink("other", &dir).unwrap();
        let found = quarantined(&[denied(&dir, "a")], started);
        assert_eq!(found, [(dir.clone(), Some(root.join("dir.refused")))]);
        assert!(root.join("other/a").exists());
    }
}
