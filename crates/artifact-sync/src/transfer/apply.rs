//! Application of a change set to the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use sandbox_core::with_causes;

use crate::paths::{parents, relative};
use crate::report::{Direction, Outcome, Progress, ProgressCounter};
use crate::scan::{Changes, Entry, IgnoreRules, SkipReason};
use crate::state::{Failure, IndexEntry, Origin, StoredFile};
use crate::transfer::attributes;
use crate::transfer::conditional::Expected;
use crate::transfer::conflict::{ConflictResolution, keep_both};
use crate::transfer::files::FileTransfers;
use crate::transfer::links::Links;
use crate::transfer::upload::{PriorState, RenameSource, UploadError, UploadOutcome};

/// Concurrent uploads and removals.
const UPLOADS_AT_ONCE: usize = 16;

/// Applies changes of a directory to the store.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) files: FileTransfers,
    pub(crate) links: Links,
    pub(crate) progress: Option<Arc<dyn Progress>>,
    pub(crate) rules: Arc<IgnoreRules>,
}

impl Applier {
    /// Applies the changes and passes the outcome of each to `on_outcome`.
    pub(crate) async fn apply(&self, changes: Changes, on_outcome: impl Fn(String, Outcome)) {
        let renamed = self.renamed(&changes);
        let (first, last) = partition_removals(&changes);
        self.remove_all(first, &on_outcome).await;
        let progress = self.progress.as_deref();
        let counter = ProgressCounter::new(progress, Direction::Upload, changes.modified.len());
        futures::stream::iter(changes.modified)
            .for_each_concurrent(UPLOADS_AT_ONCE, |entry| async {
                let outcome = self.upload(&entry, renamed.get(entry.path.as_str())).await;
                counter.increment();
                on_outcome(entry.path, outcome);
            })
            .await;
        self.remove_all(last, &on_outcome).await;
    }

    async fn remove_all(&self, paths: Vec<String>, on_outcome: &impl Fn(String, Outcome)) {
        futures::stream::iter(paths)
            .for_each_concurrent(UPLOADS_AT_ONCE, |path| async {
                let outcome = self.remove(&path).await;
                on_outcome(path, outcome);
            })
            .await;
    }

    /// Finds renamed files and the objects of their previous names.
    fn renamed(&self, changes: &Changes) -> HashMap<String, RenameSource> {
        let index = self.files.index();
        let removed = changes.removed.iter().filter_map(|path| {
            let stored = index.stored(path)?.clone();
            let key = self.files.remote().key(path).ok()?;
            Some((stored.signature.signature.identity(), (path, RenameSource { key, stored })))
        });
        let removed: HashMap<_, _> = removed.collect();
        let renamed = changes.modified.iter().filter_map(|entry| {
            let (path, source) = removed.get(&entry.signature.identity())?;
            let has_same_attributes = attributes::media_type(path)
                == attributes::media_type(&entry.path)
                && source.stored.signature.signature.is_executable()
                    == entry.signature.is_executable();
            has_same_attributes.then(|| (entry.path.clone(), source.clone()))
        });
        renamed.collect()
    }

