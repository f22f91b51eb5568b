//! Quarantine of paths that commands created although the policy denies it.
//!
//! Init denies such a creation early (`init/notify.rs`). But it relies on the arguments of the
//! system call, which a command can change in a race. So the host checks the denied paths again
//! after every process of a command has exited. One or two system calls suffice for a whole policy,
//! because the modification time of a directory shows whether a name in it is new.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use policy::DeniedPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::internal::lock;
use crate::sandbox::Quarantined;

/// Lag of file times behind the clock: one tick of the kernel, 10 ms at most, doubled.
const LAG: Duration = Duration::from_millis(20);
/// Number of new names tried for one path.
const MAX_NAMES: u32 = 1000;
/// Maximum length of the part of the old name that the new name keeps.
const MAX_NAME_BYTES: usize = 240;

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

    /// Renames files that were created at denied paths since a command started, or since the oldest
    /// unchecked command did. Older files stay: no command created them.
    pub(super) fn quarantine(
        &self,
        denied: &[DeniedPath],
        started: SystemTime,
    ) -> Vec<Quarantined> {
        let started = self.began().map_or(started, |earlier| earlier.min(started));
        let since = started.checked_sub(LAG).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut quarantined = Vec::new();
        for in_one_dir in denied.chunk_by(|a, b| a.dir == b.dir) {
            let Some(first) = in_one_dir.first() else { continue };
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let (cwd, no_mode) = (rustix::fs::CWD, Mode::empty());
            match rustix::fs::openat2(cwd, &first.dir, DIRECTORY, no_mode, resolve) {
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
                    if let Ok(root) = rustix::fs::open("/", DIRECTORY, no_mode) {
                        let below = first.dir.strip_prefix("/").unwrap_or(&first.dir);
                        quarantined.extend(check(&root, Path::new("/"), below, since));
                    }
                }
                // The directory is gone, with everything in it.
                Err(_) => {}
            }
        }
        quarantined
    }
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn stat(dir: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::CTIME;
    rustix::fs::statx(dir, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// Returns the time of an inode's last change, which no process can set.
fn changed(stat: &Statx) -> SystemTime {
    let (seconds, nanoseconds) = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds)
}

/// Walks from `dir` along `rest` while the components are directories. Moves aside the file at the
/// end, or a symlink on the way, if it has changed since `since`.
fn check(dir: &OwnedFd, path: &Path, rest: &Path, since: SystemTime) -> Option<Quarantined> {
    let mut path = path.to_owned();
    let mut opened: Option<OwnedFd> = None;
    let mut names = rest.iter().peekable();
    while let Some(name) = names.next() {
        let dir = opened.as_ref().unwrap_or(dir);
        let found = stat(dir, name).ok()?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if names.peek().is_none() || kind == FileType::Symlink {
            return (changed(&found) >= since).then(|| move_aside(dir, &path, name));
        }
        opened = Some(rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).ok()?);
        path.push(name);
    }
    None
}

/// Renames a file within its directory. The content is preserved, but no program finds it under the
/// denied name.
fn move_aside(dir: &OwnedFd, parent: &Path, name: &OsStr) -> Quarantined {
    let bytes = name.as_encoded_bytes();
    let kept = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME_BYTES)]).into_owned();
    let path = parent.join(name);
    for number in 1..=MAX_NAMES {
        let new_name = if number == 1 {
            format!("{kept}.refused")
        } else {
            format!("{kept}.refused-{number}")
        };
        match rustix::fs::renameat_with(dir, name, dir, &new_name, RenameFlags::NOREPLACE) {
            Ok(()) => return Quarantined { path, moved_to: Some(parent.join(new_name)) },
            Err(Errno::EXIST) => {}
            Err(_) => break,
        }
    }
    Quarantined { path, moved_to: None }
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
