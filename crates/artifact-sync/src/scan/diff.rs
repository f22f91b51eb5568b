//! Pure comparison of a directory with its recorded state.

use crate::paths::covers;
use crate::scan::signature::RecordedSignature;
use crate::scan::snapshot::{DirectoryEntry, Entry, Snapshot, SymlinkEntry};

/// Recorded state of a directory that a scan compares with.
pub(crate) trait Baseline {
    /// Returns the recorded signature of a file.
    fn signature(&self, path: &str) -> Option<&RecordedSignature>;

    /// Returns the recorded files at and below a path. The empty path is the whole directory, whose
    /// files are returned in path order.
    fn recorded_under<'b>(
        &'b self,
        path: &str,
    ) -> impl Iterator<Item = (&'b str, &'b RecordedSignature)>;

    /// Returns the paths whose recorded state is uncertain. Every scan inspects them, and reports
    /// them as removed if they are absent.
    fn uncertain(&self) -> impl Iterator<Item = &str>;

    /// Returns whether the record agrees with a directory. It does if directories are not recorded.
    fn has_directory(&self, _entry: &DirectoryEntry) -> bool {
        true
    }

    /// Returns whether the record agrees with a symlink. It does if symlinks are not recorded.
    fn has_symlink(&self, _entry: &SymlinkEntry) -> bool {
        true
    }

    /// Returns the recorded directories and symlinks at and below a path.
    fn recorded_others<'b>(&'b self, _path: &str) -> impl Iterator<Item = &'b str> {
        std::iter::empty()
    }
}

/// Difference between a directory and its recorded state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Files that may differ from the record, by path: the signature differs, the recorded one is
    /// racy, or an event named the path. Their content may be equal.
    pub(crate) modified: Vec<Entry>,
    /// Recorded files, directories and symlinks that no longer exist, by path. A file that was
    /// replaced by a directory or a symlink is included.
    pub(crate) removed: Vec<String>,
    /// Directories that differ from the record, by path.
    pub(crate) directories: Vec<DirectoryEntry>,
    /// Symlinks that differ from the record, by path.
    pub(crate) symlinks: Vec<SymlinkEntry>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.modified.is_empty()
            && self.removed.is_empty()
            && self.directories.is_empty()
            && self.symlinks.is_empty()
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
        if before.is_none_or(|(_, recorded)| !recorded.proves(&entry.signature)) {
            changes.modified.push(entry.clone());
        }
    }
    recorded.for_each(|(path, _)| missing(path));
    changes.add_others(&[""], snapshot, baseline);
    changes
}

/// Compares like [`diff`] if the snapshot covers only some paths and everything below them. A file
/// that an event named counts as modified, because its times may lag behind its content.
pub(crate) fn diff_under(
    paths: &[&str],
    snapshot: &Snapshot,
    baseline: &impl Baseline,
    has_event: impl Fn(&str) -> bool,
) -> Changes {
    let blind_spots = snapshot.blind_spots();
    let recorded = paths.iter().flat_map(|path| baseline.recorded_under(path));
    let missing = recorded
        .map(|(path, _)| path)
        .filter(|path| snapshot.find(path).is_none() && !is_hidden(path, &blind_spots));
    let mut removed: Vec<String> = missing.map(str::to_owned).collect();
    removed.sort_unstable();
    let is_modified = |entry: &&Entry| {
        let recorded = baseline.signature(&entry.path);
        !recorded.is_some_and(|recorded| recorded.proves(&entry.signature))
            || has_event(&entry.path)
    };
    let modified = snapshot.files.iter().filter(is_modified).cloned().collect();
    let mut changes = Changes { modified, removed, ..Changes::default() };
    changes.add_others(paths, snapshot, baseline);
    changes
}

impl Changes {
    /// Adds the directories and symlinks at and below some paths that differ from the record.
    fn add_others(&mut self, paths: &[&str], snapshot: &Snapshot, baseline: &impl Baseline) {
        let directories = snapshot.directories.iter();
        self.directories =
            directories.filter(|entry| !baseline.has_directory(entry)).cloned().collect();
        let symlinks = snapshot.symlinks.iter();
        self.symlinks = symlinks.filter(|entry| !baseline.has_symlink(entry)).cloned().collect();
        let blind_spots = snapshot.blind_spots();
        let recorded = paths.iter().flat_map(|path| baseline.recorded_others(path));
        let missing = recorded
            .filter(|path| !snapshot.has_directory(path) && !snapshot.has(path))
            .filter(|path| !is_hidden(path, &blind_spots));
        let before = self.removed.len();
        self.removed.extend(missing.map(str::to_owned));
        if self.removed.len() > before {
            self.removed.sort_unstable();
        }
    }
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
    use crate::scan::signature::Signature;
    use crate::scan::skipped::{SkipReason, Skipped};

