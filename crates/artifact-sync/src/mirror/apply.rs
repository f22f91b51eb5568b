//! Application of the log to the working copy.
//!
//! Unchanged files follow the log. A file that was changed here is kept beside if the log moved
//! on, unless its content is an older version of the log. The position advances last, so that an
//! interrupted application is repeated.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use futures::StreamExt;
use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, Replaced, SessionDir, with_causes};

use crate::error::{SyncError, SyncErrorKind};
use crate::log::{FileVersion, Hash, Node};
use crate::mirror::incoming::Incoming;
use crate::mirror::place::{Expected, conflict_path, place_file, place_other, remove};
use crate::paths::parents;
use crate::report::{
    ConflictCopy, Direction, Progress, ProgressCounter, RestoreFailure, RestoreReport,
};
use crate::scan::{Changes, RecordedSignature, Signature};
use crate::state::Ledger;
use crate::transfer::Fetcher;

/// Concurrent downloads.
const FETCHES_AT_ONCE: usize = 32;

/// State of a path in the working copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    /// It has the version of the log that the working copy follows.
    Unchanged(Option<RecordedSignature>),
    /// It was changed here and not stored.
    Changed(Signature, Hash),
    /// It was removed here, and the removal is not stored.
    Removed,
    /// A directory or a symlink was changed here and not stored.
    ChangedOther,
}

/// Step for one path.
#[derive(Debug)]
struct Step {
    path: RelativePath,
    /// Node to put in place; `None` removes the path.
    target: Option<Node>,
    /// Object that is replaced. Any other one is kept beside.
    expected: Expected,
    /// Set if the working copy has the content already.
    has_content: Option<Signature>,
    was_directory: bool,
}

/// Context of an application.
pub(super) struct Application<'a> {
    pub(super) dir: &'a Arc<SessionDir>,
    pub(super) fetcher: &'a Fetcher,
    pub(super) progress: Option<&'a dyn Progress>,
}

/// Outcome of an application.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) report: RestoreReport,
    /// Signatures of files that hold the version of the log.
    pub(super) signatures: Vec<(String, RecordedSignature)>,
}

