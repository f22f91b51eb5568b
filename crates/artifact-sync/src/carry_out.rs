//! What a synchronisation does with what has changed: removals, uploads, and what each comes to.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use object_store::path::Path as Key;
use sandbox_core::{RelativePath, with_causes};

use crate::attributes;
use crate::conditional::Expected;
use crate::conflict::Kept;
use crate::diff::Changes;
use crate::index::{Failure, Known, Origin, Stored};
use crate::keys;
use crate::mirror::{Counter, Inner, relative};
use crate::paths::parents;
use crate::report::{Direction, SkipReason};
use crate::snapshot::Entry;
use crate::tally::Outcome;
use crate::upload::{Before, Moved, Upload, UploadError};

/// How many objects are on their way at once.
const UPLOADS_AT_ONCE: usize = 16;

impl Inner {
    pub(crate) async fn carry_out(&self, changes: Changes, tell: impl Fn(String, Outcome)) {
        let moved = self.moved(&changes);
        let (first, last) = in_the_way(&changes);
        self.remove_all(first, &tell).await;
        let counter = Counter::new(self, Direction::Upload, changes.touched.len());
        futures::stream::iter(changes.touched)
            .for_each_concurrent(UPLOADS_AT_ONCE, |entry| async {
                let outcome = self.upload(&entry, moved.get(entry.path.as_str())).await;
                counter.count();
                tell(entry.path, outcome);
            })
            .await;
        self.remove_all(last, &tell).await;
    }

    async fn remove_all(&self, paths: Vec<String>, tell: &impl Fn(String, Outcome)) {
        futures::stream::iter(paths)
            .for_each_concurrent(UPLOADS_AT_ONCE, |path| async {
                let outcome = self.remove(&path).await;
                tell(path, outcome);
            })
            .await;
    }

    /// Files that have another name now, with what the store has under the old one.
    fn moved(&self, changes: &Changes) -> HashMap<String, Moved> {
        let index = self.index();
        let gone = changes.gone.iter().filter_map(|path| {
            let stored = index.stored(path)?.clone();
            let from = keys::key(&self.prefix, path).ok()?;
            Some((stored.signature.identity(), (path, Moved { from, stored })))
        });
        let gone: HashMap<_, _> = gone.collect();
        let moved = changes.touched.iter().filter_map(|entry| {
            let (path, moved) = gone.get(&entry.signature.identity())?;
            let is_alike = attributes::media_type(path) == attributes::media_type(&entry.path)
                && moved.stored.signature.is_executable() == entry.signature.is_executable();
            is_alike.then(|| (entry.path.clone(), moved.clone()))
        });
        moved.collect()
    }

    async fn upload(&self, entry: &Entry, moved: Option<&Moved>) -> Outcome {
        let Some(path) = relative(&entry.path) else {
            return Outcome::Skipped(SkipReason::PathTooLong);
        };
        let key = match keys::key(&self.prefix, &entry.path) {
            Ok(key) => key,
            Err(reason) => return Outcome::Skipped(SkipReason::Key { reason: reason.to_owned() }),
        };
        let known = self.index().known().get(&entry.path).cloned();
        let (before, expected, origin) = match known {
            Some(Known::Stored(stored)) => {
                let (version, origin) = (stored.version.clone(), stored.origin);
                (Some(stored), Expected::This(version), origin)
            }
            // The file may be another one than the store has, or the same.
            Some(Known::Awaited { origin, .. }) => (None, Expected::Nothing, origin),
            // The object under this key is not the session's own.
            Some(Known::Removed { version }) => (None, Expected::This(version), Origin::Remote),
            None => (None, Expected::Nothing, Origin::Local),
        };
        let failed = |reason: &str, is_final| {
            self.index().set_failed(&entry.path, Failure { reason: reason.to_owned(), is_final });
        };
        let uploaded = match self
            .send(&path, &key, Before { stored: before.as_ref(), moved }, &expected, origin)
            .await
        {
            Ok(Upload::Stored { stored, is_unchanged: true }) => {
                self.index().set_stored(&entry.path, stored);
                return Outcome::Nothing;
            }
            Ok(Upload::Stored { stored, .. }) => Ok(Some(Kept { stored, copy: None })),
            Ok(Upload::Gone) => Ok(None),
            Ok(Upload::Conflict) => self.keep_both(&path, &key, origin).await,
            Err(error) => Err(error),
        };
        match uploaded {
            Ok(Some(Kept { stored, copy })) => {
                self.index().set_stored(&entry.path, stored);
                let url = self.link(&key).await;
                Outcome::Stored { key, url, copy }
            }
            Ok(None) => Outcome::Nothing,
            Err(UploadError::Pending(reason)) => {
                failed(&reason, false);
                Outcome::Pending(reason)
            }
            Err(UploadError::Never(reason)) => {
                failed(&reason, true);
                Outcome::Skipped(SkipReason::Key { reason })
            }
        }
    }

