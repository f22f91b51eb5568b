//! Pure comparison of a directory with its recorded state.

use crate::paths::covers;
use crate::scan::signature::Signature;
use crate::scan::snapshot::{Entry, Snapshot};

/// Recorded state of a directory that a scan compares with.
pub(crate) trait Baseline {
    /// Returns the recorded signature of a file.
    fn signature(&self, path: &str) -> Option<&Signature>;

    /// Returns the recorded files at and below a path. The empty path is the whole directory, whose
    /// files are returned in path order.
    fn recorded_under<'b>(&'b self, path: &str) -> impl Iterator<Item = (&'b str, &'b Signature)>;

    /// Returns the paths whose recorded state is uncertain. Every scan inspects them, and reports
    /// them as removed if they are absent.
    fn uncertain(&self) -> impl Iterator<Item = &str>;
}

/// Difference between a directory and its recorded state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Files whose signature differs from the recorded one, by path. Their content may be equal.
    pub(crate) modified: Vec<Entry>,
    /// Recorded files that no longer exist, by path.
    pub(crate) removed: Vec<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares a complete walk with the baseline.
pub(crate) fn diff(snapshot: &Snapshot, baseline: &impl Baseline) -> Changes {
    let mut changes = Changes::default();
    let blind_spots = snapshot.blind_spots();
    let mut recorded = baseline.recorded_under("").peekable();
    let mut missing = |path: &str| {
        if !is_hidden(path, &blind_spots) {
            changes.removed.push(path.to_owned());
        }
    };
    for entry in &snapshot.files {
        while let Some((path, _)) = recorded.next_if(|(path, _)| **path < *entry.path) {
            missing(path);
        }
        let before = recorded.next_if(|(path, _)| *path == entry.path);
        if before.is_none_or(|(_, signature)| *signature != entry.signature) {
            changes.modified.push(entry.clone());
        }
    }
    recorded.for_each(|(path, _)| missing(path));
    changes
}

/// Compares like [`diff`] if the snapshot covers only some paths and everything below them.
pub(crate) fn diff_under(paths: &[&str], snapshot: &Snapshot, baseline: &impl Baseline) -> Changes {
    let blind_spots = snapshot.blind_spots();
    let recorded = paths.iter().flat_map(|path| baseline.recorded_under(path));
    let missing = recorded
        .map(|(path, _)| path)
        .filter(|path| snapshot.find(path).is_none() && !is_hidden(path, &blind_spots));
    let mut removed: Vec<String> = missing.map(str::to_owned).collect();
    removed.sort_unstable();
    let is_modified = |entry: &&Entry| baseline.signature(&entry.path) != Some(&entry.signature);
    let modified = snapshot.files.iter().filter(is_modified).cloned().collect();
    Changes { modified, removed }
}

/// Returns the absent files whose recorded state is uncertain.
pub(crate) fn removed_uncertain(snapshot: &Snapshot, baseline: &impl Baseline) -> Vec<String> {
    let blind_spots = snapshot.blind_spots();
    baseline
        .uncertain()
        .filter(|path| baseline.signature(path).is_none())
        .filter(|path| snapshot.find(path).is_none() && !is_hidden(path, &blind_spots))
        .map(str::to_owned)
        .collect()
}

fn is_hidden(path: &str, blind_spots: &[&str]) -> bool {
    blind_spots.iter().any(|spot| covers(spot, path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::paths::under;
    use crate::scan::skipped::{SkipReason, Skipped};

    struct Recorded(BTreeMap<String, Signature>);

    impl Baseline for Recorded {
        fn signature(&self, path: &str) -> Option<&Signature> {
            self.0.get(path)
        }

        fn recorded_under<'b>(
            &'b self,
            path: &str,
        ) -> impl Iterator<Item = (&'b str, &'b Signature)> {
            under(&self.0, path).map(|(path, signature)| (path.as_str(), signature))
        }

        fn uncertain(&self) -> impl Iterator<Item = &str> {
            std::iter::empty()
        }
    }

    fn signature(state: u8) -> Signature {
        Signature {
            size: state.into(),
            modified: (0, 0),
            changed: (0, 0),
            inode: 1,
            mode: 0o100644,
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "a/b", "a/b/c", "a.b", "a b", "b", "b/a", "é"])
            .prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn diff_agrees_with_a_comparison_path_by_path(
            present in prop::collection::btree_map(paths(), 0u8..3, 0..8),
            recorded in prop::collection::btree_map(paths(), 0u8..3, 0..8),
            hidden in prop::option::of(paths()),
        ) {
            let entry = |(path, state): (&String, &u8)| Entry {
                path: path.clone(),
                signature: signature(*state),
            };
            let skipped = |path: &String| Skipped {
                path: path.clone(),
                reason: SkipReason::TooDeep,
            };
            let snapshot = Snapshot {
                files: present.iter().map(entry).collect(),
                skipped: hidden.iter().map(skipped).collect(),
                ..Snapshot::default()
            };
            let signatures = recorded.iter().map(|(path, state)| (path.clone(), signature(*state)));
            let baseline = Recorded(signatures.collect());
            let changes = diff(&snapshot, &baseline);
            let modified: Vec<&String> = changes.modified.iter().map(|entry| &entry.path).collect();
            let expected: Vec<&String> = present
                .iter()
                .filter(|(path, state)| recorded.get(*path) != Some(state))
                .map(|(path, _)| path)
                .collect();
            prop_assert_eq!(modified, expected);
            let is_hidden = |path: &String| {
                hidden.as_ref().is_some_and(|at| path == at || path.starts_with(&format!("{at}/")))
            };
            let removed: Vec<&String> = recorded
                .keys()
                .filter(|path| !present.contains_key(*path) && !is_hidden(path))
                .collect();
            prop_assert_eq!(changes.removed.iter().collect::<Vec<_>>(), removed);
            let everything = ["a", "a.b", "a b", "b", "é"];
            prop_assert_eq!(diff_under(&everything, &snapshot, &baseline), changes);
        }
    }
}
