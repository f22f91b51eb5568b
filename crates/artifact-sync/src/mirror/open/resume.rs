//! Continuation of an interrupted restore.
//!
//! No program knows the directory before it is complete. So everything in it comes from the engine,
//! and what is not a part of the session now can be removed.

use std::sync::Arc;

use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir};

use crate::error::SyncError;
use crate::log::{FileVersion, Hash, LogState, LogStore, Node, Position};
use crate::mirror::apply::{Base, held_version};
use crate::mirror::incoming::Incoming;
use crate::scan::{Entry, IgnoreRules, RecordedSignature, Signature, walk};

/// Checks that the store still has the log to which a restore began, or that the directory followed
/// before it was deleted.
pub(super) async fn check_aim(
    log: &LogStore,
    aim: Position,
    incoming: Option<&Incoming>,
) -> Result<(), SyncError> {
    let found = incoming.map(|incoming| incoming.position).unwrap_or_default();
    let is_other = match found.number {
        _ if aim.number == 0 => false,
        number if number == aim.number => found.hash != aim.hash,
        number if number < aim.number => true,
        // An entry that is no longer retained proves nothing, and neither does one from before the
        // session was deleted.
        _ => {
            let stored = log.read(aim.number).await;
            let stored = stored.map_err(|source| SyncError::Log { source })?;
            let began = incoming.map_or(0, |incoming| incoming.state.began);
            began < aim.number && stored.is_some_and(|stored| Some(stored.hash) != aim.hash)
        }
    };
    if is_other { Err(SyncError::StoreReplaced { number: aim.number }) } else { Ok(()) }
}

/// Removes everything from a directory that is not as in the log. Returns the files that stay,
/// whose modes and times may be others.
pub(super) async fn keep_current(
    dir: &Arc<SessionDir>,
    state: &Arc<LogState>,
) -> Result<Vec<(String, RecordedSignature)>, SyncError> {
    let (dir, state) = (Arc::clone(dir), Arc::clone(state));
    blocking(move || {
        let found = walk(&*dir, &IgnoreRules::none(), None);
        let mut kept = Vec::new();
        for file in found.files {
            match state.file(&file.path) {
                Some(version) if has_content(&dir, &file.path, &file.signature, version) => {
                    kept.push((file.path, file.signature.racy()));
                }
                _ => remove(&dir, &file.path)?,
            }
        }
        for symlink in found.symlinks {
            let node = Node::Symlink { target: symlink.target };
            if state.nodes.get(&symlink.path) != Some(&node) {
                remove(&dir, &symlink.path)?;
            }
        }
        // Staging files of the killed process are among them.
        for skipped in found.skipped {
            remove(&dir, &skipped.path)?;
        }
        // The deepest directories come first.
        for directory in found.directories.into_iter().rev() {
            if let Ok(path) = RelativePath::parse(&directory.path) {
                dir.remove_empty_directory(&path);
            }
        }
        Ok(kept)
    })
    .await
}

/// Returns the files in a directory.
pub(super) async fn files_in(dir: &Arc<SessionDir>) -> Vec<Entry> {
    let dir = Arc::clone(dir);
    blocking(move || walk(&*dir, &IgnoreRules::none(), None).files).await
}

/// Returns a base with the files that are in place.
pub(super) fn base_of(kept: &[(String, RecordedSignature)], state: &LogState) -> Base {
    let node = |(path, recorded): &(String, RecordedSignature)| {
        let version = held_version(recorded, state.file(path)?.hash);
        Some((path.clone(), Node::File(version)))
    };
    Base {
        nodes: kept.iter().filter_map(node).collect(),
        local: kept.iter().cloned().collect(),
        ..Base::default()
    }
}

/// Removes what is no directory.
fn remove(dir: &SessionDir, path: &str) -> Result<(), SyncError> {
    if let Ok(path) = RelativePath::parse(path) {
        dir.remove_obstacle(&path, |_| true, path.file_name())?;
    }
    Ok(())
}

fn has_content(dir: &SessionDir, path: &str, signature: &Signature, version: &FileVersion) -> bool {
    let file = RelativePath::parse(path).ok().and_then(|path| dir.open_file(&path).ok());
    let found = file.filter(|_| signature.size == version.size).map(|file| Hash::of_file(&file));
    found.is_some_and(|found| found.is_ok_and(|(found, _)| found == version.hash))
}
