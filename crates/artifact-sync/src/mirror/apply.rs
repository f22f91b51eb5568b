//! Application of the log to the working copy.
//!
//! Unchanged files follow the log. A file that was changed here is kept beside if the log moved
//! on, unless its content is an older version of the log. The position advances last, so that an
//! interrupted application is repeated. A path that cannot follow is recorded with what it has
//! instead, so that this is not taken for a change by a program.

mod errors;
mod others;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::sync::Arc;

use futures::StreamExt;
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, Replaced, SessionDir, with_causes};

use crate::error::{SyncError, SyncErrorKind};
use crate::log::{FileVersion, Hash, Node};
use crate::mirror::incoming::Incoming;
use crate::mirror::place::{
    Expected, conflict_path, place_file, place_other, preserved, remove, remove_obstacles,
};
use crate::paths::parents;
use crate::report::{
    ConflictCopy, Direction, Progress, ProgressCounter, RestoreFailure, RestoreReport,
};
use crate::scan::{Changes, RecordedSignature, Signature};
use crate::state::{Remains, USUAL_DIRECTORY_MODE};
use crate::transfer::Fetcher;

/// Files that are fetched or put in place at once. Fewer are fetched at once.
const FILES_AT_ONCE: usize = 64;

pub(super) use errors::DiskFailure;
use others::{filled_symlinks, others_in_place};
pub(super) use plan::{Base, held_version};
use plan::{Local, Step, plan};

/// Context of an application.
pub(super) struct Application<'a> {
    pub(super) dir: &'a Arc<SessionDir>,
    pub(super) fetcher: &'a Fetcher,
    pub(super) progress: Option<&'a dyn Progress>,
    pub(super) disk_failure: DiskFailure,
}

/// Outcome of an application.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) report: RestoreReport,
    /// Signatures of files that hold the version of the log.
    pub(super) signatures: Vec<(String, RecordedSignature)>,
    /// Paths that do not follow the log.
    pub(super) unfollowed: BTreeMap<String, Remains>,
}

