//! Plan of the entry of a batch.

use std::collections::HashSet;

use crate::log::{Author, Content, FileVersion, Line, Node, Origin, Token, unix_seconds};
use crate::mirror::batch::Ready;
use crate::mirror::shared::{ChangeKind, SentBatch, Shared};
use crate::paths::{covers, parents, under};
use crate::scan::Changes;
use crate::state::Batch;
use crate::transfer::StoredContent;

/// Most renamed or removed files of a call whose objects the call waits for.
const MAX_AWAITED_OBJECTS: usize = 16;

/// Lines of a batch and what follows from them.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) lines: Vec<Line>,
    pub(super) sent: SentBatch,
    /// Files whose object may be put before the entry is acknowledged.
    pub(super) files: Vec<(String, FileVersion)>,
    /// Paths whose object is brought up to date before the call returns. The objects of renamed
    /// files follow in the background.
    pub(super) touched: Vec<String>,
    /// Changed paths that need no line.
    pub(super) unchanged: Vec<String>,
}

impl Shared {
    /// Plans the entry of a batch against the log, which no other append changes meanwhile.
    pub(super) fn plan(&self, batch: Batch, ready: Vec<Ready>, rest: Changes) -> Plan {
        let mut ledger = self.ledger();
        let mut plan = Plan::default();
        plan.sent.batch = batch;
        let at = unix_seconds();
        let removed =
            |path: &str| Line::Removed { path: path.to_owned(), by: Author::Agent, at, number: 0 };
        let mut gone: Vec<String> = Vec::new();
        for path in rest.removed {
            let is_file = matches!(ledger.log().nodes.get(&path), Some(Node::File(_)));
            if is_file && !ledger.owns(batch, &path) && ledger.is_claimed(&path) {
                continue;
            }
            if ledger.log().nodes.contains_key(&path) {
                gone.push(path);
            } else {
                ledger.release_claim(batch, &path);
                ledger.forget_remains(&path);
                plan.unchanged.push(path);
            }
        }
        let (mut created, mut reused) = (Vec::new(), HashSet::new());
        for Ready { path, stored } in ready {
            // A later batch stores a newer version.
            if !ledger.owns(batch, &path) {
                if let Content::Blob(blob) = stored.content {
                    ledger.forget_upload(blob);
                }
                plan.unchanged.push(path);
                continue;
            }
            let before = ledger.log().file(&path);
            let StoredContent { signature, hash, content } = stored;
            let is_same = before.is_some_and(|file| file.hash == hash);
            let now = signature.signature;
            let (mode, modified) = (now.mode, now.modified);
            let same = before.filter(|_| is_same);
            if same.is_some_and(|file| file.mode == mode && file.modified == modified) {
                ledger.set_local(&path, signature);
                ledger.release_claim(batch, &path);
                plan.unchanged.push(path);
                continue;
            }
            // The mode and the times of an object are not worth another upload, but the executable
            // bit is an attribute.
            let keeps = same.filter(|file| (file.mode ^ mode) & 0o100 == 0);
            let file = FileVersion {
                size: now.size,
                hash,
                mode,
                modified,
                token: keeps.map_or_else(Token::random, |file| file.token),
                number: keeps.map_or(0, |file| file.number),
                content: content.clone(),
                origin: Origin::Agent,
                adopted: keeps.and_then(|file| file.adopted.clone()),
            };
            let is_new_content = matches!(&content, Content::Inline(_))
                || matches!(&content, Content::Blob(blob) if ledger.uploads().contains_key(blob));
            if !is_new_content && keeps.is_none() {
                reused.insert(path.clone());
            }
            let is_reported = same.is_none_or(|file| file.mode != mode);
            plan.sent.signatures.push((path.clone(), signature));
            let kind = if is_reported { ChangeKind::File } else { ChangeKind::Unreported };
            plan.sent.changes.push((path.clone(), kind));
            created.push((path, Node::File(file)));
        }
        for entry in rest.symlinks {
            created.push((entry.path, Node::Symlink { target: entry.target }));
        }
        for entry in rest.directories {
            created.push((entry.path, Node::Directory { mode: entry.mode }));
        }
        created.retain(|(path, node)| ledger.log().nodes.get(path) != Some(node));
        // A file system cannot hold files below a file.
        let nodes = &ledger.log().nodes;
        for (path, node) in &created {
            let above = parents(path).filter(|above| {
                matches!(nodes.get(*above), Some(Node::File(_) | Node::Symlink { .. }))
            });
            gone.extend(above.map(str::to_owned));
            if !matches!(node, Node::Directory { .. }) {
                let below =
                    under(nodes, path).map(|(below, _)| below).filter(|below| *below != path);
                gone.extend(below.cloned());
            }
        }
        gone.sort_unstable();
        gone.dedup();
        plan.lines.extend(gone.iter().map(|path| removed(path)));
        for (path, node) in created {
            if let Node::File(file) = &node
                && file.number == 0
            {
                let is_reused = self.projection.is_some()
                    && reused.len() > MAX_AWAITED_OBJECTS
                    && reused.contains(&path);
                if is_reused {
                    self.reported.await_object(&path);
                } else {
                    plan.touched.push(path.clone());
                }
                let crowded = parents(&path).any(|above| ledger.seen(above).is_some())
                    || gone.iter().any(|gone| covers(&path, gone) && *gone != path);
                if !crowded && !is_reused {
                    plan.files.push((path.clone(), file.clone()));
                }
            }
            plan.lines.push(node.line(&path));
            if !matches!(node, Node::File(_)) {
                plan.sent.changes.push((path, ChangeKind::Unreported));
            }
        }
        if gone.len() <= MAX_AWAITED_OBJECTS {
            plan.touched.extend(gone.iter().cloned());
        }
        plan.sent.changes.extend(gone.into_iter().map(|path| {
            let is_file = ledger.log().file(&path).is_some();
            let kind = if is_file { ChangeKind::RemovedFile } else { ChangeKind::Unreported };
            (path, kind)
        }));
        plan
    }
}
