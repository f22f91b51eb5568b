//! Complete state of a session, as the log describes it.

use std::collections::BTreeMap;

use crate::log::entry::Entry;
use crate::log::line::{Author, Content, FileVersion, Line, Owner};
use crate::paths::{parents, take_under};
use crate::state::Version;

/// State of a session as of one number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Removed paths, until the projection agrees and the retention time has passed.
    pub(crate) removed: BTreeMap<String, Removal>,
    /// Versions of external objects that are known and need not be adopted again.
    pub(crate) adopted: BTreeMap<String, Vec<Version>>,
    /// Versions of the projection that the writer of the newest snapshot saw.
    pub(crate) projected: BTreeMap<String, Version>,
    pub(crate) owner: Option<Owner>,
    /// Set if the session was deleted on purpose, and its id was not used again.
    pub(crate) is_erased: bool,
    /// Number of the entry that deleted the former session of this id; zero if none did.
    pub(crate) began: u64,
}

/// Object of the file system that is part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(FileVersion),
    Directory { mode: u16 },
    Symlink { target: String },
}

/// Removal of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) number: u64,
    /// Seconds since 1970 by the remover's clock.
    pub(crate) at: i64,
    pub(crate) by: Author,
}

impl LogState {
    /// Replays entries in order.
    pub(crate) fn replay<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Self {
        let mut state = Self::default();
        entries.into_iter().for_each(|entry| state.apply_entry(entry));
        state
    }

    pub(crate) fn apply_entry(&mut self, entry: &Entry) {
        entry.lines.iter().for_each(|line| self.apply(entry.header.number, line.clone()));
    }

    /// Applies one line of the entry with this number.
    pub(crate) fn apply(&mut self, entry: u64, line: Line) {
        match line {
            Line::Own { home, url } => {
                self.is_erased = false;
                self.owner = Some(Owner { home, url, epoch: entry });
            }
            Line::Release => self.owner = None,
            Line::File { path, mut file } => {
                if let Some(version) = &file.adopted {
                    self.adopt(&path, (**version).clone());
                }
                if file.number == 0 {
                    file.number = entry;
                }
                if matches!(file.content, Content::Inline(_)) {
                    file.content = Content::Entry(entry);
                }
                self.insert(path, Node::File(file));
            }
            Line::Directory { path, mode } => self.insert(path, Node::Directory { mode }),
            Line::Symlink { path, target } => self.insert(path, Node::Symlink { target }),
            Line::Removed { path, by, at, number } => {
                self.nodes.remove(&path);
                self.projected.remove(&path);
                let number = if number == 0 { entry } else { number };
                self.removed.insert(path, Removal { number, at, by });
            }
            Line::Adopted { path, version } => self.adopt(&path, version),
            Line::Projected { path, version } => {
                self.projected.insert(path, version);
            }
            Line::Snapshot { owner, began } => *self = Self { owner, began, ..Self::default() },
            Line::Erased => *self = Self { is_erased: true, began: entry, ..Self::default() },
        }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&FileVersion> {
        match self.nodes.get(path)? {
            Node::File(file) => Some(file),
            Node::Directory { .. } | Node::Symlink { .. } => None,
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&String, &FileVersion)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path, file)),
            Node::Directory { .. } | Node::Symlink { .. } => None,
        })
    }

    /// Returns whether an object's version was adopted before.
    pub(crate) fn is_adopted(&self, path: &str, version: &Version) -> bool {
        self.adopted.get(path).is_some_and(|known| known.iter().any(|known| known.is(version)))
    }

    /// Returns the lines of a snapshot with this state.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Line> {
        let start = Line::Snapshot { owner: self.owner.clone(), began: self.began };
        let removed = self.removed.iter().map(|(path, removal)| {
            let Removal { number, at, by } = *removal;
            Line::Removed { path: path.clone(), by, at, number }
        });
        let nodes = self.nodes.iter().map(|(path, node)| node.line(path));
        let adopted = self.adopted.iter().flat_map(|(path, versions)| {
            let line = |version: &Version| (path.clone(), version.clone());
            versions.iter().map(line).map(|(path, version)| Line::Adopted { path, version })
        });
        let projected = self.projected.iter().map(|(path, version)| Line::Projected {
            path: path.clone(),
            version: version.clone(),
        });
        std::iter::once(start).chain(removed).chain(nodes).chain(adopted).chain(projected)
    }

    fn adopt(&mut self, path: &str, version: Version) {
        let known = self.adopted.entry(path.to_owned()).or_default();
        if !known.iter().any(|known| known.is(&version)) {
            known.push(version);
        }
    }

    /// Inserts a node. A file system cannot hold files below a file, so the newer node wins.
    fn insert(&mut self, path: String, node: Node) {
        for above in parents(&path) {
            if !matches!(self.nodes.get(above), None | Some(Node::Directory { .. })) {
                self.nodes.remove(above);
            }
        }
        let is_directory = matches!(node, Node::Directory { .. });
        if !is_directory && self.has_below(&path) {
            take_under(&mut self.nodes, &path);
        }
        self.removed.remove(&path);
        // The recorded object is that of the version before.
        self.projected.remove(&path);
        self.nodes.insert(path, node);
    }

    fn has_below(&self, path: &str) -> bool {
        let first = format!("{path}/");
        self.nodes.range(first.clone()..).next().is_some_and(|(next, _)| next.starts_with(&first))
    }
}

