//! Relations between paths: above, below, and everything below a path in an ordered map.

use std::collections::BTreeMap;
use std::ops::Bound;

use sandbox_core::RelativePath;

/// Parses a path of a scan. Returns `None` if it is too long for a system call; a scan finds no
/// other invalid path.
pub(crate) fn relative(path: &str) -> Option<RelativePath> {
    RelativePath::parse(path).ok()
}

/// Returns the last component: `c` of `a/b/c`.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Returns the path and its parents: `a/b/c`, then `a/b`, then `a`.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// Returns the parents of a path: `a/b`, then `a`, for `a/b/c`.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    ancestors(path).skip(1)
}

/// Returns whether `path` is `above` or below it. The empty path is the whole directory.
pub(crate) fn covers(above: &str, path: &str) -> bool {
    above.is_empty()
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the entries of a map at and below a path. In byte order, names such as `a.b` lie between
/// `a` and `a/b`.
pub(crate) fn under<'m, V>(
    map: &'m BTreeMap<String, V>,
    path: &str,
) -> impl Iterator<Item = (&'m String, &'m V)> {
    let (first, last) = (format!("{path}/"), format!("{path}0"));
    let below = if path.is_empty() {
        map.range::<str, _>(..)
    } else {
        map.range::<str, _>((Bound::Included(first.as_str()), Bound::Excluded(last.as_str())))
    };
    map.get_key_value(path).filter(|_| !path.is_empty()).into_iter().chain(below)
}

/// Removes the entries at and below a path from a map and returns them.
pub(crate) fn take_under<V>(map: &mut BTreeMap<String, V>, path: &str) -> Vec<(String, V)> {
    let paths: Vec<String> = under(map, path).map(|(path, _)| path.clone()).collect();
    paths.iter().filter_map(|path| map.remove_entry(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_below_a_path_exclude_names_that_only_share_its_beginning() {
        let all = ["", "a", "a b", "a-", "a.b", "a/b", "a/b/c", "a0", "ab", "é/a"];
        let mut map: BTreeMap<String, ()> =
            all.iter().map(|path| ((*path).to_owned(), ())).collect();
        for path in all.into_iter().chain(["none", "é"]) {
            let found: Vec<&str> = under(&map, path).map(|(path, ())| path.as_str()).collect();
            let expected: Vec<&str> = all.into_iter().filter(|other| covers(path, other)).collect();
            assert_eq!(found, expected, "below {path:?}");
        }
        assert_eq!(take_under(&mut map, "a").len(), 3);
        assert_eq!(map.len(), all.len() - 3);
    }

    #[test]
    fn parents_are_returned_from_the_deepest_up() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
