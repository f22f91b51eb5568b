//! Cold opening: the directory is restored beside its final place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbox_core::SessionDir;

use super::mark::mark;
use super::resume::{base_of, check_aim, files_in, keep_current};
use super::{Parts, finish};
use crate::builder::LostLog;
use crate::error::SyncError;
use crate::log::{LogState, Position};
use crate::mirror::Mirror;
use crate::mirror::acquire::Acquired;
use crate::mirror::apply::{Application, Applied, DiskFailure};
use crate::mirror::incoming::Wanted;
use crate::mirror::migrate::FormerCopy;
use crate::report::RestoreReport;
use crate::scan::{Changes, RecordedSignature, StampTime};
use crate::state::{FormerIndex, Ledger, Objects, Stage};

/// End of the name of a directory that is being restored. Session ids cannot contain it.
const RESTORING: &str = "~restoring";

/// Longest tick of the clock that stamps files, with a margin.
const CLOCK_TICK: Duration = Duration::from_millis(12);

impl Parts {
    /// Restores the directory beside its final place, and opens a mirror of it. If version 0.1
    /// removed files from it, its index is given.
    pub(super) async fn restore(
        self,
        mut ledger: Ledger,
        former: Option<FormerIndex>,
    ) -> Result<Mirror, SyncError> {
        let former = former.map(|index| FormerCopy::absent(index, &self.settings.rules));
        ledger.set_stage(Stage::Restoring);
        let ended = ledger.forget_uploads();
        let beside = restoring(&self.settings.dir);
        let dir = Arc::new(SessionDir::create(&beside)?);
        let fetcher = self.fetcher(&dir);
        let listing = self.list_projection(0);
        let (nothing, from) = (LogState::default(), Position::default());
        let acquired = self.acquire(&fetcher, &nothing, from, Wanted::State).await?;
        let Acquired { incoming, appender, owned, tenure } = acquired;
        let is_refill = self.settings.lost_log == LostLog::Refill;
        let checked = check_aim(&self.log, ledger.aim(), incoming.as_ref()).await;
        let has_only_copies = match checked {
            Err(SyncError::StoreReplaced { .. }) if is_refill => true,
            checked => checked.map(|()| false)?,
        };
        let mut report = RestoreReport::default();
        if let Some(incoming) = incoming {
            let (mut kept, mut changes) = (Vec::new(), Changes::default());
            match has_only_copies {
                true => changes.modified = files_in(&dir).await,
                false => {
                    ledger.set_applying(incoming.position);
                    kept = keep_current(&dir, &incoming.state).await?;
                }
            }
            let mut base = base_of(&kept, &incoming.state);
            if let Some(former) = &former {
                former.add_to(&mut base, &mut changes, &incoming.state);
            }
            let application = Application {
                dir: &dir,
                fetcher: &fetcher,
                progress: self.settings.progress.as_deref(),
                disk_failure: DiskFailure::Stops,
            };
            let Applied { report: applied, mut signatures, unfollowed } =
                application.apply(&incoming, base, &changes).await?;
            report = applied;
            signatures.extend(kept);
            let signatures = settle_signatures(signatures).await;
            ledger.replace_log(incoming.state, incoming.position, signatures, unfollowed);
        } else {
            ledger.replace_log(nothing, Position::default(), Vec::new(), BTreeMap::new());
        }
        ledger.record_own(owned);
        drop(dir);
        std::fs::rename(&beside, &self.settings.dir)
            .map_err(|source| SyncError::Index { path: beside, source })?;
        if former.is_none() {
            ledger.set_stage(Stage::Open);
        }
        if let Some(boot) = &self.settings.boot {
            ledger.record_boot(boot, Objects::Unknown);
        }
        mark(&self.settings.dir, &mut ledger);
        let dir = Arc::new(SessionDir::open(&self.settings.dir)?);
        let fetcher = self.fetcher(&dir);
        let shared = self.shared(dir, fetcher, ledger, appender, tenure);
        shared.0.blobs.abort_all(&ended).await;
        if let Some(former) = former {
            shared.0.migrate(&former, &mut report).await?;
        }
        finish(shared, report, Ok(listing)).await
    }
}

/// Waits until the signatures of restored files are evidence. Nothing else can have changed the
/// files, because no program knows the directory yet.
async fn settle_signatures(
    signatures: Vec<(String, RecordedSignature)>,
) -> Vec<(String, RecordedSignature)> {
    if signatures.is_empty() {
        return signatures;
    }
    tokio::time::sleep(CLOCK_TICK).await;
    let now = StampTime::now();
    let settle =
        |(path, recorded): (String, RecordedSignature)| (path, recorded.signature.recorded_at(now));
    signatures.into_iter().map(settle).collect()
}

/// Returns the directory in which a restore takes place.
pub(in crate::mirror) fn restoring(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(RESTORING);
    dir.with_file_name(name)
}
