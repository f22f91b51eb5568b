//! Return of older versions: they become new versions of the log, and then files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::StreamExt;
use sandbox_core::{RelativePath, with_causes};
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::log::{
    Entry, FileVersion, Line, LogState, MAX_INLINE_BYTES_PER_ENTRY, Node, Numbered, Origin,
    StateAt, Token,
};
use crate::mirror::Mirror;
use crate::mirror::adopt::Adoption;
use crate::mirror::history::version_in;
use crate::mirror::numbers::{no_removal, not_retained};
use crate::mirror::shared::{FollowUp, SentBatch, Shared};
use crate::paths::{covers, parents, under};
use crate::report::{ConflictCopy, RestoreFailure, RestoreReport};
use crate::transfer::Fetched;

/// Versions that one entry brings back at most.
const PER_ENTRY: usize = 256;
/// Concurrent downloads.
const FETCHES_AT_ONCE: usize = 16;

/// Version of a file that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoredVersion {
    /// Path of the file.
    pub path: RelativePath,
    /// Entry as of which the file was restored.
    pub at: u64,
    /// Entry that holds the restored version, or the last entry if nothing changed.
    pub entry: u64,
    /// Set if the file is the same as of that entry, so that nothing was restored.
    #[serde(default)]
    pub is_unchanged: bool,
    /// Files that were not in the store, and were kept under another name.
    pub conflicts: Vec<ConflictCopy>,
}

/// Selection of removed paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Undelete {
    /// These paths. Below a directory, everything returns that the newest removal there removed.
    Paths(Vec<RelativePath>),
    /// Everything that the newest entry with removals removed.
    LastRemoval,
    /// Everything that the entry with this number removed.
    RemovedBy(u64),
}

/// Result of [`Mirror::undelete`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UndeleteReport {
    /// Paths that are back, in order.
    pub restored: Vec<RelativePath>,
    /// Paths that exist again already, and were left alone.
    pub existing: Vec<RelativePath>,
    /// Requested paths of which no removal is retained.
    pub unknown: Vec<RelativePath>,
    /// Paths that could not be restored.
    pub failed: Vec<RestoreFailure>,
    /// Files that were not in the store, and were kept under another name.
    pub conflicts: Vec<ConflictCopy>,
    /// Number of the last entry of the session log that this mirror knows.
    pub entry: u64,
}

/// Treatment of a path that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Replace,
    Keep,
}

/// Older version whose content the store has as a new blob or inline.
struct Returning {
    path: RelativePath,
    node: Node,
    fetched: Option<Fetched>,
}

/// Nodes that one entry removed.
struct Removed {
    number: u64,
    nodes: BTreeMap<String, Node>,
}

impl Mirror {
    /// Restores a file or symlink as it was as of an entry. It becomes a new version of the log,
    /// and then a file. A present file that is not in the store is kept under another name. Nothing
    /// happens if the file has the same content and mode already.
    ///
    /// # Errors
    /// Returns [`SyncError::NotRetained`], [`SyncError::NoEntry`], [`SyncError::DirectoryVersion`]
    /// or [`SyncError::NoVersion`] if there is no such version,
    /// [`SyncError::LocalChange`] while a change of the path is being stored,
    /// [`SyncError::Occupied`] if the path is a directory or lies below a file, and other variants
    /// like [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// The log may have the version. The next call or opening puts it in place then.
    pub async fn restore_version(
        &self,
        path: &RelativePath,
        at: u64,
    ) -> Result<RestoredVersion, SyncError> {
        let shared = &self.shared;
        let _call = self.enter().await?;
        let found = shared.log.state_at(Some(at)).await;
        let found = found.map_err(|source| SyncError::Log { source })?;
        let Some(StateAt { state, .. }) = found else {
            return Err(not_retained(&shared.log, at).await);
        };
        let node = version_in(&state, path, at)?;
        let restored = |is_unchanged, conflicts| {
            let (path, entry) = (path.clone(), self.entry());
            RestoredVersion { path, at, entry, is_unchanged, conflicts }
        };
        if shared.has_node(path, &node) {
            return Ok(restored(true, Vec::new()));
        }
        let mut report = RestoreReport::default();
        let nodes = vec![(path.clone(), node)];
        let mut failed = shared.bring_back(nodes, Existing::Replace, &mut report).await?;
        match failed.pop() {
            Some((_, error)) => Err(error),
            None => match report.failed.pop() {
                Some(RestoreFailure { reason: problem, .. }) => {
                    Err(SyncError::Damaged { path: path.clone(), problem })
                }
                None => Ok(restored(false, report.conflicts)),
            },
        }
    }

