//! External changes: objects of the projection that another program wrote or removed.
//!
//! The listing is compared page by page, so that memory grows with the files of the session and not
//! with the objects that other programs put there.

mod listing;
mod removals;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta};
use sandbox_core::with_causes;

use crate::error::SyncError;
use crate::keys;
use crate::log::unix_seconds;
use crate::mirror::incoming::check_followed;
use crate::mirror::shared::Shared;
use crate::report::{RestoreFailure, RestoreReport};
use crate::state::{KnownObject, Version};
use crate::transfer::{Listed, Projection, answer_within, is_invalid_key_in_listing};

pub(super) use listing::ProjectionListing;
pub(super) use removals::MassRemoval;

/// Concurrent requests.
const REQUESTS_AT_ONCE: usize = 32;
/// Unknown objects that are held before they are looked at and adopted.
const UNKNOWN_AT_ONCE: usize = 1_024;
/// Most objects that a report names because they cannot be fetched.
const MAX_FAILURES: usize = 1_000;

/// Comparison of a listing with the objects that were last seen.
#[derive(Debug, Default)]
struct Comparison {
    /// Versions of the projection that the newest snapshot names.
    projected: BTreeMap<String, Version>,
    /// Objects that were seen before and not listed yet.
    unlisted: HashSet<String>,
    /// Objects whose relation to the log only a closer look shows. A listing that begins again
    /// directory by directory names some twice.
    unknown: BTreeMap<String, ObjectMeta>,
    /// Set if keys may be missing in the listing.
    is_incomplete: bool,
    /// Set once the log was found to be the one that the working copy follows.
    is_log_checked: bool,
    failed: Vec<RestoreFailure>,
    /// Number of further failures.
    more_failed: usize,
}

