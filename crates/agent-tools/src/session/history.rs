//! The history of a session's files, and the return of older versions.

use std::borrow::Cow;

use artifact_sync::{
    GarbageOptions, GarbageReport, HistoryEntry, RestoredVersion, Undelete, UndeleteReport,
};
use sandbox_core::RelativePath;

use super::Session;
use crate::sharing::{CollectGarbage, ReadHistory, RestoreVersion, UndeleteFiles};
use crate::workspace::TransferError;

impl Session {
    /// Returns the retained entries of the session log, the newest first; with a path, those that
    /// changed it or something below it.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the log cannot be read.
    pub async fn history(
        &self,
        path: Option<&RelativePath>,
    ) -> Result<Vec<HistoryEntry>, TransferError> {
        self.run(ReadHistory { path: path.map(Cow::Borrowed) }).await
    }

    /// Restores a file or symlink as it was as of entry `at`. The present version stays in the
    /// history; if it is not in the store, it is kept under another name.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the log does not hold the version,
    /// or if the store fails.
    pub async fn restore_version(
        &self,
        path: &RelativePath,
        at: u64,
    ) -> Result<RestoredVersion, TransferError> {
        self.run(RestoreVersion { path: Cow::Borrowed(path), at }).await
    }

    /// Brings removed files back, as they were before their removal. Paths that exist again are
    /// left alone.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store, if the log does not hold the entry,
    /// or if the store fails.
    pub async fn undelete(&self, selection: Undelete) -> Result<UndeleteReport, TransferError> {
        self.run(UndeleteFiles { selection }).await
    }

    /// Deletes versions from the store that are older than the retention time, or reports what
    /// would be deleted.
    ///
    /// # Errors
    /// Returns [`TransferError`] if the session has no store or the store fails.
    pub async fn collect_garbage(
        &self,
        options: GarbageOptions,
    ) -> Result<GarbageReport, TransferError> {
        self.run(CollectGarbage { options }).await
    }
}
