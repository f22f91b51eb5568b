//! Application of the log to a working copy that exists.

use std::sync::Arc;

use sandbox_core::internal::blocking;

use crate::error::SyncError;
use crate::mirror::apply::{Application, Applied, Base, DiskFailure};
use crate::mirror::incoming::Incoming;
use crate::mirror::migrate::FormerCopy;
use crate::mirror::shared::Shared;
use crate::report::RestoreReport;

impl Shared {
    /// Makes the working copy follow the log, also one that version 0.1 kept.
    pub(in crate::mirror) async fn follow_log(
        self: &Arc<Self>,
        mut incoming: Incoming,
        former: Option<&FormerCopy>,
    ) -> Result<RestoreReport, SyncError> {
        self.begin_applying(&mut incoming);
        let shared = Arc::clone(self);
        let mut changes = blocking(move || shared.walk()).await;
        let mut base = Base::of(&self.ledger());
        if let Some(former) = former {
            former.add_to(&mut base, &mut changes, &incoming.state);
        }
        let application = Application {
            dir: &self.dir,
            fetcher: &self.fetcher,
            progress: self.progress.as_deref(),
            disk_failure: DiskFailure::SkipsPath,
        };
        let Applied { report, signatures, unfollowed } =
            application.apply(&incoming, base, &changes).await?;
        self.ledger().replace_log(incoming.state, incoming.position, signatures, unfollowed);
        self.fetcher.forget();
        Ok(report)
    }

    /// Records that the log is being applied, and finds out whether the last time was interrupted.
    pub(super) fn begin_applying(&self, incoming: &mut Incoming) {
        let mut ledger = self.ledger();
        incoming.resumes = ledger.was_interrupted();
        if incoming.position != ledger.position() {
            ledger.set_applying(incoming.position);
        }
    }

    /// Applies the log again to paths that did not follow it.
    pub(super) async fn follow_again(self: &Arc<Self>) -> Result<RestoreReport, SyncError> {
        let unchanged = {
            let ledger = self.ledger();
            if ledger.unfollowed().is_empty() {
                return Ok(RestoreReport::default());
            }
            Incoming::unchanged(ledger.shared_log(), ledger.position())
        };
        self.follow_log(unchanged, None).await
    }
}
