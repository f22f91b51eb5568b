//! External removals: objects that vanished from the projection.

use futures::StreamExt;
use object_store::ObjectStoreExt;
use sandbox_core::RelativePath;

use super::REQUESTS_AT_ONCE;
use crate::error::SyncError;
use crate::log::{Author, Content, Line, unix_seconds};
use crate::mirror::shared::{FollowUp, SentBatch, Shared};
use crate::report::RestoreReport;
use crate::transfer::Projection;

/// Most external removals that are plausible at once. If more objects vanished, and more than half
/// of them, the removals wait to be confirmed.
const MAX_REMOVALS: usize = 50;

/// Treatment of implausibly many external removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mirror) enum MassRemoval {
    HoldBack,
    Confirmed,
}

impl Shared {
    /// Handles objects that vanished.
    pub(super) async fn adopt_removals(
        &self,
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
                // If the store lost the content too, the file may be the last copy.
                let looked = match self.is_in_log(&path).await {
                    Ok(true) => projection.inspect_object(&path).await.map(|found| found.is_none()),
                    other => other,
                };
                (path, looked)
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .collect()
            .await;
        let gone = confirmed.into_iter().filter(|(_, looked)| matches!(looked, Ok(true)));
        let mut gone: Vec<String> = gone.map(|(path, _)| path).collect();
        gone.sort_unstable();
        let stored = self.ledger().all_seen().count();
        if removals == MassRemoval::HoldBack && gone.len() > MAX_REMOVALS && gone.len() * 2 > stored
        {
            let paths = gone.iter().filter_map(|path| RelativePath::parse(path).ok());
            report.held_back.extend(paths);
            return Ok(());
        }
        self.remove_externally_removed(gone, report).await
    }

    /// Returns whether the log has the content of a file, so that a removal can be undone.
    async fn is_in_log(&self, path: &str) -> Result<bool, object_store::Error> {
        let blob = match self.ledger().log().file(path).map(|file| &file.content) {
            Some(Content::Blob(name)) => self.log.blob_key(*name),
            Some(Content::Inline(_) | Content::Entry(_)) => return Ok(true),
            None => return Ok(false),
        };
        match self.log.store().head(&blob).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes files whose objects another program removed, except those that were changed here.
    /// One entry holds all of them, so that they can be undone together.
    async fn remove_externally_removed(
        &self,
        gone: Vec<String>,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let (mut lines, mut follow_ups) = (Vec::new(), Vec::new());
        for path in gone {
            let Ok(relative) = RelativePath::parse(&path) else { continue };
            let Some((local, hash)) = self.unchanged(&relative) else {
                // A changed file stays. Its next version puts a new object.
                self.ledger().set_unseen(&path);
                continue;
            };
            lines.push(Line::Removed { path, by: Author::External, at: unix_seconds(), number: 0 });
            follow_ups.push(FollowUp::Remove { path: relative, local, hash });
        }
        if lines.is_empty() {
            return Ok(());
        }
        let sent = SentBatch { follow_ups, ..SentBatch::default() };
        report.extend(self.append(&mut appender, lines, sent).await?);
        Ok(())
    }
}