    async fn upload(&self, entry: &Entry, renamed_from: Option<&RenameSource>) -> Outcome {
        let Some(path) = relative(&entry.path) else {
            return Outcome::Skipped(SkipReason::PathTooLong);
        };
        let key = match self.files.remote().key(&entry.path) {
            Ok(key) => key,
            Err(reason) => return Outcome::Skipped(SkipReason::Key { reason: reason.to_owned() }),
        };
        let known = self.files.index().get(&entry.path).cloned();
        let (stored, expected, origin) = match known {
            Some(IndexEntry::Stored(stored)) => {
                let (version, origin) = (stored.version.clone(), stored.origin);
                (Some(stored), Expected::Version(version), origin)
            }
            // The file and the object may be equal or not.
            Some(IndexEntry::ExpectedRemote { origin, .. }) => (None, Expected::Nothing, origin),
            // The object under this key came from another writer.
            Some(IndexEntry::Removed { version }) => {
                (None, Expected::Version(version), Origin::Remote)
            }
            None => (None, Expected::Nothing, Origin::Local),
        };
        let prior = PriorState { stored: stored.as_ref(), renamed_from };
        let uploaded = match self.files.upload(&path, &key, prior, &expected, origin).await {
            Ok(UploadOutcome::Stored { stored, is_unchanged: true }) => {
                self.files.index().set_stored(&entry.path, stored);
                return Outcome::Unchanged;
            }
            Ok(UploadOutcome::Stored { stored, .. }) => {
                Ok(Some(ConflictResolution { stored, copy: None }))
            }
            Ok(UploadOutcome::FileGone) => Ok(None),
            Ok(UploadOutcome::Conflict) => {
                keep_both(&self.files, &self.rules, &path, &key, origin).await
            }
            Err(error) => Err(error),
        };
        match uploaded {
            Ok(Some(ConflictResolution { stored, copy })) => {
                self.files.index().set_stored(&entry.path, stored);
                let url = self.links.link(&key).await;
                Outcome::Stored { key, url, copy }
            }
            Ok(None) => Outcome::Unchanged,
            Err(UploadError::Retryable(reason)) => {
                self.set_failed(&entry.path, &reason, false);
                Outcome::Pending(reason)
            }
            Err(UploadError::Permanent(reason)) => {
                self.set_failed(&entry.path, &reason, true);
                Outcome::Skipped(SkipReason::Key { reason })
            }
        }
    }

    async fn remove(&self, path: &str) -> Outcome {
        let stored = self.files.index().stored(path).cloned();
        if let Some(StoredFile { origin: Origin::Remote, version, .. }) = stored {
            self.files.index().set_removed(path, version);
            return Outcome::Deleted;
        }
        // Every path in the index has a key.
        let Ok(key) = self.files.remote().key(path) else { return Outcome::Unchanged };
        let version = stored.as_ref().map(|stored| &stored.version);
        match self.files.delete(path, &key, version).await {
            // If another writer has replaced the object, it belongs to that writer.
            Ok(()) => {
                self.files.index().forget(path);
                Outcome::Deleted
            }
            Err(error) => {
                let reason = format!("it could not be removed: {}", with_causes(&error));
                self.set_failed(path, &reason, false);
                Outcome::Pending(reason)
            }
        }
    }

    fn set_failed(&self, path: &str, reason: &str, is_final: bool) {
        self.files.index().set_failed(path, Failure { reason: reason.to_owned(), is_final });
    }
}

/// Splits the removals into those that must precede the uploads, because a directory replaces a
/// file or the reverse, and the others. The latter come last: until then the store holds the
/// objects that renames copy.
fn partition_removals(changes: &Changes) -> (Vec<String>, Vec<String>) {
    let modified: HashSet<&str> =
        changes.modified.iter().map(|entry| entry.path.as_str()).collect();
    let removed: HashSet<&str> = changes.removed.iter().map(String::as_str).collect();
    let above: HashSet<&str> = modified
        .iter()
        .flat_map(|path| parents(path))
        .filter(|path| removed.contains(path))
        .collect();
    changes.removed.iter().cloned().partition(|path| {
        above.contains(path.as_str()) || parents(path).any(|above| modified.contains(above))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Signature;

    #[test]
    fn removals_come_first_only_where_a_name_changes_its_kind() {
        let entry = |path: &str| Entry {
            path: path.to_owned(),
            signature: Signature { size: 0, modified: (0, 0), changed: (0, 0), inode: 0, mode: 0 },
        };
        let changes = Changes {
            modified: ["a/b/c", "d", "new"].map(entry).into(),
            removed: ["a", "d/e/f", "old", "dd"].map(str::to_owned).into(),
            ..Changes::default()
        };
        assert_eq!(
            partition_removals(&changes),
            (vec!["a".to_owned(), "d/e/f".to_owned()], vec!["old".to_owned(), "dd".to_owned()])
        );
    }
}