impl Node {
    /// Returns the line that describes the node.
    pub(crate) fn line(&self, path: &str) -> Line {
        let path = path.to_owned();
        match self.clone() {
            Self::File(file) => Line::File { path, file },
            Self::Directory { mode } => Line::Directory { path, mode },
            Self::Symlink { target } => Line::Symlink { path, target },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::samples::{file, removed};

    fn apply(lines: Vec<Line>) -> LogState {
        let mut state = LogState::default();
        lines.into_iter().zip(1..).for_each(|(line, number)| state.apply(number, line));
        state
    }

    fn paths(state: &LogState) -> Vec<&str> {
        state.nodes.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_snapshot_describes_the_whole_state() {
        let version = Version { etag: Some("e".to_owned()), version: None };
        let own = Line::Own { home: "h".to_owned(), url: Some("u".to_owned()) };
        let state = apply(vec![
            own,
            file("a", b"1"),
            file("gone", b"2"),
            removed("gone"),
            Line::Directory { path: "d".to_owned(), mode: 0o700 },
            Line::Symlink { path: "s".to_owned(), target: "a".to_owned() },
            Line::Adopted { path: "x".to_owned(), version: version.clone() },
            Line::Projected { path: "a".to_owned(), version },
        ]);
        let mut again = LogState::default();
        state.snapshot().for_each(|line| again.apply(99, line));
        assert_eq!(again, state);
        assert_eq!(again.owner.as_ref().unwrap().epoch, 1);
        assert_eq!(again.removed["gone"].number, 4);
        assert_eq!(again.file("a").unwrap().number, 2);
    }

    #[test]
    fn a_file_and_a_directory_of_one_name_replace_each_other() {
        let state = apply(vec![file("d", b"1"), file("d/x", b"2")]);
        assert_eq!(paths(&state), ["d/x"]);
        let directory = Line::Directory { path: "d".to_owned(), mode: 0o755 };
        let state = apply(vec![directory.clone(), file("d/x", b"1"), file("d.x", b"2")]);
        assert_eq!(paths(&state), ["d", "d.x", "d/x"]);
        let state = apply(vec![directory, file("d/x", b"1"), file("d.x", b"2"), file("d", b"3")]);
        assert_eq!(paths(&state), ["d", "d.x"]);
    }

    #[test]
    fn a_newer_version_of_a_path_has_no_recorded_object() {
        let version = Version { etag: Some("e".to_owned()), version: None };
        let projected = Line::Projected { path: "a".to_owned(), version };
        for newer in [file("a", b"2"), removed("a")] {
            let state = apply(vec![file("a", b"1"), projected.clone(), newer]);
            assert!(state.projected.is_empty());
        }
    }

    #[test]
    fn a_removed_path_is_remembered_until_it_returns() {
        let state = apply(vec![file("a", b"1"), removed("a")]);
        assert_eq!(state.removed["a"], Removal { number: 2, at: 9, by: Author::Agent });
        let state = apply(vec![file("a", b"1"), removed("a"), file("a", b"2")]);
        assert!(state.removed.is_empty());
    }
}
