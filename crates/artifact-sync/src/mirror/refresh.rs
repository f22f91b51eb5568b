//! External changes: objects of the projection that another program wrote or removed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use object_store::ObjectMeta;
use sandbox_core::{RelativePath, with_causes};

use crate::error::SyncError;
use crate::keys;
use crate::log::{Author, Line, unix_seconds};
use crate::mirror::incoming::check_followed;
use crate::mirror::shared::{FollowUp, SentBatch, Shared};
use crate::paths::parents;
use crate::report::{RestoreFailure, RestoreReport};
use crate::state::{KnownObject, Version};
use crate::transfer::{Listing, Projection, Remote, list_tree};

/// Concurrent requests.
const REQUESTS_AT_ONCE: usize = 32;
/// Most external removals that are plausible at once. If more objects vanished, and more than half
/// of them, the removals wait to be confirmed.
const MAX_REMOVALS: usize = 50;

/// Treatment of implausibly many external removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MassRemoval {
    HoldBack,
    Confirmed,
}

/// Objects whose relation to the log only a closer look shows.
#[derive(Debug, Default)]
struct Differences {
    unknown: Vec<(String, ObjectMeta)>,
    missing: Vec<String>,
    failed: Vec<RestoreFailure>,
}

/// Lists the projection.
pub(super) async fn list(remote: &Remote) -> Result<Listing, SyncError> {
    let prefix = remote.prefix();
    let listing = list_tree(remote.store(), prefix).await;
    listing.map_err(|source| SyncError::List { prefix: prefix.to_string(), source })
}