    /// Brings removed paths back, as they were before their removal. Paths that exist again are
    /// left alone.
    ///
    /// # Errors
    /// Returns [`SyncError::NotRetained`] or [`SyncError::NoEntry`] if the log does not hold the
    /// entry, [`SyncError::NoRemoval`] if it removed nothing, and other variants like
    /// [`Mirror::sync`].
    ///
    /// # Cancel safety
    /// Each path is either back or absent, and the next call continues.
    pub async fn undelete(&self, selection: Undelete) -> Result<UndeleteReport, SyncError> {
        let shared = &self.shared;
        let _call = self.enter().await?;
        let removals = shared.log.describe_retained(removal).await;
        let removals = removals.map_err(|source| SyncError::Log { source })?;
        let mut report = UndeleteReport::default();
        let nodes = match select(&selection, removals, &mut report.unknown) {
            Ok(nodes) => nodes,
            Err(number) => return Err(no_removal(&shared.log, number).await),
        };
        let mut absent = Vec::new();
        for (path, node) in nodes {
            let Ok(path) = RelativePath::parse(&path) else { continue };
            let is_logged = shared.ledger().log().nodes.contains_key(path.as_str());
            match shared.check_place(&path, &node) {
                _ if is_logged => report.existing.push(path),
                // A symlink above may lead to a file of this name.
                Err(error) => report
                    .failed
                    .push(RestoreFailure { key: path.to_string(), reason: with_causes(&error) }),
                Ok(()) if shared.tracker.inspect(&path).has(path.as_str()) => {
                    report.existing.push(path);
                }
                Ok(()) => absent.push((path, node)),
            }
        }
        let mut restored = RestoreReport::default();
        let failed = shared.bring_back(absent, Existing::Keep, &mut restored).await?;
        for (path, error) in failed {
            match error {
                SyncError::LocalChange { .. } => report.existing.push(path),
                error => {
                    let (key, reason) = (path.to_string(), with_causes(&error));
                    report.failed.push(RestoreFailure { key, reason });
                }
            }
        }
        report.failed.extend(restored.failed);
        (report.restored, report.conflicts) = (restored.restored, restored.conflicts);
        report.restored.sort();
        report.existing.sort();
        report.entry = self.entry();
        Ok(report)
    }
}

/// Describes the removals of an entry.
fn removal(before: &LogState, entry: &Entry, Numbered { number, .. }: Numbered) -> Option<Removed> {
    if entry.is_snapshot() {
        return None;
    }
    let removed = entry.lines.iter().filter_map(|line| match line {
        Line::Removed { path, .. } => Some((path.clone(), before.nodes.get(path)?.clone())),
        _ => None,
    });
    let nodes: BTreeMap<String, Node> = removed.collect();
    (!nodes.is_empty()).then_some(Removed { number, nodes })
}

/// Selects removed nodes. The newest removal of a path counts.
fn select(
    selection: &Undelete,
    mut removals: Vec<Removed>,
    unknown: &mut Vec<RelativePath>,
) -> Result<BTreeMap<String, Node>, u64> {
    match selection {
        Undelete::LastRemoval => Ok(removals.pop().map(|last| last.nodes).unwrap_or_default()),
        Undelete::RemovedBy(number) => {
            let found = removals.into_iter().find(|removed| removed.number == *number);
            found.map(|removed| removed.nodes).ok_or(*number)
        }
        Undelete::Paths(paths) => {
            let mut selected = BTreeMap::new();
            for path in paths {
                let below = |removed: &&Removed| {
                    removed.nodes.keys().any(|removed| covers(path.as_str(), removed))
                };
                let Some(newest) = removals.iter().rev().find(below) else {
                    unknown.push(path.clone());
                    continue;
                };
                let nodes = newest.nodes.iter();
                let nodes = nodes.filter(|(removed, _)| covers(path.as_str(), removed));
                selected.extend(nodes.map(|(path, node)| (path.clone(), node.clone())));
            }
            Ok(selected)
        }
    }
}

