//! What has come into being at a path where the policy allows nothing, and is taken away when the
//! command that made it has ended.
//!
//! Init refuses such names at once (`init/guard.rs`), but rests on what a command says, which it
//! can change in a race. So whoever ends a command looks at those paths afterwards, when nobody of
//! it is alive: a look or two for a whole policy, since a directory in which nothing was made says
//! so by its time.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use policy::DeniedPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::sandbox::Quarantined;

/// The kernel's times of files lag behind the clock by up to one tick, 10 ms at most.
const LAG: Duration = Duration::from_millis(20);
/// How many names are tried for what is taken away.
const MAX_NAMES: u32 = 1000;
/// The longest name that still has room for what marks it.
const MAX_NAME_BYTES: usize = 240;

/// Since when something may have been made that nobody has looked for.
#[derive(Debug, Default)]
pub(super) struct Unchecked(Mutex<Option<SystemTime>>);

impl Unchecked {
    /// A command begins whose end may not be heard: it may have been cancelled, or runs on streams
    /// of others.
    pub(super) fn begin(&self, started: SystemTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(started);
    }

    /// Since when there are such commands, if there are.
    pub(super) fn begun(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From when on to look, for a command that began then.
    fn since(&self, started: SystemTime) -> SystemTime {
        self.begun().map_or(started, |earlier| earlier.min(started))
    }

    /// Takes away what was made at refused paths since a command began. What stood there before is
    /// somebody else's.
    pub(super) fn quarantine(
        &self,
        refused: &[DeniedPath],
        started: SystemTime,
    ) -> Vec<Quarantined> {
        let since = self.since(started).checked_sub(LAG).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut quarantined = Vec::new();
        for of_one in refused.chunk_by(|a, b| a.dir == b.dir) {
            let Some(first) = of_one.first() else { continue };
            let flags = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(
                rustix::fs::CWD,
                &first.dir,
                directory(),
                Mode::empty(),
                flags,
            ) {
                Ok(dir) => {
                    let was_written_to = stat(&dir, "").is_ok_and(|stat| changed(&stat) >= since);
                    for DeniedPath { rest, .. } in of_one {
                        let is_deep = rest.components().nth(1).is_some();
                        if was_written_to || is_deep {
                            quarantined.extend(look(&dir, &first.dir, rest, since));
                        }
                    }
                }
                // Somebody has put something else in the place of the directory, or of one above
                // it.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    if let Ok(root) = rustix::fs::open("/", directory(), Mode::empty()) {
                        let below = first.dir.strip_prefix("/").unwrap_or(&first.dir);
                        quarantined.extend(look(&root, Path::new("/"), below, since));
                    }
                }
                // It is gone, and with it what could stand in it.
                Err(_) => {}
            }
        }
        quarantined
    }
}

fn directory() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn stat(dir: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::CTIME;
    rustix::fs::statx(dir, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// When an inode last changed; nobody can set that.
fn changed(stat: &Statx) -> SystemTime {
    let (seconds, nanoseconds) = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds)
}

/// Follows a path from a directory on as far as there are directories, and takes away what stands
/// at its end, or a symlink on the way.
fn look(dir: &OwnedFd, at: &Path, rest: &Path, since: SystemTime) -> Option<Quarantined> {
    let mut at = at.to_owned();
    let mut opened: Option<OwnedFd> = None;
    let mut names = rest.iter().peekable();
    while let Some(name) = names.next() {
        let dir = opened.as_ref().unwrap_or(dir);
        let found = stat(dir, name).ok()?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if names.peek().is_none() || kind == FileType::Symlink {
            return (changed(&found) >= since).then(|| move_aside(dir, &at, name));
        }
        opened = Some(rustix::fs::openat(dir, name, directory(), Mode::empty()).ok()?);
        at.push(name);
    }
    None
}

/// Gives it another name in the same directory: nothing of it is lost, and nobody takes it for what
/// it claimed to be.
fn move_aside(dir: &OwnedFd, at: &Path, name: &OsStr) -> Quarantined {
    let bytes = name.as_encoded_bytes();
    let kept = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME_BYTES)]).into_owned();
    let path = at.join(name);
    for number in 1..=MAX_NAMES {
        let other = if number == 1 {
            format!("{kept}.refused")
        } else {
            format!("{kept}.refused-{number}")
        };
        match rustix::fs::renameat_with(dir, name, dir, &other, RenameFlags::NOREPLACE) {
            Ok(()) => return Quarantined { path, moved_to: Some(at.join(other)) },
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

    fn refused(dir: &Path, rest: &str) -> DeniedPath {
        DeniedPath { dir: dir.to_owned(), rest: rest.into() }
    }

    fn taken(refused: &[DeniedPath], since: SystemTime) -> Vec<(PathBuf, Option<PathBuf>)> {
        Unchecked::default()
            .quarantine(refused, since)
            .into_iter()
            .map(|it| (it.path, it.moved_to))
            .collect()
    }

    #[test]
    fn what_arose_at_a_refused_path_gets_another_name_and_keeps_its_content() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let rules = [
            refused(&dir, "a"),
            refused(&dir, "deep/er/b"),
            refused(&dir, "link/c"),
            refused(&dir, "none"),
        ];
        let started = SystemTime::now();
        assert_eq!(taken(&rules, started), []);
        fs::write(dir.join("a"), "content").unwrap();
        fs::write(dir.join("a.refused"), "older").unwrap();
        fs::create_dir_all(dir.join("deep/er/b/inside")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
        let moved = |from: &str, to: &str| (dir.join(from), Some(dir.join(to)));
        assert_eq!(
            taken(&rules, started),
            [
                moved("a", "a.refused-2"),
                moved("deep/er/b", "deep/er/b.refused"),
                moved("link", "link.refused")
            ]
        );
        assert_eq!(fs::read_to_string(dir.join("a.refused-2")).unwrap(), "content");
        assert_eq!(taken(&rules, started), []);
    }

    #[test]
    fn what_stood_there_before_is_left_alone_unless_an_earlier_end_was_not_heard() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let before = SystemTime::now();
        fs::write(dir.join("a"), "").unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        let unchecked = Unchecked::default();
        assert!(unchecked.quarantine(&[refused(&dir, "a")], later).is_empty());
        unchecked.begin(before);
        assert_eq!(unchecked.quarantine(&[refused(&dir, "a")], later).len(), 1);
    }

    #[test]
    fn a_symlink_in_the_place_of_the_directory_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let dir = root.join("dir");
        fs::create_dir(&dir).unwrap();
        let started = SystemTime::now();
        fs::rename(&dir, root.join("other")).unwrap();
        fs::write(root.join("other/a"), "").unwrap();
        std::os::unix::fs::symlink("other", &dir).unwrap();
        let found = taken(&[refused(&dir, "a")], started);
        assert_eq!(found, [(dir.clone(), Some(root.join("dir.refused")))]);
        assert!(root.join("other/a").exists());
    }
}
