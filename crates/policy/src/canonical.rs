//! Canonical paths as bytes.
//!
//! `Path` compares component by component, because a path may have slashes too many. A canonical
//! path has none, and its bytes are compared in a tenth of the time. Every path here is absolute,
//! and has no component `.`, no two slashes in a row and no slash at its end.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Returns whether `path` is `dir`, or lies inside it.
pub(crate) fn covers(dir: &Path, path: &Path) -> bool {
    let (dir, path) = (bytes(dir), bytes(path));
    path.starts_with(dir) && (dir.len() <= 1 || matches!(path.get(dir.len()), None | Some(b'/')))
}

/// Returns whether two paths are the same.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    a.as_os_str() == b.as_os_str()
}

/// Orders two paths as `Path` does: by the first component that differs.
pub(crate) fn compare(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (bytes(a), bytes(b));
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    // A component ends before one that continues, and no name has a NUL.
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    common.map_or_else(|| a.len().cmp(&b.len()), |at| key(a[at]).cmp(&key(b[at])))
}

/// Returns the directories above `path`, the nearest first.
pub(crate) fn above(path: &Path) -> impl Iterator<Item = &OsStr> {
    std::iter::successors(parent(path), |path| parent(Path::new(*path)))
}

fn parent(path: &Path) -> Option<&OsStr> {
    let path = bytes(path);
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    // The root has one slash, and nothing after it.
    (path.len() > 1).then(|| OsStr::from_bytes(&path[..slash.max(1)]))
}

/// Returns `path` and the directories above it, the nearest first.
pub(crate) fn at_and_above(path: &Path) -> impl Iterator<Item = &OsStr> {
    std::iter::once(path.as_os_str()).chain(above(path))
}

/// Returns the part of `path` below `dir`, which covers it.
pub(crate) fn rest_below<'p>(dir: &Path, path: &'p Path) -> &'p Path {
    let rest = bytes(path).get(bytes(dir).len()..).unwrap_or_default();
    Path::new(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
}

/// Returns the path of an entry of `dir`.
pub(crate) fn join(dir: &Path, name: &OsStr) -> PathBuf {
    let mut path = OsString::with_capacity(dir.as_os_str().len() + 1 + name.len());
    path.push(dir);
    if bytes(dir).len() > 1 {
        path.push("/");
    }
    path.push(name);
    path.into()
}

/// Returns whether a path is absolute and has no component `..`. Only then do its components say
/// where it leads: a relative path begins somewhere, and `..` leaves the directory that the kernel
/// has reached, maybe through a symlink (`path_resolution(7)`).
pub(crate) fn is_resolved(path: &Path) -> bool {
    let path = bytes(path);
    let is_parent =
        |at: usize| path[at..].starts_with(b"/..") && matches!(path.get(at + 3), None | Some(b'/'));
    path.starts_with(b"/") && !(0..path.len()).any(is_parent)
}

/// Returns a path without components `.` and slashes too many. Keeps `..` and symlinks.
pub(crate) fn without_empty_names(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Sorts paths, and removes those that are there twice.
pub(crate) fn sort(paths: &mut Vec<PathBuf>) {
    paths.sort_by(|a, b| compare(a, b));
    paths.dedup_by(|a, b| a.as_os_str() == b.as_os_str());
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_may_lead_elsewhere_is_not_resolved() {
        for path in ["/", "/a", "/..a/b..", "/a/...", "/a//./b/", "/a/b../c"] {
            assert!(is_resolved(Path::new(path)), "{path}");
        }
        for path in ["", ".", "a", "~/a", "..", "../a", "/..", "/a/..", "/a/../b", "//..//a"] {
            assert!(!is_resolved(Path::new(path)), "{path}");
        }
    }

    const PATHS: [&str; 11] =
        ["/", "/a", "/a/b", "/a-b", "/a.b", "/ab", "/a/b/c", "/a/b-c", "/b", "/é", "/a/é\u{1}"];

    #[test]
    fn paths_are_ordered_and_covered_as_the_standard_library_says() {
        for a in PATHS.map(Path::new) {
            for b in PATHS.map(Path::new) {
                assert_eq!(compare(a, b), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(covers(a, b), b.starts_with(a), "{a:?} {b:?}");
                if let Ok(rest) = b.strip_prefix(a) {
                    assert_eq!(rest_below(a, b).as_os_str(), rest.as_os_str(), "{a:?} {b:?}");
                }
            }
            let expected: Vec<_> = a.ancestors().map(Path::as_os_str).collect();
            assert_eq!(at_and_above(a).collect::<Vec<_>>(), expected);
            assert_eq!(above(a).collect::<Vec<_>>(), expected[1..]);
            assert_eq!(join(a, OsStr::new("x")).as_os_str(), a.join("x").as_os_str());
        }
        assert_eq!(without_empty_names(Path::new("/a//./b/")).as_os_str(), "/a/b");
    }
}