impl Application<'_> {
    /// Applies the incoming log. `changes` are the differences of the working copy to the ledger.
    pub(super) async fn apply(
        &self,
        incoming: &Incoming,
        base: &Base,
        changes: &Changes,
    ) -> Result<Applied, SyncError> {
        let locals = self.locals(changes).await;
        let steps = plan(incoming, base, &locals);
        let mut applied = Applied::default();
        self.remove_all(&steps, incoming, &mut applied).await;
        self.place_all(steps, &mut applied).await?;
        applied.report.torn_entries.clone_from(&incoming.torn);
        applied.report.restored.sort();
        applied.report.removed.sort();
        applied.report.failed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(applied)
    }

    /// Hashes the changed files.
    async fn locals(&self, changes: &Changes) -> HashMap<String, Local> {
        let removed = changes.removed.iter().map(|path| (path.clone(), Local::Removed));
        let mut locals: HashMap<String, Local> = removed.collect();
        let directories = changes.directories.iter().map(|entry| entry.path.clone());
        let others = directories.chain(changes.symlinks.iter().map(|entry| entry.path.clone()));
        locals.extend(others.map(|path| (path, Local::ChangedOther)));
        // With borrowed items, the future of opening could not be sent to another thread.
        let hashed: Vec<_> = futures::stream::iter(changes.modified.clone())
            .map(async |entry| {
                let hash = hash_of(self.dir, &entry.path).await;
                let hash = hash.unwrap_or(Hash::of(b""));
                (entry.path, Local::Changed(entry.signature, hash))
            })
            .buffer_unordered(2)
            .collect()
            .await;
        locals.extend(hashed);
        locals
    }

    /// Removes files first, so that directories can take their names.
    async fn remove_all(&self, steps: &[Step], incoming: &Incoming, applied: &mut Applied) {
        let mut emptied = BTreeSet::new();
        for step in steps.iter().filter(|step| step.target.is_none()) {
            if step.was_directory {
                emptied.insert(step.path.as_str().to_owned());
                continue;
            }
            let beside = self.beside(&step.path).await;
            match remove(self.dir, &step.path, step.expected, &beside).await {
                Ok(replaced) => {
                    note_replaced(&mut applied.report, &step.path, &beside, replaced);
                    if replaced == Replaced::Expected {
                        applied.report.removed.push(step.path.clone());
                    }
                    emptied.extend(parents(step.path.as_str()).map(str::to_owned));
                }
                Err(error) => note_failure(&mut applied.report, &step.path, &error),
            }
        }
        // The deepest directories come first.
        for path in emptied.into_iter().rev().filter(|path| incoming.node(path).is_none()) {
            if let Ok(path) = RelativePath::parse(&path) {
                self.dir.remove_empty_directory(&path);
            }
        }
    }

    async fn place_all(&self, steps: Vec<Step>, applied: &mut Applied) -> Result<(), SyncError> {
        let (mut files, others): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .filter_map(|step| {
                let target = step.target.clone()?;
                Some((step, target))
            })
            .partition(|(_, target)| matches!(target, Node::File(_)));
        // With small files first, most files of the session arrive soon.
        files.sort_by_key(|(_, target)| match target {
            Node::File(file) => file.size,
            _ => 0,
        });
        let counter = ProgressCounter::new(self.progress, Direction::Download, files.len());
        let placed: Vec<_> = futures::stream::iter(files)
            .map(async |(step, target)| {
                let Node::File(file) = target else { unreachable!("only files are here") };
                let outcome = self.place(&step, &file).await;
                let outcome = outcome.map_err(|error| (step.expected, error));
                counter.increment();
                (step.path, outcome)
            })
            .buffer_unordered(FETCHES_AT_ONCE)
            .collect()
            .await;
        for (path, outcome) in placed {
            match outcome {
                Ok(Placed { signature, beside, replaced, is_new }) => {
                    note_replaced(&mut applied.report, &path, &beside, replaced);
                    applied.signatures.push((path.as_str().to_owned(), signature));
                    if is_new {
                        applied.report.restored.push(path);
                    }
                }
                // The content exists nowhere any more, and nothing else must take its place.
                Err((expected, error)) if error.kind() == SyncErrorKind::StoreDamaged => {
                    note_failure(&mut applied.report, &path, &error);
                    let beside = self.beside(&path).await;
                    let _ = remove(self.dir, &path, expected, &beside).await;
                }
                Err((_, error)) => return Err(error),
            }
        }
        // Modes of directories come last, because they may forbid writing.
        for (step, target) in others.into_iter().rev() {
            let beside = self.beside(&step.path).await;
            let placed = place_other(self.dir, &step.path, &target, step.expected, &beside).await;
            match placed {
                Ok(replaced) => {
                    note_replaced(&mut applied.report, &step.path, &beside, replaced);
                }
                Err(error) => note_failure(&mut applied.report, &step.path, &error),
            }
        }
        Ok(())
    }

    async fn place(&self, step: &Step, file: &FileVersion) -> Result<Placed, SyncError> {
        let beside = self.beside(&step.path).await;
        if let Some(signature) = step.has_content {
            let replaced = Replaced::Nothing;
            // The content was read before, so this is as late as the reading at least.
            let signature = signature.racy();
            return Ok(Placed { signature, beside, replaced, is_new: false });
        }
        let fetched = self.fetcher.fetch(&step.path, file).await?;
        let (signature, replaced) = place_file(fetched, file, step.expected, &beside).await?;
        Ok(Placed { signature, beside, replaced, is_new: true })
    }

    /// Returns the name under which the present content of a path would be kept.
    async fn beside(&self, path: &RelativePath) -> RelativePath {
        let hash = hash_of(self.dir, path.as_str()).await;
        conflict_path(path, hash.unwrap_or(Hash::of(path.as_str().as_bytes())))
    }
}

struct Placed {
    signature: RecordedSignature,
    beside: RelativePath,
    replaced: Replaced,
    is_new: bool,
}

/// Log that the working copy follows, without the parts that no plan needs.
pub(super) struct Base {
    pub(super) nodes: std::collections::BTreeMap<String, Node>,
    pub(super) local: std::collections::BTreeMap<String, RecordedSignature>,
}

impl Base {
    pub(super) fn of(ledger: &Ledger) -> Self {
        Self { nodes: ledger.log().nodes.clone(), local: ledger.locals().clone() }
    }
}

/// Plans the steps for all paths. Pure.
fn plan(incoming: &Incoming, base: &Base, locals: &HashMap<String, Local>) -> Vec<Step> {
    let mut paths: BTreeSet<String> = match &incoming.touched {
        Some(touched) => touched.clone(),
        None => base.nodes.keys().chain(incoming.state.nodes.keys()).cloned().collect(),
    };
    paths.extend(locals.keys().filter(|path| incoming.versions.contains_key(*path)).cloned());
    let changed: HashSet<&String> = locals.keys().collect();
    if incoming.missed_entries {
        paths.extend(changed.into_iter().cloned());
    }
    paths.iter().filter_map(|path| plan_path(incoming, base, locals, path)).collect()
}

