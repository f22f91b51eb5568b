//! Parallel walk over a directory, relative to descriptors and without following symlinks.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;
use sandbox_core::internal::ReadableDirectory;

use crate::scan::events::Subscription;
use crate::scan::ignore::IgnoreRules;
use crate::scan::inspect::unreadable;
use crate::scan::queue::{Job, Queue};
use crate::scan::snapshot::Snapshot;
use crate::scan::walker::Walker;

/// Threads of a walk. More threads than cores only wait for each other.
const WALKERS: usize = 2;
/// Directories and files that one thread walks alone, because starting another one takes as long.
const ALONE: (usize, usize) = (16, 200);

/// Walks a directory. Symlinks are not followed; ignored directories are not entered. With a
/// subscription, each directory is watched before it is listed. A change in it is therefore either
/// seen here or raises an event.
pub(crate) fn walk(
    dir: impl AsFd,
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) -> Snapshot {
    let mut found = Snapshot::default();
    let mut jobs = Vec::new();
    match ReadableDirectory::open_beneath(dir, Path::new("")) {
        Ok(root) => jobs.push(Job::of(Arc::new(root), String::new())),
        Err(errno) => found.skip(String::new(), unreadable(errno)),
    }
    run(&mut found, jobs, rules, subscription);
    found
}

/// Inspects some paths and everything below them, like [`walk`], and the directories that contain
/// them without their other entries. No path may be below another.
/// Returns `None` if only a walk can find the changes.
pub(crate) fn walk_under(
    dir: impl AsFd,
    paths: &[&str],
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) -> Option<Snapshot> {
    let mut found = Snapshot::default();
    let mut jobs = Vec::new();
    // Neighbours share the directory above.
    let mut last: Option<(&str, Arc<ReadableDirectory>)> = None;
    for path in paths {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let known = last.as_ref().filter(|(opened, _)| *opened == above);
        let is_new_parent = known.is_none();
        let parent = match known {
            Some((_, parent)) => Arc::clone(parent),
            None => match ReadableDirectory::open_beneath(&dir, Path::new(above)) {
                Ok(parent) => Arc::new(parent),
                // The parent no longer exists.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(_) => return None,
            },
        };
        last = Some((above, Arc::clone(&parent)));
        let job = Job::of(Arc::clone(&parent), path[..path.len() - name.len()].to_owned());
        let name = CString::new(name).ok()?;
        let mut walker = Walker { found: &mut found, rules, subscription };
        jobs.extend(walker.entry(&parent, &job, &name, FileType::Unknown));
        if is_new_parent && !above.is_empty() {
            walker.outline(&job);
        }
    }
    run(&mut found, jobs, rules, subscription);
    Some(found)
}

/// Walks directories and adds their files to `found`.
fn run(
    found: &mut Snapshot,
    mut jobs: Vec<Job>,
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) {
    for _ in 0..ALONE.0 {
        let Some(job) = jobs.pop_if(|_| found.files.len() < ALONE.1) else { break };
        jobs.extend(Walker { found, rules, subscription }.directory(job));
    }
    if !jobs.is_empty() {
        let queue = Queue::new(jobs);
        let work = |found: &mut Snapshot| {
            let mut walker = Walker { found, rules, subscription };
            while let Some(job) = queue.next() {
                let jobs = walker.directory(job);
                queue.done(jobs);
            }
        };
        std::thread::scope(|scope| {
            let work_apart = || {
                let mut found = Snapshot::default();
                work(&mut found);
                found
            };
            let others: Vec<_> = (1..WALKERS).map(|_| scope.spawn(work_apart)).collect();
            work(found);
            for other in others {
                found.merge(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
    }
    found.sort();
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use testkit::write_file;

    use super::*;

    /// Tree with a file, empty directories, modes and symlinks.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write_file(root.path(), "full/file", "x");
        write_file(root.path(), "only-ignored/node_modules/x", "x");
        fs::create_dir_all(root.path().join("above/empty")).unwrap();
        symlink("../no/such", root.path().join("full/link")).unwrap();
        fs::create_dir(root.path().join("linked")).unwrap();
        symlink("/", root.path().join("linked/link")).unwrap();
        let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff");
        symlink(not_utf8, root.path().join("linked/odd")).unwrap();
        for (path, mode) in
            [("full", 0o4750), ("only-ignored", 0o1777), ("above/empty", 0o700), ("above", 0o755)]
        {
            fs::set_permissions(root.path().join(path), Permissions::from_mode(mode)).unwrap();
        }
        root
    }

    fn directories(snapshot: &Snapshot) -> Vec<(&str, u16, bool)> {
        let entries = snapshot.directories.iter();
        entries.map(|entry| (entry.path.as_str(), entry.mode, entry.is_empty)).collect()
    }

    #[test]
    fn a_walk_finds_directories_with_their_permissions_and_symlinks_with_their_targets() {
        let root = tree();
        let snapshot = walk(File::open(root.path()).unwrap(), &IgnoreRules::default(), None);
        assert_eq!(
            directories(&snapshot),
            [
                ("above", 0o755, false),
                ("above/empty", 0o700, true),
                ("full", 0o750, false),
                ("linked", 0o755, false),
                ("only-ignored", 0o777, true),
            ]
        );
        let links = snapshot.symlinks.iter();
        let links: Vec<_> = links.map(|link| (link.path.as_str(), link.target.as_str())).collect();
        assert_eq!(links, [("full/link", "../no/such"), ("linked/link", "/")]);
        assert!(snapshot.skipped.iter().any(|skipped| skipped.path == "linked/odd"));
    }

    #[test]
    fn a_walk_of_some_paths_finds_out_whether_the_directories_above_became_empty() {
        let root = tree();
        fs::remove_file(root.path().join("full/file")).unwrap();
        let dir = File::open(root.path()).unwrap();
        let rules = IgnoreRules::default();
        let under = |paths: &[&str]| walk_under(&dir, paths, &rules, None).unwrap();
        assert_eq!(directories(&under(&["full/file"])), [("full", 0o750, false)]);
        fs::remove_file(root.path().join("full/link")).unwrap();
        assert_eq!(directories(&under(&["full/file", "full/link"])), [("full", 0o750, true)]);
        let found = under(&["only-ignored/node_modules", "above/empty", "gone/a"]);
        let expected =
            [("above", 0o755, false), ("above/empty", 0o700, true), ("only-ignored", 0o777, true)];
        assert_eq!(directories(&found), expected);
    }

    #[test]
    fn special_mode_bits_do_not_change_a_signature() {
        let root = tree();
        let file = root.path().join("full/file");
        let signature = || {
            let found = walk(File::open(root.path()).unwrap(), &IgnoreRules::default(), None);
            *found.find("full/file").unwrap()
        };
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let before = signature();
        fs::set_permissions(&file, Permissions::from_mode(0o6640)).unwrap();
        assert_eq!((before.mode, signature().mode), (0o640, 0o640));
    }
}