impl Shared {
    /// Lists the projection, adopts external changes and repairs the rest.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        removals: MassRemoval,
    ) -> Result<RestoreReport, SyncError> {
        if self.projection.is_none() {
            return Ok(RestoreReport::default());
        }
        self.refresh_from(ProjectionListing::begin(&self.remote), removals).await
    }

    /// Adopts external changes from a listing of the projection, and repairs the rest.
    pub(super) async fn refresh_from(
        self: &Arc<Self>,
        mut listing: ProjectionListing,
        removals: MassRemoval,
    ) -> Result<RestoreReport, SyncError> {
        let Some(projection) = &self.projection else { return Ok(RestoreReport::default()) };
        let _refreshing = self.refreshing.lock().await;
        self.access.check(&self.calls)?;
        let prefix = projection.remote.prefix();
        let unlisted = |source| SyncError::List { prefix: prefix.to_string(), source };
        let mut report = RestoreReport::default();
        let (position, mut comparison) = self.begin_comparison();
        let next = async |listing: &mut ProjectionListing| {
            answer_within(self.patience, projection.remote.store(), listing.next()).await
        };
        while let Some(batch) = next(&mut listing).await.map_err(unlisted)? {
            self.compare(projection, batch, &mut comparison);
            if comparison.unknown.len() >= UNKNOWN_AT_ONCE {
                self.adopt_unknown(projection, &mut comparison, &mut report).await?;
            }
        }
        self.adopt_unknown(projection, &mut comparison, &mut report).await?;
        report.failed.extend(comparison.failures(prefix));
        if !comparison.is_incomplete {
            let missing: Vec<String> = comparison.unlisted.drain().collect();
            if !missing.is_empty() {
                self.check_log(&mut comparison).await?;
            }
            self.adopt_removals(projection, missing, removals, &mut report).await?;
        }
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

    /// Checks once that other objects than the last seen ones are no sign of a store that was
    /// rolled back.
    async fn check_log(&self, comparison: &mut Comparison) -> Result<(), SyncError> {
        if comparison.is_log_checked {
            return Ok(());
        }
        let position = self.ledger().position();
        let checked = check_followed(&self.log, position).await;
        // Entries before a new snapshot may have been collected meanwhile.
        let has_new_snapshot = self.ledger().position().snapshot != position.snapshot;
        match checked {
            Err(SyncError::StoreReplaced { .. }) if has_new_snapshot => {}
            checked => checked?,
        }
        comparison.is_log_checked = true;
        Ok(())
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
            if self.is_external(projection, &path, &observed.meta).await? {
                external.push((path, observed.meta));
            }
        }
        self.adopt(projection, external, &mut report).await?;
        Ok(report)
    }

    fn begin_comparison(&self) -> (u64, Comparison) {
        let mut ledger = self.ledger();
        let projected = ledger.drop_projected();
        let unlisted = ledger.all_seen().map(|(path, _)| path.clone()).collect();
        let comparison = Comparison { projected, unlisted, ..Comparison::default() };
        (ledger.position().number, comparison)
    }

    /// Compares a part of a listing with the objects that were last seen.
    fn compare(&self, projection: &Projection, batch: Vec<Listed>, comparison: &mut Comparison) {
        let prefix = projection.remote.prefix();
        let mut ledger = self.ledger();
        for listed in batch {
            let meta = match listed {
                Listed::Object(meta) => meta,
                Listed::OddKey { key, reason } => {
                    comparison.fail(key, reason);
                    continue;
                }
                Listed::Incomplete { prefix, reason } => {
                    // The directory is named instead of its odd key.
                    let is_below = |key: &str| key.trim_start_matches('/').starts_with(&prefix);
                    comparison.failed.retain(|failure| !is_below(&failure.key));
                    comparison.is_incomplete = true;
                    comparison.fail(prefix, reason);
                    continue;
                }
            };
            let below = keys::strip_prefix(prefix, &meta.location);
            let Some(path) = below.filter(|below| !below.is_empty()) else { continue };
            if self.rules.covers(path) {
                continue;
            }
            if let Err(reason) = keys::safe_path(path) {
                comparison.fail(meta.location.to_string(), reason);
                continue;
            }
            comparison.unlisted.remove(path);
            let version = Version::from(&meta);
            if ledger.seen(path).is_some_and(|seen| seen.version.is(&version)) {
                continue;
            }
            let token = ledger.log().file(path).map(|file| file.token);
            let is_projected =
                comparison.projected.get(path).is_some_and(|known| known.is(&version));
            match token.filter(|_| is_projected) {
                Some(token) => ledger.set_seen(path, KnownObject { token, version }),
                None => drop(comparison.unknown.insert(path.to_owned(), meta)),
            }
        }
    }

    /// Looks at the unknown objects, and adopts those that another program wrote.
    async fn adopt_unknown(
        self: &Arc<Self>,
        projection: &Projection,
        comparison: &mut Comparison,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        if comparison.unknown.is_empty() {
            return Ok(());
        }
        self.check_log(comparison).await?;
        let looked: Vec<_> = futures::stream::iter(std::mem::take(&mut comparison.unknown))
            .map(async |(path, meta)| {
                let relation = self.is_external(projection, &path, &meta).await;
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
                Err(error) => comparison.fail(meta.location.to_string(), with_causes(&error)),
            }
        }
        external.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.adopt(projection, external, report).await
    }

    /// Looks at an object that was not seen before. Returns whether another program wrote it.
    async fn is_external(
        self: &Arc<Self>,
        projection: &Projection,
        path: &str,
        listed: &ObjectMeta,
    ) -> Result<bool, SyncError> {
        let failed = |source| SyncError::Fetch { key: path.to_owned(), source };
        let Some(observed) = projection.inspect_object(path).await.map_err(failed)? else {
            return Ok(false);
        };
        let relation = self.relation(path, &observed).await?;
        if self.record_relation(path, &observed, &relation) {
            return Ok(false);
        }
        // An empty object with others below it is a directory marker.
        Ok(listed.size > 0 || !has_objects_below(projection, listed).await.map_err(failed)?)
    }
}

/// Returns whether a store has objects whose keys continue this one with a slash.
async fn has_objects_below(projection: &Projection, object: &ObjectMeta) -> Result<bool, Error> {
    let mut below = projection.remote.store().list(Some(&object.location));
    while let Some(listed) = below.next().await {
        match listed {
            // A marker can be listed without its slash.
            Ok(listed) if listed.location == object.location => {}
            Ok(_) => return Ok(true),
            Err(error) if is_invalid_key_in_listing(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

impl Comparison {
    fn fail(&mut self, key: String, reason: String) {
        if self.failed.len() < MAX_FAILURES {
            self.failed.push(RestoreFailure { key, reason });
        } else {
            self.more_failed += 1;
        }
    }

    /// Returns the failures, and takes them out.
    fn failures(&mut self, prefix: &Key) -> Vec<RestoreFailure> {
        let mut failures = std::mem::take(&mut self.failed);
        if self.more_failed > 0 {
            let reason = format!("{} more objects could not be fetched", self.more_failed);
            failures.push(RestoreFailure { key: format!("{prefix}/"), reason });
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_a_thousand_failures_and_counts_the_rest() {
        let mut comparison = Comparison::default();
        for number in 0..MAX_FAILURES + 7 {
            comparison.fail(format!("p/{number}"), "it is odd".to_owned());
        }
        let failures = comparison.failures(&Key::from("p"));
        assert_eq!(failures.len(), MAX_FAILURES + 1);
        let last = failures.last().unwrap();
        assert_eq!(
            (last.key.as_str(), last.reason.as_str()),
            ("p/", "7 more objects could not be fetched")
        );
    }
}