fn plan_path(
    incoming: &Incoming,
    base: &Base,
    locals: &HashMap<String, Local>,
    path: &str,
) -> Option<Step> {
    let relative = RelativePath::parse(path).ok()?;
    let (before, target) = (base.nodes.get(path), incoming.node(path));
    let unchanged = Local::Unchanged(base.local.get(path).copied());
    let local = match (locals.get(path).copied(), before) {
        // Only the mode or the times were changed, so the file follows the log.
        (Some(Local::Changed(signature, hash)), Some(Node::File(file)))
            if file.hash == hash && Some(&Node::File(file.clone())) != target =>
        {
            Local::Unchanged(Some(signature.racy()))
        }
        (local, _) => local.unwrap_or(unchanged),
    };
    let content = match (local, before) {
        (Local::Changed(_, hash), _) => Some(hash),
        (_, Some(Node::File(file))) => Some(file.hash),
        _ => None,
    };
    let step = |expected: Option<RecordedSignature>, has_content| {
        let was_directory = matches!(before, Some(Node::Directory { .. }));
        let target = target.cloned();
        let expected = match before {
            Some(Node::Symlink { .. }) if !matches!(local, Local::ChangedOther) => {
                Expected::Symlink
            }
            _ => match expected.zip(content) {
                Some((recorded, content)) => Expected::recorded(recorded, content),
                None => Expected::Nothing,
            },
        };
        Some(Step { path: relative, target, expected, has_content, was_directory })
    };
    let is_same = match (before, target) {
        (Some(before), Some(target)) => is_same_node(before, target),
        (before, target) => before.is_none() && target.is_none(),
    };
    match local {
        Local::Unchanged(Some(_)) if is_same => None,
        // The working copy lacks a file that it should have: its restore was interrupted.
        Local::Unchanged(None) if is_same => match target {
            Some(Node::File(_)) => step(None, None),
            _ => None,
        },
        Local::Unchanged(signature) => step(signature, None),
        // The path did not move in the log, so the removal stays to be stored.
        Local::Removed if is_same => None,
        Local::Removed => target.is_some().then(|| step(None, None))?,
        Local::Changed(signature, hash) => match target {
            Some(Node::File(file)) if file.hash == hash => {
                let is_equal = file.mode == signature.mode && file.modified == signature.modified;
                match is_equal {
                    true => step(None, Some(signature)),
                    // The mode or the times were changed here, which stays to be stored.
                    false if is_same || before.is_none() => None,
                    false => step(Some(signature.racy()), None),
                }
            }
            _ if incoming.has_version(path, hash) => step(Some(signature.racy()), None),
            _ if incoming.missed_entries || !is_same => step(None, None),
            _ => None,
        },
        Local::ChangedOther if is_same && !incoming.missed_entries => None,
        Local::ChangedOther => target.is_some().then(|| step(None, None))?,
    }
}

/// Returns whether two nodes are equal for the working copy.
fn is_same_node(before: &Node, target: &Node) -> bool {
    match (before, target) {
        (Node::File(before), Node::File(target)) => {
            before.hash == target.hash
                && before.mode == target.mode
                && before.modified == target.modified
        }
        (before, target) => before == target,
    }
}

/// Returns the hash of a file that can be read.
pub(super) async fn hash_of(dir: &Arc<SessionDir>, path: &str) -> Option<Hash> {
    let path = RelativePath::parse(path).ok()?;
    let dir = Arc::clone(dir);
    blocking(move || {
        let file: File = dir.open_file(&path).ok()?;
        Some(Hash::of_file(&file).ok()?.0)
    })
    .await
}

fn note_replaced(
    report: &mut RestoreReport,
    path: &RelativePath,
    beside: &RelativePath,
    replaced: Replaced,
) {
    if replaced == Replaced::Preserved {
        let (path, kept_as) = (path.clone(), beside.clone());
        report.conflicts.push(ConflictCopy { path, kept_as });
    }
}

fn note_failure(report: &mut RestoreReport, path: &RelativePath, error: &dyn std::error::Error) {
    report.failed.push(RestoreFailure { key: path.to_string(), reason: with_causes(error) });
}