    struct Recorded(BTreeMap<String, RecordedSignature>);

    /// Record of empty directories and symlinks, without files.
    struct Others(BTreeMap<String, &'static str>);

    impl Baseline for Others {
        fn signature(&self, _path: &str) -> Option<&RecordedSignature> {
            None
        }

        fn recorded_under<'b>(
            &'b self,
            _path: &str,
        ) -> impl Iterator<Item = (&'b str, &'b RecordedSignature)> {
            std::iter::empty()
        }

        fn uncertain(&self) -> impl Iterator<Item = &str> {
            std::iter::empty()
        }

        fn has_directory(&self, entry: &DirectoryEntry) -> bool {
            (self.0.get(&entry.path) == Some(&"directory")) == entry.is_empty
        }

        fn has_symlink(&self, entry: &SymlinkEntry) -> bool {
            self.0.get(&entry.path) == Some(&&*entry.target)
        }

        fn recorded_others<'b>(&'b self, path: &str) -> impl Iterator<Item = &'b str> {
            under(&self.0, path).map(|(path, _)| path.as_str())
        }
    }

    #[test]
    fn directories_and_symlinks_are_compared_with_their_record() {
        let directory =
            |path: &str, is_empty| DirectoryEntry { path: path.to_owned(), mode: 0o755, is_empty };
        let symlink = |path: &str, target: &str| SymlinkEntry {
            path: path.to_owned(),
            target: target.to_owned(),
        };
        let snapshot = Snapshot {
            directories: [("filled", false), ("new", true), ("same", true)]
                .map(|(path, is_empty)| directory(path, is_empty))
                .into(),
            symlinks: vec![symlink("changed", "b"), symlink("kept", "a")],
            ..Snapshot::default()
        };
        let recorded = [
            ("changed", "a"),
            ("filled", "directory"),
            ("gone", "directory"),
            ("kept", "a"),
            ("lost", "a"),
            ("same", "directory"),
        ];
        let baseline =
            Others(recorded.map(|(path, state)| (path.to_owned(), state)).into_iter().collect());
        let changes = diff(&snapshot, &baseline);
        assert_eq!(changes.directories, [directory("filled", false), directory("new", true)]);
        assert_eq!(changes.symlinks, [symlink("changed", "b")]);
        assert_eq!(changes.removed, ["gone", "lost"]);
        assert_eq!(
            diff_under(&["gone", "same"], &snapshot, &baseline, |_| false).removed,
            ["gone"]
        );
    }

    impl Baseline for Recorded {
        fn signature(&self, path: &str) -> Option<&RecordedSignature> {
            self.0.get(path)
        }

        fn recorded_under<'b>(
            &'b self,
            path: &str,
        ) -> impl Iterator<Item = (&'b str, &'b RecordedSignature)> {
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
            recorded in prop::collection::btree_map(paths(), (0u8..3, any::<bool>()), 0..8),
            named in prop::option::of(paths()),
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
            let signatures = recorded.iter().map(|(path, (state, is_racy))| {
                let signature = signature(*state);
                (path.clone(), RecordedSignature { signature, is_racy: *is_racy })
            });
            let baseline = Recorded(signatures.collect());
            let changes = diff(&snapshot, &baseline);
            let modified: Vec<&String> = changes.modified.iter().map(|entry| &entry.path).collect();
            let expected: Vec<&String> = present
                .iter()
                .filter(|(path, state)| recorded.get(*path) != Some(&(**state, false)))
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
            let has_event = |path: &str| named.as_deref() == Some(path);
            let with_events = diff_under(&everything, &snapshot, &baseline, has_event);
            let is_expected = |entry: &&Entry| {
                changes.modified.contains(entry) || has_event(&entry.path)
            };
            let expected: Vec<&Entry> = snapshot.files.iter().filter(is_expected).collect();
            prop_assert_eq!(with_events.modified.iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(diff_under(&everything, &snapshot, &baseline, |_| false), changes);
        }
    }
}
