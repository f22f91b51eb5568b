//! Working copy of version 0.1, compared with the index that version 0.1 kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir};

use crate::log::{Content, FileVersion, Hash, LogState, Node, Origin, Token};
use crate::mirror::apply::Base;
use crate::scan::{Changes, IgnoreRules, inspect};
use crate::state::{FormerFile, FormerIndex, FormerRecord};

/// Most removals that version 0.1 stored without a confirmation. If more files were gone, and more
/// than half of them, it kept the objects: a close that was interrupted looks the same.
const MAX_REMOVALS: usize = 50;

/// Files of a working copy that the index of version 0.1 names.
#[derive(Debug)]
pub(in crate::mirror) struct FormerCopy {
    files: BTreeMap<String, FormerFile>,
    /// States of these files in the directory. Ignored ones are left out.
    local: BTreeMap<String, LocalFile>,
}

/// State of a file in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalFile {
    Present(Hash),
    /// A directory, a symlink, or a file that cannot be read has the path.
    Other,
    /// It was removed here, and the store does not know that.
    Removed,
    /// The directory never had it.
    Absent,
}

impl FormerCopy {
    /// Returns the copy in a directory that is restored anew.
    pub(in crate::mirror) fn absent(index: FormerIndex, rules: &IgnoreRules) -> Self {
        let local = |file: &FormerFile| match file.record {
            Some(FormerRecord::Removed { .. }) => LocalFile::Removed,
            _ => LocalFile::Absent,
        };
        let files = index.files.iter().filter(|(path, _)| !rules.covers(path));
        let local = files.map(|(path, file)| (path.clone(), local(file))).collect();
        Self { files: index.files, local }
    }

    /// Compares a directory with the index. Reads all files that the index names.
    pub(in crate::mirror) async fn of(
        dir: &Arc<SessionDir>,
        index: FormerIndex,
        rules: &IgnoreRules,
    ) -> Self {
        let (dir, rules) = (Arc::clone(dir), rules.clone());
        blocking(move || {
            let has_removals = index.describes(&*dir);
            let mut copy = Self::absent(index, &rules);
            for (path, local) in &mut copy.local {
                let was_awaited = matches!(
                    copy.files.get(path).and_then(|file| file.record.as_ref()),
                    Some(FormerRecord::ExpectedRemote)
                );
                if let Some(found) = find(&dir, path, &rules) {
                    *local = found;
                } else if has_removals && !was_awaited {
                    *local = LocalFile::Removed;
                }
            }
            copy.hold_back();
            copy
        })
        .await
    }

    /// Takes implausibly many removals for files that the directory never had, like version 0.1. A
    /// removal that it tried to store is certain.
    fn hold_back(&mut self) {
        let stored = |file: &FormerFile| matches!(file.record, Some(FormerRecord::Stored { .. }));
        let known = self.files.values().filter(|file| stored(file)).count();
        let is_gone = |path: &String| self.local.get(path) == Some(&LocalFile::Removed);
        let removed: Vec<(String, bool)> = self
            .files
            .iter()
            .filter(|(path, file)| stored(file) && is_gone(path))
            .map(|(path, file)| (path.clone(), file.has_failed))
            .collect();
        if removed.len() > MAX_REMOVALS && removed.len() * 2 > known {
            let doubtful = removed.into_iter().filter(|(_, has_failed)| !has_failed);
            self.local.extend(doubtful.map(|(path, _)| (path, LocalFile::Absent)));
        }
    }

    pub(super) fn file(&self, path: &str) -> Option<&FormerFile> {
        self.files.get(path)
    }

    /// Returns the files with their states in the directory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &FormerFile, LocalFile)> {
        self.files.iter().filter_map(|(path, file)| Some((path, file, *self.local.get(path)?)))
    }

    /// Adds the knowledge of version 0.1 to the base and the changes from which a log is applied.
    /// The log may have begun on another machine. Where it does not know a path, nothing is
    /// concluded.
    pub(in crate::mirror) fn add_to(&self, base: &mut Base, changes: &mut Changes, log: &LogState) {
        let mut removed: BTreeSet<&String> = BTreeSet::new();
        for (path, file, local) in self.iter() {
            if base.nodes.contains_key(path) {
                continue;
            }
            let node = match log.nodes.get(path) {
                Some(Node::File(version)) if knows(file, version) => {
                    if local == LocalFile::Removed {
                        removed.insert(path);
                    }
                    Some(Node::File(version.clone()))
                }
                None if !log.removed.contains_key(path) => None,
                _ => former_version(file, local).map(Node::File),
            };
            base.nodes.extend(node.map(|node| (path.clone(), node)));
        }
        changes.removed.extend(removed.into_iter().cloned());
    }
}

/// Returns whether version 0.1 knew this version of a file.
pub(super) fn knows(file: &FormerFile, version: &FileVersion) -> bool {
    let is_adopted = version.adopted.as_ref().zip(file.version());
    file.has_content(&version.hash) || is_adopted.is_some_and(|(adopted, known)| known.is(adopted))
}

/// Returns the version that the directory had when version 0.1 last saw it. No log holds it.
fn former_version(file: &FormerFile, local: LocalFile) -> Option<FileVersion> {
    let hash = match (&file.record, local) {
        (_, LocalFile::Present(hash)) if file.has_content(&hash) => hash,
        (Some(FormerRecord::Stored { hash, .. }), _) => *hash,
        _ => return None,
    };
    Some(FileVersion {
        size: 0,
        hash,
        mode: 0,
        modified: (0, 0),
        token: Token::random(),
        number: 0,
        content: Content::Blob(Token::random()),
        origin: Origin::Agent,
        adopted: None,
    })
}

/// Inspects a path of the directory. Returns `None` if nothing has it.
fn find(dir: &SessionDir, path: &str, rules: &IgnoreRules) -> Option<LocalFile> {
    let Ok(relative) = RelativePath::parse(path) else { return Some(LocalFile::Other) };
    if inspect(dir, &relative, rules).find(path).is_some() {
        let hashed = dir.open_file(&relative).ok().and_then(|file| Hash::of_file(&file).ok());
        return Some(hashed.map_or(LocalFile::Other, |(hash, _)| LocalFile::Present(hash)));
    }
    match dir.path().join(path).symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            None
        }
        _ => Some(LocalFile::Other),
    }
}
