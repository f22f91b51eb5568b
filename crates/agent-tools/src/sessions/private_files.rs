//! Configuration of the host that only root can read. For a host that runs as root, the default
//! policy hides it, because the commands of its sessions have root's rights to files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sandbox_core::internal::lock;

/// Directory with the configuration of the host.
const CONFIGURATION: &str = "/etc";
/// Time for which the result of a walk serves other sessions.
const MAX_AGE: Duration = Duration::from_secs(10);

static LAST_WALK: Mutex<Option<(Instant, Vec<PathBuf>)>> = Mutex::new(None);

/// Returns the files and directories in `/etc` that other users cannot read; nothing if this
/// process does not run as root.
pub(super) fn private_files() -> Vec<PathBuf> {
    if !is_root() {
        return Vec::new();
    }
    let mut last = lock(&LAST_WALK);
    match &*last {
        Some((walked, found)) if is_fresh(*walked) => found.clone(),
        _ => last.insert((Instant::now(), below(Path::new(CONFIGURATION)))).1.clone(),
    }
}

/// Begins the search of [`private_files`] in another thread, because it takes a millisecond.
pub(super) fn begin_search() {
    let is_done = || lock(&LAST_WALK).as_ref().is_some_and(|(walked, _)| is_fresh(*walked));
    if is_root() && !is_done() {
        tokio::task::spawn_blocking(private_files);
    }
}

fn is_root() -> bool {
    // The owner of the directory is the effective user (`proc_pid(5)`).
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn is_fresh(walked: Instant) -> bool {
    walked.elapsed() < MAX_AGE
}

/// Returns the topmost files and directories below a directory that other users cannot read.
/// Symlinks are not followed, because the rule of their target decides.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut private = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            private.push(dir);
            continue;
        };
        for entry in entries.flatten() {
            // The directory has the kinds of its entries, and most of them are symlinks.
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
            if metadata.permissions().mode() & needed != needed {
                private.push(entry.path());
            } else if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    private.sort_unstable();
    private
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_topmost_paths_that_others_cannot_read_are_found() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for (name, mode) in [("open", 0o755), ("closed", 0o750), ("listed", 0o744)] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("key"), "").unwrap();
            fs::set_permissions(path(name).join("key"), fs::Permissions::from_mode(0o640)).unwrap();
            fs::write(path(name).join("public"), "").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("key", path("open/link")).unwrap();
        let expected = ["closed", "listed", "open/key"].map(path);
        assert_eq!(below(root.path()), expected);
    }
}
