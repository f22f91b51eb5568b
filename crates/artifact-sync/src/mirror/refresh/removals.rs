//! External removals: objects that vanished from the projection.

use futures::StreamExt;
use sandbox_core::RelativePath;

use super::REQUESTS_AT_ONCE;
use crate::error::SyncError;
use crate::log::{Author, Line, unix_seconds};
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
