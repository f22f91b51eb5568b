//! What changed: a pure comparison of what is there with what the store is known to hold.

use std::collections::BTreeMap;

use crate::index::Known;
use crate::paths::{covers, under};
use crate::snapshot::{Entry, Snapshot};

/// The difference between a directory and the record of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Files that the store does not hold as they are now, by path. Their content may be what it
    /// holds all the same.
    pub(crate) touched: Vec<Entry>,
    /// Files that the store holds and that are no more, by path.
    pub(crate) gone: Vec<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.gone.is_empty()
    }
}

pub(crate) fn diff(snapshot: &Snapshot, known: &BTreeMap<String, Known>) -> Changes {
    let mut changes = Changes::default();
    let blind_spots = snapshot.blind_spots();
    let mut known = known.iter().peekable();
    let mut missing = |path: &String, known: &Known| {
        if matches!(known, Known::Stored(_)) && !blind_spots.iter().any(|spot| covers(spot, path)) {
            changes.gone.push(path.clone());
        }
    };
    for entry in &snapshot.files {
        while let Some((path, before)) = known.next_if(|(path, _)| **path < entry.path) {
            missing(path, before);
        }
        let before = known.next_if(|(path, _)| **path == entry.path);
        let is_same = matches!(before, Some((_, Known::Stored(stored))) if stored.signature == entry.signature);
        if !is_same {
            changes.touched.push(entry.clone());
        }
    }
    known.for_each(|(path, before)| missing(path, before));
    changes
}

/// As [`diff`], where only some paths were looked at, and all below them.
pub(crate) fn diff_under(
    paths: &[&str],
    snapshot: &Snapshot,
    known: &BTreeMap<String, Known>,
) -> Changes {
    let blind_spots = snapshot.blind_spots();
    let is_missing = |path: &str, known: &Known| {
        matches!(known, Known::Stored(_))
            && snapshot.find(path).is_none()
            && !blind_spots.iter().any(|spot| covers(spot, path))
    };
    let missing = paths
        .iter()
        .flat_map(|path| under(known, path))
        .filter(|(path, known)| is_missing(path, known));
    let mut gone: Vec<String> = missing.map(|(path, _)| path.clone()).collect();
    gone.sort_unstable();
    let is_same = |entry: &&Entry| matches!(known.get(&entry.path), Some(Known::Stored(stored)) if stored.signature == entry.signature);
    let touched = snapshot.files.iter().filter(|entry| !is_same(entry)).cloned().collect();
    Changes { touched, gone }
}

/// Files that may have reached the store unheard, and that are no more.
pub(crate) fn gone_unheard<'s>(
    snapshot: &Snapshot,
    known: &BTreeMap<String, Known>,
    sent: impl Iterator<Item = &'s String>,
) -> Vec<String> {
    let blind_spots = snapshot.blind_spots();
    sent.filter(|path| !matches!(known.get(*path), Some(Known::Stored(_))))
        .filter(|path| {
            snapshot.find(path).is_none() && !blind_spots.iter().any(|spot| covers(spot, path))
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conditional::Version;
    use crate::index::{Origin, Stored};
    use crate::report::{SkipReason, Skipped};
    use crate::signature::Signature;

    fn signature(state: u8) -> Signature {
        Signature {
            size: state.into(),
            modified: (0, 0),
            changed: (0, 0),
            inode: 1,
            mode: 0o100644,
        }
    }

    fn stored(state: u8) -> Known {
        Known::Stored(Stored {
            signature: signature(state),
            hash: String::new(),
            version: Version::default(),
            origin: Origin::Local,
        })
    }

    fn paths() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "a/b", "a/b/c", "a.b", "a b", "b", "b/a", "é"])
            .prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_comparison_path_by_path(
            there in prop::collection::btree_map(paths(), 0u8..3, 0..8),
            before in prop::collection::btree_map(paths(), prop::option::of(0u8..3), 0..8),
            hidden in prop::option::of(paths()),
        ) {
            let snapshot = Snapshot {
                files: there.iter().map(|(path, state)| Entry { path: path.clone(), signature: signature(*state) }).collect(),
                skipped: hidden.iter().map(|path| Skipped { path: path.clone(), reason: SkipReason::TooDeep }).collect(),
                ..Snapshot::default()
            };
            let known = before
                .iter()
                .map(|(path, state)| (path.clone(), state.map_or(Known::Removed { version: Version::default() }, stored)))
                .collect();
            let changes = diff(&snapshot, &known);
            let touched: Vec<&String> = changes.touched.iter().map(|entry| &entry.path).collect();
            let expected: Vec<&String> = there.iter().filter(|(path, state)| before.get(*path) != Some(&Some(**state))).map(|(path, _)| path).collect();
            prop_assert_eq!(touched, expected);
            let is_hidden = |path: &String| hidden.as_ref().is_some_and(|at| path == at || path.starts_with(&format!("{at}/")));
            let gone: Vec<&String> = before
                .iter()
                .filter(|(path, state)| state.is_some() && !there.contains_key(*path) && !is_hidden(path))
                .map(|(path, _)| path)
                .collect();
            prop_assert_eq!(changes.gone.iter().collect::<Vec<_>>(), gone);
            let everything = ["a", "a.b", "a b", "b", "é"];
            prop_assert_eq!(diff_under(&everything, &snapshot, &known), changes);
        }
    }
}
