//! Repair of the projection: objects follow the log.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use object_store::Error;
use sandbox_core::RelativePath;
use sandbox_core::internal::{blocking, lock};

use crate::error::{SyncError, with_causes};
use crate::log::{FileVersion, Hash, Removal, Token};
use crate::mirror::shared::{ChangeKind, Shared};
use crate::state::{Failure, KnownObject, Version};
use crate::transfer::{ContentError, Observed, Projected, Projection};

/// Concurrent changes of the projection.
const REQUESTS_AT_ONCE: usize = 16;
/// Attempts while another writer keeps changing an object.
const ATTEMPTS: usize = 4;

/// Difference between an object and the log.
enum Difference {
    None,
    /// The object has to be put. The key should hold this version, or nothing.
    Outdated(FileVersion, Option<Version>),
    /// The object has to be deleted.
    Superfluous(KnownObject),
    /// The path has no file, and its object was never seen.
    Unknown,
}

/// Relation of an object to the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is the object of the version with this token, which was the current one.
    Current(Token),
    /// The log explains it, so it may be replaced or deleted.
    Explained,
    /// Another program wrote it.
    External,
}

impl Shared {
    /// Brings the objects of these paths up to date. Removals go before creations, so that a file
    /// can become a directory. What fails is left to the background.
    pub(super) async fn project(self: &Arc<Self>, paths: Vec<String>) {
        let Some(projection) = &self.projection else { return };
        let is_file = |path: &String| self.ledger().log().file(path).is_some();
        let (created, removed): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_file);
        for paths in [removed, created] {
            futures::stream::iter(paths)
                .for_each_concurrent(REQUESTS_AT_ONCE, async |path| {
                    if self.access.is_lost() || self.is_released() {
                        return;
                    }
                    let projected = self.project_path(projection, &path).await;
                    lock(&self.lagging).remove(&path);
                    match projected {
                        Ok(()) if self.reported.take_awaited(&path) && is_file(&path) => {
                            let outcome = self.stored_outcome(&path, ChangeKind::File).await;
                            self.reported.add_completed_late(path, outcome);
                        }
                        Ok(()) => {}
                        Err(error) => self.note_failure(&path, error),
                    }
                })
                .await;
        }
    }

    /// Brings all objects that lag behind up to date.
    pub(super) async fn project_all(self: &Arc<Self>) {
        let _projecting = self.projecting.lock().await;
        let mut paths: BTreeSet<String> = self.ledger().unprojected().clone();
        paths.extend(lock(&self.lagging).iter().cloned());
        self.project(paths.into_iter().collect()).await;
    }

    /// Brings the objects up to date for which reports wait.
    pub(super) async fn project_awaited(self: &Arc<Self>) {
        let _projecting = self.projecting.lock().await;
        self.project(self.reported.awaited()).await;
    }

    fn note_failure(&self, path: &str, error: ContentError) {
        let reason = match error {
            ContentError::Gone => return,
            ContentError::Retryable(reason) => {
                tracing::debug!(path, reason, "an object is not up to date yet");
                lock(&self.lagging).insert(path.to_owned());
                return;
            }
            ContentError::Permanent(reason) => reason,
        };
        // The log holds the content; only the object cannot exist.
        self.ledger().set_failed(path, Failure { reason, is_final: true });
    }

    fn difference(&self, path: &str) -> Difference {
        let ledger = self.ledger();
        let (file, seen) = (ledger.log().file(path), ledger.seen(path));
        match (file, seen) {
            (Some(file), Some(seen)) if file.token == seen.token => Difference::None,
            (Some(file), seen) => {
                Difference::Outdated(file.clone(), seen.map(|seen| seen.version.clone()))
            }
            (None, Some(seen)) => Difference::Superfluous(seen.clone()),
            (None, None) if ledger.unprojected().contains(path) => Difference::Unknown,
            (None, None) => Difference::None,
        }
    }

    async fn project_path(
        self: &Arc<Self>,
        projection: &Projection,
        path: &str,
    ) -> Result<(), ContentError> {
        let retryable = |error: &Error| ContentError::Retryable(with_causes(error));
        let Ok(relative) = RelativePath::parse(path) else { return Ok(()) };
        let _object = self.objects.lock(path).await;
        // A request without an answer may have changed the object.
        let mut is_doubtful = lock(&self.lagging).contains(path);
        for _ in 0..ATTEMPTS {
            let conflict = match self.difference(path) {
                Difference::None if is_doubtful => true,
                Difference::None => return Ok(()),
                Difference::Unknown => true,
                Difference::Outdated(file, expected) => {
                    match projection.put(&relative, &file, expected.as_ref()).await? {
                        Projected::Put(version) => {
                            let seen = KnownObject { token: file.token, version };
                            self.ledger().set_seen(path, seen);
                            false
                        }
                        Projected::Deleted | Projected::Conflict => true,
                    }
                }
                Difference::Superfluous(seen) => {
                    let deleted = projection.delete(path, &seen).await;
                    match deleted.map_err(|error| retryable(&error))? {
                        Projected::Deleted => {
                            self.ledger().set_unseen(path);
                            false
                        }
                        Projected::Put(_) | Projected::Conflict => true,
                    }
                }
            };
            if conflict {
                let observed =
                    projection.inspect_object(path).await.map_err(|error| retryable(&error))?;
                if !self.resolve(path, observed).await? {
                    return Ok(());
                }
                is_doubtful = false;
            }
        }
        Err(ContentError::Retryable("another writer keeps changing the object".to_owned()))
    }

    /// Learns from an object that was not the expected one. Returns `false` if it is left alone for
    /// now: an external change, which the next refresh adopts.
    async fn resolve(&self, path: &str, observed: Option<Observed>) -> Result<bool, ContentError> {
        let Some(observed) = observed else {
            self.ledger().set_unseen(path);
            return Ok(true);
        };
        let relation = self.relation(path, &observed).await;
        let relation = relation.map_err(|error| ContentError::Retryable(with_causes(&error)))?;
        let is_ours = self.record_relation(path, &observed, &relation);
        if !is_ours {
            lock(&self.external).insert(path.to_owned());
        }
        Ok(is_ours)
    }

    /// Records an object that was looked at. Returns `false` if it is an external one.
    pub(super) fn record_relation(
        &self,
        path: &str,
        observed: &Observed,
        relation: &Relation,
    ) -> bool {
        let version = Version::from(&observed.meta);
        let token = match relation {
            Relation::External => return false,
            // The log may have a later version since.
            Relation::Current(token) => *token,
            // A token that no line has makes the object outdated or superfluous.
            Relation::Explained => Token::random(),
        };
        self.ledger().set_seen(path, KnownObject { token, version });
        true
    }

    /// Compares an object with the log.
    pub(super) async fn relation(
        &self,
        path: &str,
        observed: &Observed,
    ) -> Result<Relation, SyncError> {
        let version = Version::from(&observed.meta);
        let (current, is_adopted, position) = {
            let ledger = self.ledger();
            let is_adopted = ledger.log().is_adopted(path, &version);
            (ledger.log().file(path).cloned(), is_adopted, ledger.position().number)
        };
        if let Some(marker) = observed.marker {
            if current.as_ref().is_some_and(|file| file.token == marker.token) {
                return Ok(Relation::Current(marker.token));
            }
            if self.is_refilling.load(Ordering::Acquire) {
                // The log that explained the object is lost, and this may be the only copy.
                return Ok(Relation::External);
            }
            if marker.number > position {
                // Another owner may have written that entry, or this mirror's own is unanswered.
                let mut appender = self.appender.lock().await;
                self.settle(&mut appender).await?;
                let proven = appender.writer.prove().await;
                proven.map_err(|error| self.failed(error))?;
            }
            return Ok(Relation::Explained);
        }
        if let Some(file) = &current
            && file.adopted.as_ref().is_some_and(|adopted| adopted.is(&version))
        {
            return Ok(Relation::Current(file.token));
        }
        if is_adopted {
            return Ok(Relation::Explained);
        }
        if self.remote.keeps_attributes().await {
            return Ok(Relation::External);
        }
        self.relation_by_content(path, observed, current.as_ref()).await
    }

    /// Compares an object of a store without attributes: a content that the log has held under this
    /// path is known, unless the object is newer than the removal of the path.
    async fn relation_by_content(
        &self,
        path: &str,
        observed: &Observed,
        current: Option<&FileVersion>,
    ) -> Result<Relation, SyncError> {
        let Ok(relative) = RelativePath::parse(path) else { return Ok(Relation::External) };
        let hash = self.fetcher.hash_object(&observed.meta.location).await?;
        if let Some(file) = current.filter(|file| file.hash == hash) {
            return Ok(Relation::Current(file.token));
        }
        let removal = self.ledger().log().removed.get(path).copied();
        if let Some(removal) = removal
            && observed.meta.last_modified.timestamp() > self.removed_at(removal).await?
        {
            return Ok(Relation::External);
        }
        if self.may_be_cut_off(observed) {
            let is_cut_off = match current {
                Some(file) => self.begins_with(&relative, file, observed.meta.size, hash).await?,
                None => removal.is_some() && observed.meta.size == 0,
            };
            if is_cut_off {
                return Ok(Relation::Explained);
            }
        }
        let known = self.has_held(path, hash).await?;
        Ok(if known { Relation::Explained } else { Relation::External })
    }

    /// Returns the time of a removal by the store's clock, which is also that of the objects. Once
    /// the entry is deleted, only the time of the remover is known.
    async fn removed_at(&self, removal: Removal) -> Result<i64, SyncError> {
        let written = self.log.written(removal.number).await;
        let written = written.map_err(|source| SyncError::Log { source: source.into() })?;
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = written.and_then(|time| i64::try_from(since(time).as_secs()).ok());
        Ok(seconds.unwrap_or(removal.at))
    }

    /// Returns whether a loss of power may have removed objects since they were listed last.
    pub(super) fn may_have_lost_objects(&self) -> bool {
        self.remote.is_on_local_disk() && self.ledger().suspects_objects()
    }

    /// Returns whether a loss of power may have cut off the object.
    fn may_be_cut_off(&self, observed: &Observed) -> bool {
        // A machine without a journal of the session has the times only.
        let written = observed.meta.last_modified.timestamp();
        let is_old = self.boot.as_ref().is_some_and(|boot| written < boot.began);
        let is_first = !self.ledger().has_listed();
        self.may_have_lost_objects() || self.remote.is_on_local_disk() && is_first && is_old
    }

    /// Returns whether a file version is longer and begins with a content. Such an object has
    /// nothing that the log lacks.
    async fn begins_with(
        &self,
        path: &RelativePath,
        file: &FileVersion,
        size: u64,
        hash: Hash,
    ) -> Result<bool, SyncError> {
        if size == 0 || size >= file.size {
            return Ok(size == 0 && file.size > 0);
        }
        let fetched = self.fetcher.fetch(path, file).await?;
        let beginning = blocking(move || Hash::of_beginning(fetched.staged.file(), size)).await;
        Ok(beginning.is_ok_and(|beginning| beginning == hash))
    }

    /// Returns whether a retained entry has this content for the path.
    async fn has_held(&self, path: &str, hash: Hash) -> Result<bool, SyncError> {
        let mut held = self.held.lock().await;
        let position = self.ledger().position().number;
        if held.position != position || !held.paths.contains(path) {
            // The log is read once for all paths that may ask.
            let mut paths = self.ledger().unprojected().clone();
            paths.insert(path.to_owned());
            let versions = self.log.versions_of(&paths).await;
            let versions = versions.map_err(|source| SyncError::Log { source })?;
            *held = Held { position, paths, versions };
        }
        Ok(held.versions.get(path).is_some_and(|versions| versions.contains(&hash)))
    }
}

/// Contents that the log has held, as of one number.
#[derive(Debug, Default)]
pub(super) struct Held {
    position: u64,
    paths: BTreeSet<String>,
    versions: HashMap<String, HashSet<Hash>>,
}
