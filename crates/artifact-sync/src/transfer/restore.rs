//! Restore of a directory from the store.

use std::collections::HashSet;

use futures::StreamExt;
use object_store::ObjectMeta;
use object_store::path::Path as Key;
use sandbox_core::{RelativePath, with_causes};

use crate::error::SyncError;
use crate::keys;
use crate::paths::{ancestors, parents};
use crate::report::{Direction, Progress, ProgressCounter, RestoreFailure, RestoreReport};
use crate::scan::{IgnoreRules, Snapshot};
use crate::state::{Index, IndexEntry, Version};
use crate::transfer::files::FileTransfers;

/// Concurrent downloads.
const FETCHES_AT_ONCE: usize = 32;
/// Most objects that another writer can plausibly have removed. If more are absent, and more than
/// half, the store has lost them.
const MAX_REMOVED: usize = 20;

/// Plan of a restore.
#[derive(Debug, Default)]
pub(crate) struct RestorePlan {
    fetches: Vec<Fetch>,
    failed: Vec<RestoreFailure>,
}

#[derive(Debug)]
struct Fetch {
    path: RelativePath,
    meta: ObjectMeta,
}

/// Plans which objects to fetch. Pure. `is_unchanged` tells whether a local file has its recorded
/// content.
pub(crate) fn plan(
    prefix: &Key,
    objects: &[ObjectMeta],
    snapshot: &Snapshot,
    index: &Index,
    rules: &IgnoreRules,
    is_unchanged: impl Fn(&str) -> bool,
) -> RestorePlan {
    let mut plan = RestorePlan::default();
    let directories = directories(prefix, objects);
    let skipped: HashSet<&str> =
        snapshot.skipped.iter().map(|skipped| skipped.path.as_str()).collect();
    for meta in objects {
        let below = keys::strip_prefix(prefix, &meta.location);
        let Some(below) = below.filter(|below| !below.is_empty()) else { continue };
        let is_marker = meta.size == 0 && directories.contains(below);
        if rules.covers(below) || is_marker {
            continue;
        }
        let path = match keys::safe_path(below) {
            Ok(path) => path,
            Err(reason) => {
                plan.failed.push(RestoreFailure { key: meta.location.to_string(), reason });
                continue;
            }
        };
        // A file that is not mirrored, such as a symlink, has this path.
        let is_taken = ancestors(below).any(|at| skipped.contains(at));
        let is_newer = |version: &Version| version.etag != meta.e_tag;
        let is_wanted = match (snapshot.find(below), index.get(below)) {
            (Some(_), Some(IndexEntry::Stored(stored))) => {
                is_newer(&stored.version) && is_unchanged(below)
            }
            // A local file that the store may not have is kept.
            (Some(_), _) => false,
            (None, Some(IndexEntry::Stored(stored))) => is_newer(&stored.version) && !is_taken,
            (None, Some(IndexEntry::Removed { version })) => is_newer(version) && !is_taken,
            // A file that this mirror uploaded and removed again must not return. The next
            // synchronisation deletes its object.
            (None, Some(IndexEntry::ExpectedRemote { .. }) | None) => {
                !is_taken && !index.has_unacknowledged(below)
            }
        };
        if is_wanted {
            plan.fetches.push(Fetch { path, meta: meta.clone() });
        }
    }
    plan
}

/// Returns the paths that have objects below them.
fn directories<'o>(prefix: &Key, objects: &'o [ObjectMeta]) -> HashSet<&'o str> {
    let paths = objects.iter().filter_map(|meta| keys::strip_prefix(prefix, &meta.location));
    paths.flat_map(parents).collect()
}

/// Removes index entries whose objects are absent from a complete listing. Returns the removed
/// paths, whose files must be inspected and stored again.
///
/// If another writer removed an object of a stored file, the entry is kept, so that the object
/// stays removed until the file changes. A store that lost most objects, or is another store, is
/// filled again.
pub(crate) fn forget_missing(
    prefix: &Key,
    objects: &[ObjectMeta],
    index: &mut Index,
) -> Vec<String> {
    let listed: HashSet<&str> =
        objects.iter().filter_map(|meta| keys::strip_prefix(prefix, &meta.location)).collect();
    let missing: Vec<(String, bool)> = index
        .entries()
        .iter()
        .filter(|(path, _)| !listed.contains(path.as_str()))
        .map(|(path, entry)| (path.clone(), matches!(entry, IndexEntry::Stored(_))))
        .collect();
    let lost_most = missing.len() > MAX_REMOVED && missing.len() * 2 > index.entries().len()
        || listed.is_empty();
    let forgotten = missing.into_iter().filter(|(_, is_stored)| lost_most || !is_stored);
    let forgotten: Vec<String> = forgotten.map(|(path, _)| path).collect();
    forgotten.iter().for_each(|path| index.forget(path));
    forgotten
}

/// Fetches the planned objects. Directories of keys that could not be listed are reported as
/// failed.
pub(crate) async fn fetch_all(
    files: &FileTransfers,
    mut plan: RestorePlan,
    unlisted: Vec<RestoreFailure>,
    progress: Option<&dyn Progress>,
) -> RestoreReport {
    // With small objects first, most files of the session arrive soon.
    plan.fetches.sort_by_key(|fetch| fetch.meta.size);
    let mut report = RestoreReport {
        restored: Vec::new(),
        failed: unlisted.into_iter().chain(plan.failed).collect(),
    };
    let counter = ProgressCounter::new(progress, Direction::Download, plan.fetches.len());
    let fetched: Vec<_> = futures::stream::iter(plan.fetches)
        .map(async |fetch| {
            let outcome = files.fetch(&fetch.path, &fetch.meta).await;
            counter.increment();
            (outcome, fetch)
        })
        .buffer_unordered(FETCHES_AT_ONCE)
        .collect()
        .await;
    for (outcome, fetch) in fetched {
        match outcome {
            Ok(()) => report.restored.push(fetch.path),
            // A directory marker: it is listed without its slash but does not exist under that key.
            Err(SyncError::Fetch { source: object_store::Error::NotFound { .. }, .. })
                if fetch.meta.size == 0 => {}
            Err(error) => {
                let (key, reason) = (fetch.meta.location.into(), with_causes(&error));
                report.failed.push(RestoreFailure { key, reason });
            }
        }
    }
    report.restored.sort();
    report.failed.sort_by(|a, b| a.key.cmp(&b.key));
    report
}
