//! Host files under the mounts of an open session.
//!
//! A mount ends if the host replaces the file or directory under it, as editors and `git config`
//! do, and nothing is mounted on a path that the host creates. So the host looks for such paths
//! before each command. A directory that has not changed since the last look is not looked through.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::{MountOp, MountPlan};
use rustix::fs::CWD;

use super::changes::{FileId, changed, stat};
use super::outstanding::LAG;

/// The paths of a plan, as the last look has found them.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// By the directory that contains the paths.
    directories: HashMap<PathBuf, Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    /// Time of the last change, if each later one gives the directory another time.
    settled: Option<SystemTime>,
    paths: Vec<(PathBuf, Option<FileId>)>,
}

/// Paths that have changed since the last look.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Paths that have another file or directory now.
    pub(super) replaced: Vec<PathBuf>,
    /// Set if a path exists that was absent.
    pub(super) has_new: bool,
}

impl Anchors {
    /// Records the paths of a plan.
    pub(super) fn of(plan: &MountPlan) -> Self {
        let mounted = plan.ops.iter().filter_map(MountOp::path).map(Path::to_owned);
        let denied = plan.creation_rules.denied_paths.iter().filter_map(|denied| {
            // The first part that is missing.
            Some(denied.dir.join(denied.rest.iter().next()?))
        });
        let mut anchors = Self::default();
        for path in mounted.chain(denied) {
            if let Some(above) = path.parent() {
                let directory = anchors.directories.entry(above.to_owned()).or_default();
                let found = identity(&path);
                directory.paths.push((path, found));
            }
        }
        anchors
    }

    /// Looks for paths that have changed. The next look finds them too.
    pub(super) fn moved(&mut self) -> Moved {
        let mut moved = Moved::default();
        let now = SystemTime::now();
        for (path, directory) in &mut self.directories {
            let time = stat(CWD, path).ok().map(|stat| changed(&stat));
            if time.is_some() && time == directory.settled {
                continue;
            }
            let mut is_same = true;
            for (path, before) in &directory.paths {
                match (before, identity(path)) {
                    (Some(before), Some(found)) if *before != found => {
                        moved.replaced.push(path.clone());
                    }
                    (None, Some(_)) => moved.has_new = true,
                    // What is absent may come back as another file.
                    _ => continue,
                }
                is_same = false;
            }
            directory.settled = time.filter(|time| is_same && *time + LAG < now);
        }
        moved
    }
}

fn identity(path: &Path) -> Option<FileId> {
    stat(CWD, path).ok().map(|stat| FileId::of(&stat))
}