impl Shared {
    /// Lists the projection, adopts external changes and repairs the rest.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        removals: MassRemoval,
    ) -> Result<RestoreReport, SyncError> {
        let Some(projection) = &self.projection else { return Ok(RestoreReport::default()) };
        let listing = list(&projection.remote).await?;
        self.refresh_from(listing, removals).await
    }

    /// Adopts external changes from a listing of the projection, and repairs the rest.
    pub(super) async fn refresh_from(
        self: &Arc<Self>,
        listing: Listing,
        removals: MassRemoval,
    ) -> Result<RestoreReport, SyncError> {
        let Some(projection) = &self.projection else { return Ok(RestoreReport::default()) };
        let _refreshing = self.refreshing.lock().await;
        self.access.check(&self.calls)?;
        let position = self.ledger().position().number;
        let Differences { unknown, missing, failed } = self.compare(projection, listing);
        let mut report = RestoreReport { failed, ..RestoreReport::default() };
        if !(unknown.is_empty() && missing.is_empty()) {
            self.check_log().await?;
        }
        let looked: Vec<_> = futures::stream::iter(unknown)
            .map(async |(path, meta)| {
                let relation = self.is_external(projection, &path).await;
                (path, meta, relation)
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .collect()
            .await;
        let mut external = Vec::new();
        for (path, meta, relation) in looked {
            match relation {
                Ok(true) => external.push((path, meta)),
                Ok(false) => {}
                Err(error) => report.failed.push(RestoreFailure {
                    key: meta.location.to_string(),
                    reason: with_causes(&error),
                }),
            }
        }
        external.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.adopt(projection, external, &mut report).await?;
        self.adopt_removals(projection, missing, removals, &mut report).await?;
        self.ledger().set_listed(unix_seconds());
        if report.failed.is_empty() && report.held_back.is_empty() {
            self.compared.store(position, Ordering::Release);
        }
        self.project_all().await;
        report.restored.sort();
        report.removed.sort();
        report.failed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(report)
    }

    /// Checks that other objects than the last seen ones are no sign of a store that was rolled
    /// back.
    async fn check_log(&self) -> Result<(), SyncError> {
        let position = self.ledger().position();
        let checked = check_followed(&self.log, position).await;
        // Entries before a new snapshot may have been collected meanwhile.
        let has_new_snapshot = self.ledger().position().snapshot != position.snapshot;
        match checked {
            Err(SyncError::StoreReplaced { .. }) if has_new_snapshot => Ok(()),
            checked => checked,
        }
    }

    /// Adopts external changes of these paths.
    pub(super) async fn refresh_paths(
        self: &Arc<Self>,
        paths: BTreeSet<String>,
    ) -> Result<RestoreReport, SyncError> {
        let mut report = RestoreReport::default();
        let Some(projection) = &self.projection else { return Ok(report) };
        let _refreshing = self.refreshing.lock().await;
        let mut external = Vec::new();
        for path in paths {
            let failed = |source| SyncError::Fetch { key: path.clone(), source };
            let Some(observed) = projection.inspect_object(&path).await.map_err(failed)? else {
                continue;
            };
            if self.is_external(projection, &path).await? {
                external.push((path, observed.meta));
            }
        }
        self.adopt(projection, external, &mut report).await?;
        Ok(report)
    }

    /// Compares a listing with the objects that were last seen.
    fn compare(&self, projection: &Projection, listing: Listing) -> Differences {
        let prefix = projection.remote.prefix();
        let Listing { objects, unlisted } = listing;
        let mut ledger = self.ledger();
        let projected = ledger.drop_projected();
        let mut differences = Differences { failed: unlisted, ..Differences::default() };
        let is_complete = differences.failed.is_empty();
        let directories: HashSet<String> = objects
            .iter()
            .filter_map(|meta| keys::strip_prefix(prefix, &meta.location))
            .flat_map(parents)
            .map(str::to_owned)
            .collect();
        let mut listed: HashSet<String> = HashSet::new();
        for meta in objects {
            let below = keys::strip_prefix(prefix, &meta.location);
            let Some(below) = below.filter(|below| !below.is_empty()) else { continue };
            let is_marker = meta.size == 0 && directories.contains(below);
            if self.rules.covers(below) || is_marker {
                continue;
            }
            if let Err(reason) = keys::safe_path(below) {
                let key = meta.location.to_string();
                differences.failed.push(RestoreFailure { key, reason });
                continue;
            }
            let path = below.to_owned();
            let version = Version::from(&meta);
            let is_seen = ledger.seen(&path).is_some_and(|seen| seen.version.is(&version));
            if !is_seen {
                let token = ledger.log().file(&path).map(|file| file.token);
                match token.filter(|_| projected.get(&path).is_some_and(|known| known.is(&version)))
                {
                    Some(token) => ledger.set_seen(&path, KnownObject { token, version }),
                    None => differences.unknown.push((path.clone(), meta)),
                }
            }
            listed.insert(path);
        }
        if is_complete {
            let seen = ledger.all_seen().map(|(path, _)| path);
            let missing = seen.filter(|path| !listed.contains(*path)).cloned();
            differences.missing = missing.collect();
        }
        differences
    }

    /// Looks at an object that was not seen before. Returns whether another program wrote it.
    async fn is_external(
        self: &Arc<Self>,
        projection: &Projection,
        path: &str,
    ) -> Result<bool, SyncError> {
        let failed = |source| SyncError::Fetch { key: path.to_owned(), source };
        let Some(observed) = projection.inspect_object(path).await.map_err(failed)? else {
            return Ok(false);
        };
        let relation = self.relation(path, &observed).await?;
        Ok(!self.record_relation(path, &observed, &relation))
    }

    /// Handles objects that vanished.
    async fn adopt_removals(
        self: &Arc<Self>,
        projection: &Projection,
        missing: Vec<String>,
        removals: MassRemoval,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        // Only an object that was seen with the current token tells of a removal.
        let is_evidence = !self.may_have_lost_objects();
        let (gone, outdated): (Vec<String>, Vec<String>) = {
            let ledger = self.ledger();
            missing.into_iter().partition(|path| {
                let (file, seen) = (ledger.log().file(path), ledger.seen(path));
                let is_current =
                    file.zip(seen).is_some_and(|(file, seen)| file.token == seen.token);
                is_evidence && is_current
            })
        };
        outdated.iter().for_each(|path| self.ledger().set_unseen(path));
        let confirmed: Vec<_> = futures::stream::iter(gone)
            .map(async |path| {
                let looked = projection.inspect_object(&path).await;
                (path, looked)
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .collect()
            .await;
        let gone = confirmed.into_iter().filter(|(_, looked)| matches!(looked, Ok(None)));
        let mut gone: Vec<String> = gone.map(|(path, _)| path).collect();
        gone.sort_unstable();
        let stored = self.ledger().all_seen().count();
        if removals == MassRemoval::HoldBack && gone.len() > MAX_REMOVALS && gone.len() * 2 > stored
        {
            let paths = gone.iter().filter_map(|path| RelativePath::parse(path).ok());
            report.held_back.extend(paths);
            return Ok(());
        }
        for path in gone {
            self.adopt_removal(&path, report).await?;
        }
        Ok(())
    }

    /// Removes a file whose object another program removed, unless the file was changed here.
    async fn adopt_removal(&self, path: &str, report: &mut RestoreReport) -> Result<(), SyncError> {
        let Ok(relative) = RelativePath::parse(path) else { return Ok(()) };
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let Some((local, hash)) = self.unchanged(&relative) else {
            // A changed file stays. Its next version puts a new object.
            self.ledger().set_unseen(path);
            return Ok(());
        };
        let line = Line::Removed {
            path: path.to_owned(),
            by: Author::External,
            at: unix_seconds(),
            number: 0,
        };
        let removal = FollowUp::Remove { path: relative, local, hash };
        let sent = SentBatch { follow_ups: vec![removal], ..SentBatch::default() };
        report.extend(self.append(&mut appender, vec![line], sent).await?);
        Ok(())
    }
}
