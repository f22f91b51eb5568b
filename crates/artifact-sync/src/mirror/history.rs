//! History of a session: the retained entries of its log.

use sandbox_core::RelativePath;
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::log::{Author, Entry, Line, LogState, LogStore, Node, Numbered, Origin};
use crate::mirror::Mirror;
use crate::paths::{covers, under};

/// Retained entry of the session log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HistoryEntry {
    /// Number of the entry.
    pub number: u64,
    /// Time at which the store received the entry, by its clock, in seconds since 1970.
    pub time: i64,
    /// Changes of files, directories and symlinks, in the order of the entry.
    pub changes: Vec<HistoryChange>,
    /// Home that became the owner with this entry.
    pub owned_by: Option<String>,
    /// Set if the owner gave the session up with this entry.
    pub is_release: bool,
    /// Set if the entry holds the complete state.
    pub is_snapshot: bool,
    /// Set if the session was deleted with this entry.
    pub is_erased: bool,
}

/// Change of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HistoryChange {
    /// Path in the session directory.
    pub path: String,
    /// Kind of the change.
    pub kind: HistoryKind,
    /// Kind of the object after the change, or before its removal if that is known.
    pub object: Option<HistoryObject>,
    /// Size of the file after the change, in bytes.
    pub size: Option<u64>,
    /// BLAKE3 hash of the file's content after the change, in hexadecimal.
    pub hash: Option<String>,
    /// Author of the change.
    pub origin: HistoryOrigin,
}

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HistoryKind {
    /// The path did not exist before.
    Created,
    /// The path had another version before.
    Changed,
    /// The path is not part of the session any more.
    Removed,
}

/// Kind of an object of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HistoryObject {
    /// A regular file.
    File,
    /// A directory that is empty or has an unusual mode.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Author of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HistoryOrigin {
    /// The agent, or a restore on its behalf.
    Agent,
    /// Another program that changed the objects of the session.
    External,
    /// The engine, which moved a file to another name.
    Engine,
}

impl Mirror {
    /// Returns whether the log holds a file at this path, or below it. Sends no request.
    pub fn has_file_below(&self, path: &str) -> bool {
        let ledger = self.shared.ledger();
        let is_below = |file: &str| {
            file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        ledger.log().files().any(|(file, _)| is_below(file))
    }

    /// Returns the retained entries of the session log, the newest first. With a path, returns the
    /// entries that changed it or something below it, with these changes only.
    ///
    /// # Errors
    /// Returns [`SyncError::Log`] if the log cannot be read.
    pub async fn history(
        &self,
        path: Option<&RelativePath>,
    ) -> Result<Vec<HistoryEntry>, SyncError> {
        history(&self.shared.log, path).await
    }
}

/// Returns the file or symlink that a path had in the state as of an entry.
pub(super) fn version_in(
    state: &LogState,
    path: &RelativePath,
    number: u64,
) -> Result<Node, SyncError> {
    let path = path.clone();
    match state.nodes.get(path.as_str()) {
        Some(node @ (Node::File(_) | Node::Symlink { .. })) => Ok(node.clone()),
        Some(Node::Directory { .. }) => Err(SyncError::DirectoryVersion { path, number }),
        None if under(&state.nodes, path.as_str()).next().is_some() => {
            Err(SyncError::DirectoryVersion { path, number })
        }
        None => Err(SyncError::NoVersion { path, number }),
    }
}

pub(super) async fn history(
    log: &LogStore,
    path: Option<&RelativePath>,
) -> Result<Vec<HistoryEntry>, SyncError> {
    let describe = |before: &LogState, entry: &Entry, numbered: Numbered| {
        let entry = describe(before, entry, numbered, path.map(RelativePath::as_str));
        (path.is_none() || !entry.changes.is_empty()).then_some(entry)
    };
    let described = log.describe_retained(describe).await;
    let mut entries = described.map_err(|source| SyncError::Log { source })?;
    entries.reverse();
    Ok(entries)
}

fn describe(
    before: &LogState,
    entry: &Entry,
    Numbered { number, at, .. }: Numbered,
    path: Option<&str>,
) -> HistoryEntry {
    let mut described = HistoryEntry {
        number,
        time: at,
        changes: Vec::new(),
        owned_by: None,
        is_release: false,
        is_snapshot: entry.is_snapshot(),
        is_erased: false,
    };
    for line in &entry.lines {
        match line {
            Line::Own { home, .. } => described.owned_by = Some(home.clone()),
            Line::Release => described.is_release = true,
            Line::Erased => described.is_erased = true,
            // The lines of a snapshot repeat the state.
            _ if described.is_snapshot => {}
            line if line.path().is_some_and(|of| path.is_none_or(|path| covers(path, of))) => {
                described.changes.extend(change(before, line));
            }
            _ => {}
        }
    }
    described
}

fn change(before: &LogState, line: &Line) -> Option<HistoryChange> {
    let path = line.path()?;
    let known = before.nodes.get(path);
    let kind = if known.is_some() { HistoryKind::Changed } else { HistoryKind::Created };
    let other = |object, kind| HistoryChange {
        path: path.to_owned(),
        kind,
        object,
        size: None,
        hash: None,
        origin: HistoryOrigin::Agent,
    };
    Some(match line {
        Line::File { file, .. } => HistoryChange {
            size: Some(file.size),
            hash: Some(file.hash.to_string()),
            origin: match file.origin {
                Origin::Agent => HistoryOrigin::Agent,
                Origin::External => HistoryOrigin::External,
            },
            ..other(Some(HistoryObject::File), kind)
        },
        Line::Directory { .. } => other(Some(HistoryObject::Directory), kind),
        Line::Symlink { .. } => other(Some(HistoryObject::Symlink), kind),
        Line::Removed { by, .. } => HistoryChange {
            origin: match by {
                Author::Agent => HistoryOrigin::Agent,
                Author::External => HistoryOrigin::External,
                Author::Engine => HistoryOrigin::Engine,
            },
            ..other(known.map(object), HistoryKind::Removed)
        },
        _ => return None,
    })
}

fn object(node: &Node) -> HistoryObject {
    match node {
        Node::File(_) => HistoryObject::File,
        Node::Directory { .. } => HistoryObject::Directory,
        Node::Symlink { .. } => HistoryObject::Symlink,
    }
}
