//! Symlinks on the way to a path, and the paths that such a link must not cover.
//!
//! An agent can create a symlink wherever it can write, also under a name that a rule denies. The
//! rule then covers the target of the link as well, because the user may have made the link. Its
//! target must not be a directory that the session needs, or the agent could close the session for
//! good.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::canonical::covers;
use crate::repositories::is_kernel_tree;
use crate::rules::is_inside;
use crate::tree::{NodeKind, Tree};

/// Maximum number of symlinks on one path; the kernel has the same limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Trees with programs and libraries, without which no command runs.
const PROGRAMS: [&str; 9] =
    ["/bin", "/gnu", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/sbin", "/usr"];
/// Directories with settings of programs and with links to programs. Files inside may be covered.
const SETTINGS: [&str; 2] = ["/etc", "/run"];

/// The way to a path, with every symlink followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Symlinks, each at its canonical path. Those of the kernel are not among them.
    pub(crate) links: Vec<PathBuf>,
    /// The canonical path of the last entry that could be inspected, or the absent one after it.
    pub(crate) end: PathBuf,
}

impl Route {
    pub(crate) fn to(tree: &dyn Tree, path: &Path) -> Self {
        let mut route = Self { links: Vec::new(), end: PathBuf::from("/") };
        let (mut rest, mut followed) = (names_reversed(path), 0);
        while let Some(name) = rest.pop() {
            if name == ".." {
                route.end.pop();
                continue;
            }
            route.end.push(&name);
            match tree.kind(&route.end) {
                Ok(Some(NodeKind::Symlink)) if followed < MAX_LINKS => {
                    followed += 1;
                    if !is_kernel_tree(&route.end) {
                        route.links.push(route.end.clone());
                    }
                    let Ok(target) = tree.read_link(&route.end) else { return route };
                    route.end.pop();
                    if target.is_absolute() {
                        route.end = PathBuf::from("/");
                    }
                    rest.extend(names_reversed(&target));
                }
                Ok(Some(NodeKind::Directory)) => {}
                _ => return route,
            }
        }
        route
    }

    /// Returns whether a link on the way lies in a writable directory, so that an agent could have
    /// made it.
    pub(crate) fn may_be_chosen(&self, writable: &BTreeSet<PathBuf>) -> bool {
        self.links.iter().any(|link| writable.iter().any(|root| is_inside(link, root)))
    }
}

/// Returns whether a session can work although the canonical `path` is hidden or read-only.
pub(crate) fn is_dispensable(path: &Path, writable: &BTreeSet<PathBuf>) -> bool {
    !is_above_any(path, writable)
        && !is_kernel_tree(path)
        && !SETTINGS.iter().any(|tree| Path::new(tree).starts_with(path))
        && !PROGRAMS.iter().any(|tree| path.starts_with(tree) || Path::new(tree).starts_with(path))
}

/// Returns whether `path` is one of the directories, or contains one.
pub(crate) fn is_above_any(path: &Path, dirs: &BTreeSet<PathBuf>) -> bool {
    dirs.iter().any(|dir| covers(path, dir))
}

/// Returns the names of a path from the last one to the first.
fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: bool) {
        let writable = BTreeSet::from(["/home/u/w".into(), "/opt/out".into()]);
        assert_eq!(is_dispensable(Path::new(path), &writable), expected, "{path}");
    }

    #[test]
    fn what_a_session_needs_is_not_dispensable() {
        for needed in ["/", "/home", "/home/u/w", "/opt", "/usr", "/usr/bin/bash", "/lib64/ld.so"] {
            check(needed, false);
        }
        for needed in ["/etc", "/run", "/proc/1/fd", "/dev/null", "/sys"] {
            check(needed, false);
        }
        for other in ["/home/u/w/a", "/home/v", "/etc/ssl/key", "/opt/x", "/srv", "/home/u/x.pem"] {
            check(other, true);
        }
    }
}