    /// Uploads a file, with a note of what is sent.
    pub(crate) async fn send(
        &self,
        path: &RelativePath,
        key: &Key,
        before: Before<'_>,
        expected: &Expected,
        origin: Origin,
    ) -> Result<Upload, UploadError> {
        let sending = |hash: &str| self.index().set_sending(path.as_str(), hash);
        self.uploader.upload(path, key, before, expected, origin, &sending).await
    }

    async fn remove(&self, path: &str) -> Outcome {
        let stored = self.index().stored(path).cloned();
        if let Some(Stored { origin: Origin::Remote, version, .. }) = stored {
            self.index().set_removed(path, version);
            return Outcome::Deleted;
        }
        // What is known has a key.
        let Ok(key) = keys::key(&self.prefix, path) else { return Outcome::Nothing };
        let removed = match stored {
            Some(stored) => match self.uploader.remove(&key, &stored.version).await {
                Ok(false) => self.remove_unheard(path, &key).await,
                other => other.map(drop),
            },
            None => self.remove_unheard(path, &key).await,
        };
        match removed {
            // Where the object is another one by now, it is as if it had come from elsewhere.
            Ok(()) => {
                self.index().forget(path);
                Outcome::Deleted
            }
            Err(error) => {
                let reason = format!("it could not be removed: {}", with_causes(&error));
                self.index().set_failed(path, Failure { reason: reason.clone(), is_final: false });
                Outcome::Pending(reason)
            }
        }
    }

    /// Removes what an upload may have left whose answer never came, if it is that.
    async fn remove_unheard(&self, path: &str, key: &Key) -> object_store::Result<()> {
        if !self.index().may_have_been_sent(path) {
            return Ok(());
        }
        match self.uploader.hash_of_object(key).await? {
            Some((hash, version)) if self.index().was_sent(path, &hash) => {
                self.uploader.remove(key, &version).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// The removals that must come before the uploads, because a directory takes a file's place or the
/// other way round; and the others, which come last: until then the store has what a rename has
/// moved.
fn in_the_way(changes: &Changes) -> (Vec<String>, Vec<String>) {
    let touched: HashSet<&str> = changes.touched.iter().map(|entry| entry.path.as_str()).collect();
    let gone: HashSet<&str> = changes.gone.iter().map(String::as_str).collect();
    let above: HashSet<&str> =
        touched.iter().flat_map(|path| parents(path)).filter(|path| gone.contains(path)).collect();
    changes.gone.iter().cloned().partition(|path| {
        above.contains(path.as_str()) || parents(path).any(|above| touched.contains(above))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Signature;

    #[test]
    fn removals_come_first_only_where_a_name_changes_its_kind() {
        let entry = |path: &str| Entry {
            path: path.to_owned(),
            signature: Signature { size: 0, modified: (0, 0), changed: (0, 0), inode: 0, mode: 0 },
        };
        let changes = Changes {
            touched: ["a/b/c", "d", "new"].map(entry).into(),
            gone: ["a", "d/e/f", "old", "dd"].map(str::to_owned).into(),
        };
        assert_eq!(
            in_the_way(&changes),
            (vec!["a".to_owned(), "d/e/f".to_owned()], vec!["old".to_owned(), "dd".to_owned()])
        );
    }
}