impl Shared {
    /// Stores older versions as new ones and puts them into the working copy. Returns the paths
    /// that could not be brought back.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        nodes: Vec<(RelativePath, Node)>,
        existing: Existing,
        report: &mut RestoreReport,
    ) -> Result<Vec<(RelativePath, SyncError)>, SyncError> {
        let mut failed = Vec::new();
        let mut nodes = nodes.into_iter().peekable();
        while nodes.peek().is_some() {
            let some: Vec<_> = nodes.by_ref().take(PER_ENTRY).collect();
            let inline_left = AtomicU64::new(MAX_INLINE_BYTES_PER_ENTRY);
            let prepared: Vec<_> = futures::stream::iter(some)
                .map(async |(path, node)| {
                    let prepared = self.prepare(&path, node, &inline_left).await;
                    (path, prepared)
                })
                .buffered(FETCHES_AT_ONCE)
                .collect()
                .await;
            let mut ready = Vec::new();
            for (path, prepared) in prepared {
                match prepared {
                    Ok(prepared) => ready.push(prepared),
                    Err(error) => failed.push((path, error)),
                }
            }
            self.append_versions(ready, existing, report, &mut failed).await?;
        }
        Ok(failed)
    }

    /// Fetches an older version and stores its content again.
    async fn prepare(
        &self,
        path: &RelativePath,
        node: Node,
        inline_left: &AtomicU64,
    ) -> Result<Returning, SyncError> {
        if self.rules.covers(path.as_str()) {
            return Err(SyncError::NotMirrored { path: path.clone() });
        }
        self.check_place(path, &node)?;
        let Node::File(file) = node else {
            return Ok(Returning { path: path.clone(), node, fetched: None });
        };
        let fetched = self.fetcher.fetch(path, &file).await?;
        // Only contents of the current state may be referred to again.
        let content = self.store_fetched(path, &fetched, inline_left).await?;
        let file = FileVersion {
            token: Token::random(),
            number: 0,
            content,
            origin: Origin::Agent,
            adopted: None,
            ..file
        };
        Ok(Returning { path: path.clone(), node: Node::File(file), fetched: Some(fetched) })
    }

    /// Checks that the path neither is a directory nor lies below a file.
    fn check_place(&self, path: &RelativePath, node: &Node) -> Result<(), SyncError> {
        let ledger = self.ledger();
        let nodes = &ledger.log().nodes;
        let is_leaf =
            |path: &str| matches!(nodes.get(path), Some(Node::File(_) | Node::Symlink { .. }));
        let is_directory = || {
            under(nodes, path.as_str()).any(|(below, _)| below != path.as_str())
                || std::fs::symlink_metadata(self.dir.path().join(path)).is_ok_and(|at| at.is_dir())
        };
        let is_blocked = !matches!(node, Node::Directory { .. }) && is_directory();
        let by = parents(path.as_str()).find(|above| is_leaf(above));
        match by.or(is_blocked.then_some(path.as_str())) {
            Some(by) => Err(self.occupied(path, by)),
            None => Ok(()),
        }
    }

    /// Returns the error for a path in whose place another one is.
    pub(super) fn occupied(&self, path: &RelativePath, by: &str) -> SyncError {
        let kind = match std::fs::symlink_metadata(self.dir.path().join(by)) {
            Ok(at) if at.is_symlink() => "symlink",
            Ok(at) if at.is_dir() => "directory",
            _ => "file",
        };
        SyncError::Occupied { path: path.clone(), by: by.to_owned(), kind }
    }

    async fn append_versions(
        self: &Arc<Self>,
        ready: Vec<Returning>,
        existing: Existing,
        report: &mut RestoreReport,
        failed: &mut Vec<(RelativePath, SyncError)>,
    ) -> Result<(), SyncError> {
        let contents = ready.iter().filter_map(|returning| match &returning.node {
            Node::File(file) => Some(&file.content),
            Node::Directory { .. } | Node::Symlink { .. } => None,
        });
        let flushed = self.flush_contents(contents).await;
        flushed.map_err(|source| SyncError::Append { source })?;
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let (mut lines, mut files, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for Returning { path, node, fetched } in ready {
            let is_busy = {
                let ledger = self.ledger();
                let is_present = ledger.log().nodes.contains_key(path.as_str());
                ledger.is_claimed(path.as_str()) || is_present && existing == Existing::Keep
            };
            let checked = if is_busy {
                Err(SyncError::LocalChange { path: path.clone() })
            } else {
                self.check_place(&path, &node)
            };
            if let Err(error) = checked {
                self.forget_content(&node);
                failed.push((path, error));
                continue;
            }
            lines.push(node.line(path.as_str()));
            match (node, fetched) {
                (Node::File(file), Some(fetched)) => {
                    let adoption = Adoption::restored(path, fetched, file);
                    files.push(FollowUp::Adopt(Box::new(adoption)));
                }
                (node, _) => others.push(FollowUp::Restore { path, node }),
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let paths = lines.iter().filter_map(|line| Some(line.path()?.to_owned())).collect();
        // Modes of directories come last, the deepest first, because they may forbid writing.
        let follow_ups = files.into_iter().chain(others.into_iter().rev()).collect();
        let sent = SentBatch { follow_ups, ..SentBatch::default() };
        report.extend(self.append(&mut appender, lines, sent).await?);
        drop(appender);
        self.project(paths).await;
        Ok(())
    }

    fn forget_content(&self, node: &Node) {
        if let Node::File(FileVersion { content: crate::log::Content::Blob(blob), .. }) = node {
            self.ledger().forget_upload(*blob);
        }
    }
}