impl Application<'_> {
    /// Applies the incoming log. `changes` are the differences of the working copy to the ledger.
    pub(super) async fn apply(
        &self,
        incoming: &Incoming,
        mut base: Base,
        changes: &Changes,
    ) -> Result<Applied, SyncError> {
        let mut locals = self.locals(changes).await;
        let filled = filled_symlinks(self.dir, incoming, &base);
        locals.extend(filled.iter().map(|path| (path.clone(), Local::ChangedOther)));
        for (path, node) in others_in_place(incoming, changes, filled) {
            locals.remove(&path);
            base.take_over(path, node);
        }
        let steps = plan(incoming, &base, &locals);
        let mut applied = Applied::default();
        self.remove_all(&steps, incoming, &base, &mut applied).await;
        self.clear_the_way(&steps, &mut applied).await;
        self.place_all(steps, &base, &mut applied).await?;
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
    async fn remove_all(
        &self,
        steps: &[Step],
        incoming: &Incoming,
        base: &Base,
        applied: &mut Applied,
    ) {
        let mut emptied = BTreeSet::new();
        for step in steps.iter().filter(|step| step.target.is_none()) {
            if step.was_directory {
                emptied.insert(step.path.as_str().to_owned());
                emptied.extend(parents(step.path.as_str()).map(str::to_owned));
                continue;
            }
            let beside = self.beside(&step.path, step.expected()).await;
            match remove(self.dir, &step.path, step.expected(), &beside).await {
                Ok(replaced) => {
                    note_replaced(&mut applied.report, &step.path, &beside, &replaced);
                    if replaced == Replaced::Expected {
                        applied.report.removed.push(step.path.clone());
                    }
                    emptied.extend(parents(step.path.as_str()).map(str::to_owned));
                }
                Err(error) => applied.fail(&step.path, step.expected(), &error, base),
            }
        }
        // The deepest directories come first.
        for path in emptied.into_iter().rev().filter(|path| incoming.node(path).is_none()) {
            let Ok(relative) = RelativePath::parse(&path) else { continue };
            // It has ignored entries, or it cannot be removed.
            if !self.dir.remove_empty_directory(&relative) {
                let mode = match base.nodes.get(&path) {
                    Some(Node::Directory { mode }) => *mode,
                    _ => USUAL_DIRECTORY_MODE,
                };
                // The log has it above another path.
                if mode == USUAL_DIRECTORY_MODE && incoming.has_below(&path) {
                    continue;
                }
                applied.unfollowed.insert(path, Remains::Directory { mode });
            }
        }
    }

    /// Removes what is no directory where the log has one, explicitly or above another path. What
    /// the log does not know is kept beside.
    async fn clear_the_way(&self, steps: &[Step], applied: &mut Applied) {
        let expected = steps.iter().map(|step| (step.path.as_str(), step.expected()));
        let expected: HashMap<&str, Expected> =
            expected.filter(|(_, expected)| *expected != Expected::Nothing).collect();
        let targets = steps.iter().filter(|step| step.target.is_some());
        let directories = targets.flat_map(|step| {
            let is_directory = matches!(step.target, Some(Node::Directory { .. }));
            let own = is_directory.then_some(step.path.as_str());
            parents(step.path.as_str()).chain(own)
        });
        // Those above come before those below.
        let directories: BTreeSet<&str> = directories.collect();
        let directories: Vec<(RelativePath, Expected)> = directories
            .into_iter()
            .filter_map(|path| {
                let expected = expected.get(path).copied().unwrap_or(Expected::Nothing);
                Some((RelativePath::parse(path).ok()?, expected))
            })
            .collect();
        for (path, beside, replaced) in remove_obstacles(self.dir, directories).await {
            note_replaced(&mut applied.report, &path, &beside, &replaced);
        }
    }

    async fn place_all(
        &self,
        steps: Vec<Step>,
        base: &Base,
        applied: &mut Applied,
    ) -> Result<(), SyncError> {
        let (mut files, others): (Vec<Step>, Vec<Step>) = steps
            .into_iter()
            .filter(|step| step.target.is_some())
            .partition(|step| matches!(step.target, Some(Node::File(_))));
        // With small files first, most files of the session arrive soon.
        files.sort_by_key(|step| match &step.target {
            Some(Node::File(file)) => file.size,
            _ => 0,
        });
        let leftovers = applied.directories_with_leftovers();
        let counter = ProgressCounter::new(self.progress, Direction::Download, files.len());
        let placed = futures::stream::iter(files)
            .map(async |step| {
                let Some(Node::File(file)) = &step.target else {
                    unreachable!("only files are here")
                };
                let outcome = match leftovers.contains(step.path.as_str()) {
                    true => Err(leftover_error(&step.path)),
                    false => self.place(&step, file).await,
                };
                let outcome = outcome.map_err(|error| (step.expected(), error));
                counter.increment();
                (step.path, outcome)
            })
            .buffer_unordered(FILES_AT_ONCE);
        let mut placed = std::pin::pin!(placed);
        // After an error, the files that arrive already are still put in place.
        let mut ended = Ok(());
        while let Some((path, outcome)) = placed.next().await {
            match outcome {
                Ok(Placed { signature, kept_as, is_new }) => {
                    if let Some(kept_as) = kept_as {
                        let path = path.clone();
                        applied.report.conflicts.push(ConflictCopy { path, kept_as });
                    }
                    applied.signatures.push((path.as_str().to_owned(), signature));
                    if is_new {
                        applied.report.restored.push(path);
                    }
                }
                // The content exists nowhere any more, and nothing else must take its place.
                Err((expected, error)) if error.kind() == SyncErrorKind::StoreDamaged => {
                    applied.fail(&path, expected, &error, base);
                    let beside = self.beside(&path, expected).await;
                    if let Ok(replaced) = remove(self.dir, &path, expected, &beside).await {
                        note_replaced(&mut applied.report, &path, &beside, &replaced);
                        applied.unfollowed.insert(path.to_string(), Remains::Nothing);
                    }
                }
                Err((expected, error)) if self.disk_failure.is_of_path(&error) => {
                    applied.fail(&path, expected, &error, base);
                }
                Err((_, error)) => ended = ended.and(Err(error)),
            }
        }
        ended?;
        // Modes of directories come last, because they may forbid writing.
        for step in others.into_iter().rev() {
            let (expected, Some(target)) = (step.expected(), &step.target) else { continue };
            let is_directory = matches!(target, Node::Directory { .. });
            if !is_directory && leftovers.contains(step.path.as_str()) {
                applied.fail(&step.path, expected, &leftover_error(&step.path), base);
                continue;
            }
            let beside = self.beside(&step.path, step.expected()).await;
            let placed = place_other(self.dir, &step.path, target, expected, &beside).await;
            match placed {
                Ok(replaced) => {
                    note_replaced(&mut applied.report, &step.path, &beside, &replaced);
                }
                Err(error) if self.disk_failure.is_file_error_of_path(&error) => {
                    applied.fail(&step.path, expected, &error, base);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn place(&self, step: &Step, file: &FileVersion) -> Result<Placed, SyncError> {
        if let Some(signature) = &step.has_content {
            // The content was read before, so this is as late as the reading at least.
            return Ok(Placed { signature: signature.racy(), kept_as: None, is_new: false });
        }
        let beside = self.beside(&step.path, step.expected()).await;
        let fetched = self.fetcher.fetch(&step.path, file).await?;
        let (signature, replaced) = place_file(fetched, file, step.expected(), &beside).await?;
        let kept_as = preserved(&beside, &replaced);
        Ok(Placed { signature, kept_as, is_new: true })
    }

    /// Returns the name under which the present content of a path would be kept.
    async fn beside(&self, path: &RelativePath, expected: Expected) -> RelativePath {
        if let Expected::File { signature, .. } = expected
            && let Ok(present) = std::fs::symlink_metadata(self.dir.path().join(path))
            && signature.is_same_file(&Signature::from(&present))
        {
            // It is replaced, so the name is not worth reading it.
            return conflict_path(path, Hash::of(path.as_str().as_bytes()));
        }
        let hash = hash_of(self.dir, path.as_str()).await;
        conflict_path(path, hash.unwrap_or(Hash::of(path.as_str().as_bytes())))
    }
}

impl Applied {
    /// Records that a path does not follow the log.
    fn fail(
        &mut self,
        path: &RelativePath,
        expected: Expected,
        error: &dyn std::error::Error,
        base: &Base,
    ) {
        let node = base.nodes.get(path.as_str());
        let remains = match (node, expected) {
            // Its times or mode may differ from those in the base.
            (Some(Node::File(file)), Expected::File { signature, content }) => Remains::File {
                signature: RecordedSignature { signature, is_racy: content.is_some() },
                hash: content.unwrap_or(file.hash),
            },
            _ => Remains::of(node, base.local.get(path.as_str())),
        };
        self.unfollowed.insert(path.to_string(), remains);
        let reason = with_causes(error);
        self.report.failed.push(RestoreFailure { key: path.to_string(), reason });
    }

    /// Returns the directories with a file or symlink that should be gone, but cannot be removed.
    fn directories_with_leftovers(&self) -> BTreeSet<String> {
        let leftovers = self.unfollowed.iter().filter(|(_, remains)| {
            matches!(remains, Remains::File { .. } | Remains::Symlink { .. })
        });
        leftovers.flat_map(|(path, _)| parents(path).map(str::to_owned)).collect()
    }
}

/// Describes a directory that would have to be moved aside with what cannot be removed from it.
fn leftover_error(path: &RelativePath) -> SyncError {
    let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
    FileError::Io { operation: "replace", path: path.as_str().into(), source }.into()
}

struct Placed {
    signature: RecordedSignature,
    /// Name of what was at the path and is kept beside.
    kept_as: Option<RelativePath>,
    is_new: bool,
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
    replaced: &Replaced,
) {
    if let Some(kept_as) = preserved(beside, replaced) {
        report.conflicts.push(ConflictCopy { path: path.clone(), kept_as });
    }
}
