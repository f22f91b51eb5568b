//! The history of a session's files, and the return of older versions.

use artifact_sync::{
    GarbageOptions, GarbageReport, HistoryEntry, RestoredVersion, Undelete, UndeleteReport,
};
use sandbox_core::RelativePath;

use super::Workspace;
use super::error::TransferError;

impl Workspace {
    pub(crate) async fn history(
        &self,
        path: Option<&RelativePath>,
    ) -> Result<Vec<HistoryEntry>, TransferError> {
        let history = self.mirror()?.history(path).await;
        history.map_err(|source| TransferError::from_mirror(&self.id, source))
    }

    pub(crate) async fn restore_version(
        &self,
        path: &RelativePath,
        at: u64,
    ) -> Result<RestoredVersion, TransferError> {
        let restored = self.mirror()?.restore_version(path, at).await;
        restored.map_err(|source| TransferError::from_mirror(&self.id, source))
    }

    pub(crate) async fn undelete(
        &self,
        selection: Undelete,
    ) -> Result<UndeleteReport, TransferError> {
        let undeleted = self.mirror()?.undelete(selection).await;
        undeleted.map_err(|source| TransferError::from_mirror(&self.id, source))
    }

    pub(crate) async fn collect_garbage(
        &self,
        options: GarbageOptions,
    ) -> Result<GarbageReport, TransferError> {
        let collected = self.mirror()?.collect_garbage(options).await;
        collected.map_err(|source| TransferError::from_mirror(&self.id, source))
    }
}
